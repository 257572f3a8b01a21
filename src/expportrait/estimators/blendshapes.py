"""Expression and head pose by the network that this package carries: MediaPipe's Face Landmarker with its blendshapes.

It knows nothing of the head that is fitted elsewhere, so it can be wrong in other ways than the fit is.
"""

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from expportrait import networks
from expportrait.estimators.mediapipe_models import quiet
from expportrait.machine import aside
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
SCORES_GRAPH = """
input_stream: "IMAGE:image"
input_stream: "LANDMARKS:landmarks"
output_stream: "BLENDSHAPES:blendshapes"
node {
  calculator: "ImagePropertiesCalculator"
  input_stream: "IMAGE:image"
  output_stream: "SIZE:size"
}
node {
  calculator: "mediapipe.tasks.vision.face_landmarker.FaceBlendshapesGraph"
  input_stream: "LANDMARKS:landmarks"
  input_stream: "IMAGE_SIZE:size"
  output_stream: "BLENDSHAPES:blendshapes"
}
"""
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


def units_of_points(names: Sequence[str], points: np.ndarray, found: np.ndarray, size: int) -> np.ndarray:
    """(T, U) f32 scores 0..1 of the face units ``names``, read off points (T, 478, 2 or 3) px of pictures of ``size`` x
    ``size`` px: the network's last part, which sees no picture. NaN in frames that are not ``found`` (T,); 0 for units
    that it does not know. In a process of its own, as MediaPipe's 100 MB would stay for good."""
    out = np.full((len(points), len(names)), np.nan, np.float32)
    if found.any():
        scores = aside(scores_of_points, points[found], size)
        out[found] = 0
        known = [k for k, name in enumerate(names) if name in NAMES]
        out[np.ix_(found, known)] = scores[:, [NAMES.index(names[k]) for k in known]]
    return out


def scores_of_points(points: np.ndarray, size: int) -> np.ndarray:
    """(T, 51) scores 0..1 in the order of ``NAMES``, of points (T, 478, 2 or 3) px of pictures of ``size`` x ``size``
    px. Raises UserError where the file is not the shipped one."""
    file = networks.network_file("face_landmarker")
    with quiet():
        import mediapipe
        from google.protobuf import text_format
        from mediapipe.framework import calculator_pb2
        from mediapipe.framework.formats import landmark_pb2
        from mediapipe.python import packet_creator, packet_getter
        from mediapipe.python._framework_bindings.task_runner import TaskRunner
        from mediapipe.tasks.cc.vision.face_landmarker.proto.face_blendshapes_graph_options_pb2 import (
            FaceBlendshapesGraphOptions,
        )

        graph = text_format.Parse(SCORES_GRAPH, calculator_pb2.CalculatorGraphConfig())
        options = graph.node[1].options.Extensions[FaceBlendshapesGraphOptions.ext]
        with zipfile.ZipFile(file) as parts:
            options.base_options.model_asset.file_content = parts.read("face_blendshapes.tflite")
        runner = TaskRunner.create(graph)
        blank = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.zeros((size, size, 3), np.uint8))
        rows = []
        for frame in points[..., :2] / size:  # it looks at no depth
            face = landmark_pb2.NormalizedLandmarkList()
            for x, y in frame:
                face.landmark.add(x=x, y=y)
            given = {"image": packet_creator.create_image(blank), "landmarks": packet_creator.create_proto(face)}
            found = packet_getter.get_proto(runner.process(given)["blendshapes"])
            scores = {shape.label: shape.score for shape in found.classification}
            rows.append([scores[name] for name in NAMES])
    return np.array(rows, np.float32)
