"""Sapiens (Khirodkar et al., ECCV 2024; CC BY-NC 4.0): normals, depth, body parts by the user's TorchScript files.

The interface is read from facebookresearch/sapiens at 3e829ac (lite/demo/vis_*.py, lite/docs/, seg/mmseg/datasets):

- input (N, 3, 1024, 768) float32, channels R, G, B, (value - mean) / deviation of 0..255; the frame is stretched to it;
- normals (N, 3, h, w), made unit afterwards. Camera coordinates, x first (a mirrored picture changes channel 0's
  sign); that y is up and z to the viewer is read from the drawing code alone, which is why the first frame's depth
  must agree with it (``dense.agree``);
- depth (N, 1, h, w), trained on depth between 0, nearest, and 1: ``depth_space`` is depth;
- body parts (N, 28, h, w), scores before the softmax; class 0 is the background.
"""

from pathlib import Path

import cv2
import numpy as np
import torch

from expportrait.errors import UserError
from expportrait.estimators.geometry.dense import DenseEstimator
from expportrait.estimators.sapiens_network import HEIGHT, WIDTH, load_network, normalized, run_network
from expportrait.files import sha256

CHANNELS = {"normals": 3, "depth": 1, "mask": 28}


class SapiensEstimator(DenseEstimator):
    """Three networks."""

    name = "sapiens"
    depth_space = "depth"
    statement = (
        "Sapiens, one frame at a time. The mask is the probability of not being background, of the person around the "
        "face. The networks give no confidence: it equals the mask."
    )

    def __init__(self, files: dict[str, Path], device: str = "cpu"):
        """``files``: normals, depth, mask. Raises UserError for files that are missing or others."""
        self.device = device
        self.networks = {name: load_network(file, f"geometry.{name}", device) for name, file in files.items()}
        self.paths = files
        self.files = {name: sha256(file) for name, file in files.items()}
        self.runs_on = device

    def inputs(self, frames: np.ndarray) -> np.ndarray:
        return np.stack([cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for frame in frames])

    @torch.inference_mode()
    def raw(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images = normalized(inputs, self.device)
        normals, depth, parts = (self._run(name, images) for name in ("normals", "depth", "mask"))
        mask = (parts[:, 1:].logsumexp(1) - parts[:, 0]).sigmoid()  # 1 - softmax's share of the background
        return tuple(x.float().cpu().numpy() for x in (normals.permute(0, 2, 3, 1), depth[:, 0], mask))

    def _run(self, name: str, images: torch.Tensor) -> torch.Tensor:
        out = run_network(self.networks[name], images, f"geometry.{name}", self.paths[name])
        shape = tuple(getattr(out, "shape", ()))
        if len(shape) != 4 or shape[:2] != (len(images), CHANNELS[name]):
            found, wanted = shape or type(out).__name__, f"(N, {CHANNELS[name]}, h, w)"
            raise UserError(
                f"geometry.{name}: {self.paths[name]} gives {found}, not {wanted}, so it is not Sapiens' for {name}"
            )
        return out
