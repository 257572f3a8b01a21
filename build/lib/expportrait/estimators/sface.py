"""Face recognition by the network that this package carries: SFace (Zhong et al. 2021), 128 numbers a face."""

from collections.abc import Sequence

import numpy as np

from expportrait import networks
from expportrait.estimators.arcface import FIVE, SIDE, aligned_faces, unit_rows
from expportrait.estimators.onnx_network import OnnxNetwork

INPUT = f"faces of {SIDE} px, aligned to ArcFace's template by eyes, nose and mouth corners, RGB, 0..255 as they are"


class SFace:
    """Embeddings of faces, whose cosine is near 1 for one person and near 0 for two."""

    def __init__(self, device: str = "cpu"):
        """Raises UserError where the file is not the shipped one."""
        file = networks.network_file("sface")
        self._network = OnnxNetwork(file, "networks", SIDE, device, "SFace's")
        self.name, self.sha256 = file.name, self._network.sha256

    def embed(self, frames: np.ndarray, points: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Frames (T, H, W, 3) u8 RGB, landmarks (T, 478, 2+) px, found (T,) -> unit rows (T, 128), NaN where not found;
        (T, 1) where none is."""
        return self.embed_at(frames[found], points[found][:, FIVE, :2], found)

    def embed_at(self, frames: Sequence[np.ndarray], five: np.ndarray, found: np.ndarray | None = None) -> np.ndarray:
        """One face a frame (H, W, 3) u8 RGB of any size, at the subject's right eye, left eye, nose tip, right and left
        mouth corner ``five`` (N, 5, 2) px -> unit rows (N, 128).

        ``found`` (T,), N of it True: rows (T, 128) instead, NaN where it is False.
        """
        return unit_rows(
            self._network, aligned_faces(frames, five), np.ones(len(five), bool) if found is None else found
        )

    def about(self) -> dict:
        """What stands beside every number from it."""
        return networks.about("sface") | {"input": INPUT}
