"""CSIM: cosine similarity of ArcFace embeddings (Deng et al. 2019), by the user's weights. Without them, no number."""

import numpy as np

from expportrait.estimators.arcface import ArcFace

NOT_AVAILABLE = (
    "not available: CSIM needs a face recognition network, which is not shipped; take an ArcFace model of "
    "InsightFace as an ONNX file (licence: non-commercial research; `expportrait fetch-weights arcface`) and set "
    "evaluate.arcface to the file"
)


def csim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Unit embeddings (T, D) each -> (T,) cosines; NaN where either has no face."""
    return (a * b).sum(-1)


def backend(arcface: ArcFace, against: str) -> dict:
    """What stands beside the number."""
    return {
        "backend": f"ArcFace, ONNX file {arcface.name}, by onnxruntime",
        "weights": {"arcface": arcface.sha256},
        "against": against,
        "norm": "cosine of unit embeddings, faces aligned by MediaPipe's iris, nose and mouth points",
        "unit": "none, 1 is equal",
        "reduction": "per frame, then mean over the frames with a face in both",
    }
