"""DAViD (Saleh et al., ICCV 2025; MIT): normals, relative depth and soft foreground by the user's ONNX files.

The interface is read from microsoft/DAViD at 20a3eb6 (runtime/, demo.py, model_cards/):

- input (N, 3, 512, 512) float32, channels B, G, R, values 0..1, no mean or deviation taken off;
- normals (N, 3, 512, 512), x right, y up, z to the viewer, which is this project's camera space. The code does not say
  so; its published film does: red grows to the right, green upwards, blue to the viewer, and the drawing code maps
  the channels 0, 1, 2 to red, green, blue;
- depth (N, 512, 512). The single network's grows towards the camera, and the published code takes its negative; the
  multi-task network's grows away from it. Neither is ever inverted (1/x), and the published errors are those of depth
  after scale and shift: ``depth_space`` is depth;
- foreground (N, 1, 512, 512), a soft mask, cut to 0..1;
- the multi-task network gives depth, normals, foreground, in this order.
"""

from pathlib import Path

import cv2
import numpy as np

from expportrait.estimators.geometry.dense import DenseEstimator, resized
from expportrait.estimators.onnx_network import OnnxNetwork

SIDE = 512
NORMALS, DEPTH, MASK = (None, 3, SIDE, SIDE), (None, SIDE, SIDE), (None, 1, SIDE, SIDE)


class DavidEstimator(DenseEstimator):
    """Three networks, or the multi-task one."""

    name = "david"
    depth_space = "depth"
    statement = (
        "DAViD, one frame at a time. The mask is a soft matte of the person around the face. The networks give no "
        "confidence: it equals the mask."
    )

    def __init__(self, files: dict[str, Path], device: str = "cpu"):
        """``files``: model, or normals, depth and mask. Raises UserError for files that are missing or others."""
        self.networks = {n: OnnxNetwork(file, f"geometry.{n}", SIDE, device) for n, file in files.items()}
        if "model" in self.networks:
            self.networks["model"].expect(DEPTH, NORMALS, MASK, what="DAViD's multi-task network")
        else:
            self.networks["normals"].expect(NORMALS, what="DAViD's network of normals")
            self.networks["depth"].expect(DEPTH, what="DAViD's network of depth")
            self.networks["mask"].expect(MASK, what="DAViD's network of the foreground")
        self.files = {name: network.sha256 for name, network in self.networks.items()}
        self.runs_on = next(iter(self.networks.values())).provider

    def inputs(self, frames: np.ndarray) -> np.ndarray:
        images = np.empty((len(frames), 3, SIDE, SIDE), np.float32)
        for image, frame in zip(images, frames, strict=True):
            for channel, colour in zip(image, reversed(cv2.split(resized(frame, (SIDE, SIDE)))), strict=True):
                np.multiply(colour, np.float32(1 / 255), out=channel)  # twice as fast as cv2.dnn's blobs
        return images

    def raw(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if "model" in self.networks:
            depth, normals, mask = self.networks["model"](images)
        else:
            normals, depth, mask = (self.networks[name](images)[0] for name in ("normals", "depth", "mask"))
            depth = -depth
        return normals.transpose(0, 2, 3, 1), depth, mask[:, 0]
