"""AED, APD and jaw from the project's own tracker: 478 landmarks a frame, then the shipped open head fitted to them.

The tracker is pinned here and does not follow the settings of the stages: numbers of runs with other heads, fits or
settings stand on one ruler.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import mediapipe
import numpy as np
import torch

from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.files import sha256
from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.fit.parameters import HeadParameters
from expportrait.settings.config import Proxy

MESH = Path(mediapipe.__file__).parent / "modules" / "face_landmark" / "face_landmark_with_attention.tflite"
SIZE = 512  # px, side of the frames that the tracker sees; others are resized
# Every setting that the landmark fit reads. No temporal terms: sampled frames are seconds apart, and smoothing would
# hide the very jitter that a generated clip may have.
FIT = {
    "focal": 3.0, "rigid_steps": 100, "landmark_steps": 200, "iris_weight": 2.0, "lid_weight": 3.0, "lip_weight": 2.0,
}  # fmt: skip
WEIGHTS = {
    "shape": 0.002, "expression": 0.002, "focal": 0.05, "neck": 0.02, "torso": 0.02, "torso_motion": 0.1, "jaw": 0.01,
    "eyes": 0.02, "shoulders": 0.02, "temporal_expression": 0.0, "temporal_pose": 0.0, "temporal_place": 0.0,
    "activation": 0.0, "blendshapes": 0.0,
}  # fmt: skip
ROBUST = 0.01  # inter-ocular distances: scale of the loss of the points, which no setting says
LATER = ("activation", "blendshapes")  # terms that came after the first figures, which know nothing of them
# By the first names of the settings: figures are of one kind where this is the same.
RECORDED = FIT | {f"w_{name}": value for name, value in WEIGHTS.items() if name not in LATER}


@dataclass
class Landmarks:
    """What the detector says of T frames: points (T, 478, 3) px of SIZE x SIZE, found (T,), confidence (T, 478)."""

    points: np.ndarray
    found: np.ndarray
    confidence: np.ndarray


@dataclass
class Motion:
    """What the fit says of T frames; NaN where no face was found.

    expression (T, E) coefficients; angles (T, 3) rad: pitch, yaw, roll of the head in camera space; jaw (T,) rad.
    """

    expression: np.ndarray
    angles: np.ndarray
    jaw: np.ndarray


class Tracker:
    """The detector and the head, loaded once."""

    def __init__(self) -> None:
        self.head = load_head()
        self._detector = LandmarkDetector()
        self.settings = Proxy(**FIT, weights=WEIGHTS)

    def detect(self, frames: np.ndarray) -> Landmarks:
        """Landmarks of square frames (T, S, S, 3) u8 of any size S."""
        return Landmarks(*self._detector.detect(map(resized, frames)))

    def fit(self, *clips: Landmarks) -> list[Motion]:
        """Fit all frames of the clips at once, with one shape and one focal length: they have to show one person."""
        found = np.concatenate([clip.found for clip in clips])
        e = self.head.n_expression
        expression, angles, jaw = (np.full((len(found), *shape), np.nan) for shape in ((e,), (3,), ()))
        if found.any():
            points, confidence = (np.concatenate(values)[found] for values in
                                  zip(*((clip.points, clip.confidence) for clip in clips), strict=True))  # fmt: skip
            seen = map(torch.from_numpy, (points, confidence))
            fitted = fit_landmarks(self.head, *seen, SIZE, self.settings, robust=ROBUST)
            expression[found], angles[found], jaw[found] = fitted.expression, *head_angles(fitted)
        ends = np.cumsum([len(clip.found) for clip in clips])[:-1]
        return [Motion(*parts) for parts in zip(*(np.split(v, ends) for v in (expression, angles, jaw)), strict=True)]

    def backends(self, one_shape: bool) -> dict[str, dict]:
        """How aed, apd and jaw are measured, for the record; ``one_shape``: both clips show one person."""
        common = {
            "backend": "own tracker",
            "landmarks": f"MediaPipe, 478 points, frames resized to {SIZE} px",
            "head": "open head",
            "weights": {"head": self.head.sha256, "landmarks": sha256(MESH)},
            "shape": "one for driver and result" if one_shape else "one for the driver, one for the target",
            "norm": "L1",
            "fit": RECORDED,
        }
        frames = "over the frames with a face in both"
        return {
            "aed": common | {"components": f"{self.head.n_expression} expression coefficients, without jaw and eyes",
                             "unit": "coefficient", "reduction": f"mean over the coefficients, then {frames}"},
            "apd": common | {"components": "pitch, yaw, roll of global * neck * head", "unit": "rad",
                             "reduction": f"mean over the three angles, then {frames}"},
            "jaw": common | {"components": "opening angle of the jaw joint", "unit": "rad",
                             "reduction": f"mean {frames}"},
        }  # fmt: skip


def resized(frame: np.ndarray) -> np.ndarray:
    """(S, S, 3) u8 at the tracker's size; small frames are smoothly enlarged, which the detector needs."""
    way = cv2.INTER_AREA if len(frame) > SIZE else cv2.INTER_CUBIC
    return frame if frame.shape[:2] == (SIZE, SIZE) else cv2.resize(frame, (SIZE, SIZE), interpolation=way)


@torch.no_grad()
def head_angles(fitted: HeadParameters) -> tuple[np.ndarray, np.ndarray]:
    """Angles (T, 3) rad of R = Rz(roll) Ry(yaw) Rx(pitch), the head in camera space, and the jaw's opening (T,) rad.

    How a turn is shared between torso, neck and head cannot be seen in a crop of the face; their product can.
    """
    m = fitted.matrices()
    return euler(m[:, 0] @ m[:, 1] @ m[:, 2]).numpy(), torch.atan2(m[:, 3, 2, 1], m[:, 3, 2, 2]).numpy()


def euler(rotation: torch.Tensor) -> torch.Tensor:
    """(..., 3, 3) -> (..., 3) rad: pitch, yaw, roll of R = Rz(roll) Ry(yaw) Rx(pitch)."""
    pitch = torch.atan2(rotation[..., 2, 1], rotation[..., 2, 2])
    yaw = torch.asin(-rotation[..., 2, 0].clamp(-1, 1))
    return torch.stack([pitch, yaw, torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0])], -1)


def aed(a: Motion, b: Motion) -> np.ndarray:
    """(T,) mean absolute difference of the expression coefficients; NaN where either has no face."""
    return np.abs(a.expression - b.expression).mean(-1)


def apd(a: Motion, b: Motion) -> np.ndarray:
    """(T,) mean absolute difference of the head's angles, rad, the short way round; NaN where either has no face."""
    return np.abs((a.angles - b.angles + np.pi) % (2 * np.pi) - np.pi).mean(-1)


def jaw(a: Motion, b: Motion) -> np.ndarray:
    """(T,) absolute difference of the jaw's opening, rad; NaN where either has no face."""
    return np.abs(a.jaw - b.jaw)
