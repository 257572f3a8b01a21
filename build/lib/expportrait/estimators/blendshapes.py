"""Expression and head pose by the network that this package carries: MediaPipe's Face Landmarker with its blendshapes.

It knows nothing of the head that is fitted elsewhere, so it can be wrong in other ways than the fit is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from expportrait import networks
from expportrait.estimators.mediapipe_models import quiet
from expportrait.points478 import POINTS

FACES = 4  # looked for in a frame; the largest counts
_SIDED = ("browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp",
          "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile",
          "mouthStretch", "mouthUpperUp", "noseSneer", "jaw", "mouth")  # fmt: skip
NAMES = tuple(
    sorted(
        [f"{name}{side}" for name in _SIDED for side in ("Left", "Right")]
        + ["browInnerUp", "cheekPuff", "jawForward", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker",
           "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"]
    )
)  # fmt: skip
NEUTRAL = "_neutral"  # the network's first output, the rest of the others: left out


@dataclass
class Expressions:
    """What the network says of T frames; NaN where it found no face.

    found (T,) bool; scores (T, 51) 0..1 in the order of ``NAMES``, Left and Right the subject's; matrices (T, 4, 4):
    MediaPipe's canonical head, in cm, to the space of an assumed camera, x right, y up, z to the viewer; points
    (T, 478, 3) px, x right, y down.
    """

    found: np.ndarray
    scores: np.ndarray
    matrices: np.ndarray
    points: np.ndarray


class FaceLandmarker:
    """Blendshapes and head pose of the largest face of a frame. Each frame by itself: nothing is smoothed."""

    def __init__(self) -> None:
        """Raises UserError where the file is not the shipped one."""
        file = networks.network_file("face_landmarker")
        with quiet():
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision

            self._image, self._rgb = mediapipe.Image, mediapipe.ImageFormat.SRGB
            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=file.read_bytes()),
                num_faces=FACES,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
            self._model = vision.FaceLandmarker.create_from_options(options)
            self._detect(np.zeros((64, 64, 3), np.uint8))  # the messages come from threads of the first run

    def detect(self, frames: Iterable[np.ndarray]) -> Expressions:
        """The expressions of frames (H,W,3) u8 RGB, any iterable."""
        rows = [self._detect(np.ascontiguousarray(frame)) for frame in frames]
        found = np.array([row is not None for row in rows], bool)
        out = Expressions(
            found, *(np.full((len(rows), *shape), np.nan) for shape in ((len(NAMES),), (4, 4), (POINTS, 3)))
        )
        for t in np.flatnonzero(found):
            out.scores[t], out.matrices[t], out.points[t] = rows[t]
        return out

    def _detect(self, frame: np.ndarray) -> tuple[list[float], np.ndarray, np.ndarray] | None:
        """Scores, matrix and points of the largest face, None where there is none."""
        seen = self._model.detect(self._image(image_format=self._rgb, data=frame))
        if not seen.face_landmarks:
            return None
        height, width = frame.shape[:2]
        faces = np.array([[(p.x, p.y, p.z) for p in face] for face in seen.face_landmarks]) * (width, height, width)
        largest = np.ptp(faces[..., :2], axis=1).prod(1).argmax()
        scores = {shape.category_name: shape.score for shape in seen.face_blendshapes[largest]}
        return [scores[name] for name in NAMES], seen.facial_transformation_matrixes[largest], faces[largest]

    def about(self) -> dict:
        """What stands beside every number from it."""
        return networks.about("face_landmarker") | {
            "input": f"whole frames, RGB, u8, each by itself; the largest of up to {FACES} faces"
        }
