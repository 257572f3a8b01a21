"""Face recognition: ArcFace embeddings (Deng et al. 2019), by the user's weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from expportrait.errors import UserError
from expportrait.estimators.onnx_network import OnnxNetwork
from expportrait.points478 import LEFT_IRIS, MOUTH_CORNERS, NOSE, RIGHT_IRIS

SIDE = 112  # px, of ArcFace's input
BATCH = 32  # faces a call
# Where ArcFace expects the subject's right eye, left eye, nose tip, right and left mouth corner in its input, px.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
FIVE = [RIGHT_IRIS[0], LEFT_IRIS[0], NOSE, *MOUTH_CORNERS]  # the same points among MediaPipe's 478


class ArcFace:
    """Embeddings by a 112x112 RGB ArcFace network in ONNX, values (v - 127.5) / 127.5."""

    def __init__(self, file: Path, setting: str, device: str = "cpu"):
        """``setting``: the one that names the file. Raises UserError where it is no such network, or onnxruntime is
        missing."""
        self._network = OnnxNetwork(file, setting, SIDE, device, "ArcFace's")
        self._network.expect((None, None), what="a network of embeddings")
        self.name, self.sha256 = file.name, self._network.sha256

    def embed(self, frames: np.ndarray, points: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Frames (T, H, W, 3) u8, landmarks (T, 478, 2+) px, found (T,) -> unit rows (T, D), NaN where not found."""
        faces = aligned_faces(frames[found], points[found][:, FIVE, :2])
        return unit_rows(self._network, (faces - 127.5) / 127.5, found)

    def about(self) -> dict:
        """What stands beside every number from it."""
        return {
            "backend": f"ArcFace, ONNX file {self.name}, by onnxruntime",
            "weights": {"arcface": self.sha256},
            "input": f"faces of {SIDE} px, aligned to the template by eyes, nose and mouth corners, RGB, "
            "(v - 127.5) / 127.5",
        }


def unit_rows(network: OnnxNetwork, faces: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Faces (N, 3, 112, 112) f32 as the network wants them, found (T,) with N True -> unit rows (T, D), else NaN.

    Raises UserError where the network gives no embedding.
    """
    if not len(faces):
        return np.full((len(found), 1), np.nan)
    values = np.concatenate([network(faces[first : first + BATCH])[0] for first in range(0, len(faces), BATCH)])
    if not (np.isfinite(values).all() and values.any(1).all()):
        raise UserError(f"{network.file} gives embeddings that are no numbers, or zero: it is no ArcFace network")
    rows = np.full((len(found), values.shape[1]), np.nan)
    rows[found] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return rows


def aligned_faces(frames: Sequence[np.ndarray], five: np.ndarray) -> np.ndarray:
    """Frames (H, W, 3) u8, where the template's points are in each (N, 5, 2) px -> (N, 3, 112, 112) f32, 0..255."""
    faces = [np.rint(aligned(frame, points)) for frame, points in zip(frames, five, strict=True)]
    return np.array(faces, np.float32).reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2)


def aligned(frame: np.ndarray, five: np.ndarray) -> np.ndarray:
    """(H, W, 3) u8 -> (112, 112, 3) 0..255: turned, scaled and moved so that the points (5, 2) px fit the template."""
    from skimage.transform import SimilarityTransform, warp  # slow to load

    move = SimilarityTransform.from_estimate(five - 0.5, TEMPLATE)  # warp counts from the centre of the first pixel
    return warp(frame, move.inverse, output_shape=(SIDE, SIDE), preserve_range=True)


def likeness(embeddings: np.ndarray) -> np.ndarray:
    """Unit rows (K, D) -> (K,) cosines with the row that is most like all of them."""
    cosines = embeddings @ embeddings.T
    return cosines[cosines.sum(1).argmax()]
