"""Where MediaPipe's 478 landmarks lie on a head mesh, and the cache that keeps it for a user's file.

How it is found: ``triangulation.py``.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

VERSION = 2  # of ``triangulation.py``; part of the cache's file name


@dataclass
class Embedding:
    """Landmarks as fixed points of faces, vertices (478,3) and barycentric weights (478,3), and which vertices can be
    seen at all (N,) bool (not the mouth's inside, not the eye sockets). In ids of the whole body model."""

    vertices: np.ndarray
    barycentric: np.ndarray
    visible: np.ndarray


def cache_file(sha256: str) -> Path:
    folder = Path(os.environ.get("EXPPORTRAIT_CACHE") or Path.home() / ".cache/expportrait")
    return folder / f"landmarks-{sha256[:16]}-v{VERSION}.npz"


def read_cache(sha256: str) -> Embedding | None:
    """What was found for this model file before."""
    file = cache_file(sha256)
    return Embedding(**np.load(file)) if file.is_file() else None


def write_cache(sha256: str, embedding: Embedding) -> Path:
    """Keep it; a rename makes it whole or not there at all, should several jobs write at once."""
    file = cache_file(sha256)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".npz", delete=False) as temporary:
        np.savez_compressed(temporary, **vars(embedding))
    os.replace(temporary.name, file)
    return file
