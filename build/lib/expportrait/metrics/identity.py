"""CSIM: cosine similarity of face embeddings, by the shipped SFace, or ArcFace (Deng et al. 2019) from a file."""

import numpy as np

from expportrait.estimators.arcface import ArcFace
from expportrait.estimators.sface import SFace


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
