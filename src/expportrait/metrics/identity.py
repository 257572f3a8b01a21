"""CSIM: cosine similarity of ArcFace embeddings (Deng et al. 2019), by the user's weights. Without them, no number."""

import hashlib
from pathlib import Path

import numpy as np
from skimage.transform import SimilarityTransform, warp

from expportrait.errors import UserError

NOT_AVAILABLE = (
    "not available: CSIM needs a face recognition network, which is not shipped; take an ArcFace model of "
    "InsightFace as an ONNX file (licence: non-commercial research), install onnxruntime and set evaluate.arcface to "
    "the file"
)
SIDE = 112  # px, of ArcFace's input
# Where ArcFace expects the subject's right eye, left eye, nose tip, right and left mouth corner in its input, px.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
FIVE = [468, 473, 1, 61, 291]  # the same points among MediaPipe's 478


class ArcFace:
    """Embeddings by a 112x112 RGB ArcFace network in ONNX, values (v - 127.5) / 127.5."""

    def __init__(self, file: Path):
        """Raises UserError where the file is no such network, or onnxruntime is missing."""
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"evaluate.arcface: {file} needs onnxruntime: `pip install onnxruntime`") from None
        try:
            self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        except Exception as error:  # its own kinds, one for every way a file can be wrong
            raise UserError(f"evaluate.arcface: {file} is not an ONNX network: {error}") from None
        self._input, shape = self._session.get_inputs()[0].name, self._session.get_inputs()[0].shape
        if list(shape[1:]) != [3, SIDE, SIDE]:
            raise UserError(f"evaluate.arcface: {file} takes {shape}, not ArcFace's (N, 3, {SIDE}, {SIDE})")
        self._sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest()

    def embed(self, frames: np.ndarray, points: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Frames (T, H, W, 3) u8, landmarks (T, 478, 2+) px, found (T,) -> unit rows (T, D), NaN where not found."""
        rows = [self._embed(f, p) if ok else None for f, p, ok in zip(frames, points, found, strict=True)]
        size = next((len(row) for row in rows if row is not None), 1)
        return np.stack([np.full(size, np.nan) if row is None else row for row in rows])

    def _embed(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        face = np.rint(aligned(frame, points[FIVE, :2])).astype(np.float32)
        values = self._session.run(None, {self._input: (face.transpose(2, 0, 1)[None] - 127.5) / 127.5})[0][0]
        return values / np.linalg.norm(values)

    def backend(self, against: str) -> dict:
        return {
            "backend": f"ArcFace, ONNX file with sha256 {self._sha256}",
            "against": against,
            "norm": "cosine of unit embeddings, faces aligned by MediaPipe's iris, nose and mouth points",
            "unit": "none, 1 is equal",
            "reduction": "per frame, then mean over the frames with a face in both",
        }


def aligned(frame: np.ndarray, five: np.ndarray) -> np.ndarray:
    """(H, W, 3) u8 -> (112, 112, 3) 0..255: turned, scaled and moved so that the points (5, 2) px fit the template."""
    move = SimilarityTransform.from_estimate(five - 0.5, TEMPLATE)  # warp counts from the centre of the first pixel
    return warp(frame, move.inverse, output_shape=(SIDE, SIDE), preserve_range=True)


def csim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Unit embeddings (T, D) each -> (T,) cosines; NaN where either has no face."""
    return (a * b).sum(-1)
