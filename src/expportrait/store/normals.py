"""Unit normals as stores keep them: one byte a component."""

import numpy as np


def encode_normals(normals: np.ndarray) -> np.ndarray:
    """Unit normals (..., 3), background 0, as int8; off by 0.17 degrees in the mean, 0.39 at most."""
    codes = normals * 127
    return np.rint(codes, out=codes).astype(np.int8)


def decode_normals(codes: np.ndarray) -> np.ndarray:
    """Unit float32 normals (..., 3) of ``encode_normals``' codes; background stays 0."""
    normals = codes.astype(np.float32)
    length = np.sqrt(np.einsum("...c,...c->...", normals, normals))  # norm() would hold another two copies
    normals /= np.maximum(length, 1, out=length)[..., None]
    return normals
