"""AED, APD, jaw and gaze from MediaPipe's blendshapes and head pose, which know nothing of the fit that drives.

The 51 scores fall into three: the jaw's 4, the gaze's 8, and the other 39, which are the expression.
"""

import numpy as np

from expportrait.estimators.blendshapes import NAMES, Expressions, FaceLandmarker

JAW = [i for i, name in enumerate(NAMES) if name.startswith("jaw")]
GAZE = [i for i, name in enumerate(NAMES) if name.startswith("eyeLook")]
EXPRESSION = [i for i in range(len(NAMES)) if i not in (*JAW, *GAZE)]


def aed(a: Expressions, b: Expressions) -> np.ndarray:
    """(T,) mean absolute difference of the 39 scores that are neither jaw nor gaze; NaN where either has no face."""
    return _apart(a, b, EXPRESSION)


def jaw(a: Expressions, b: Expressions) -> np.ndarray:
    """(T,) mean absolute difference of the jaw's 4 scores; NaN where either has no face."""
    return _apart(a, b, JAW)


def gaze(a: Expressions, b: Expressions) -> np.ndarray:
    """(T,) mean absolute difference of the gaze's 8 scores; NaN where either has no face."""
    return _apart(a, b, GAZE)


def apd(a: Expressions, b: Expressions) -> np.ndarray:
    """(T,) mean absolute difference of the head's angles, rad, the short way round; NaN where either has no face."""
    difference = head_angles(a.matrices) - head_angles(b.matrices)
    return np.abs((difference + np.pi) % (2 * np.pi) - np.pi).mean(-1)


def head_angles(matrices: np.ndarray) -> np.ndarray:
    """(..., 4, 4) or (..., 3, 3) -> (..., 3) rad: pitch, yaw, roll of R = Rz(roll) Ry(yaw) Rx(pitch)."""
    r = matrices[..., :3, :3]
    pitch = np.arctan2(r[..., 2, 1], r[..., 2, 2])
    yaw = np.arcsin(-r[..., 2, 0].clip(-1, 1))
    return np.stack([pitch, yaw, np.arctan2(r[..., 1, 0], r[..., 0, 0])], -1)


def _apart(a: Expressions, b: Expressions, which: list[int]) -> np.ndarray:
    return np.abs(a.scores[:, which] - b.scores[:, which]).mean(-1)


def backends(network: FaceLandmarker) -> dict[str, dict]:
    """How aed, apd, jaw and gaze are measured, for the record."""
    common = network.about() | {"norm": "L1"}
    frames = "over the frames with a face in both"
    scores = {
        name: common | {"components": of, "unit": "blendshape score, 0..1",
                        "reduction": f"mean over the scores, then {frames}"}
        for name, of in (("aed", f"{len(EXPRESSION)} blendshapes, all but jaw*, eyeLook* and _neutral"),
                         ("jaw", f"{len(JAW)} blendshapes jaw*"), ("gaze", f"{len(GAZE)} blendshapes eyeLook*"))
    }  # fmt: skip
    angles = {
        "components": "pitch, yaw, roll of the head's matrix, in the space of MediaPipe's assumed camera",
        "unit": "rad",
        "reduction": f"mean over the three angles, then {frames}",
    }
    return scores | {"apd": common | angles}
