"""CSIM: cosine similarity of face embeddings, by ArcFace (Deng et al. 2019), the user's file, or the shipped SFace."""

import numpy as np

from expportrait.estimators.arcface import ArcFace
from expportrait.estimators.sface import SFace

NOT_AVAILABLE = (
    "not available: CSIM needs a face recognition network, which is not shipped; take an ArcFace model of "
    "InsightFace as an ONNX file (licence: non-commercial research; `expportrait fetch-weights arcface`) and set "
    "evaluate.arcface to the file"
)


def csim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Unit embeddings (T, D) each -> (T,) cosines; NaN where either has no face."""
    return (a * b).sum(-1)


def backend(network: ArcFace | SFace, against: str) -> dict:
    """What stands beside the number."""
    return network.about() | {
        "against": against,
        "norm": "cosine of unit embeddings, faces aligned by MediaPipe's iris, nose and mouth points",
        "unit": "none, 1 is equal",
        "reduction": "per frame, then mean over the frames with a face in both",
    }
