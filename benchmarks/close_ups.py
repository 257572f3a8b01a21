"""Shaded faces, large: what a head looks like in the square around its face."""

from typing import NamedTuple

import cv2
import numpy as np
import torch

from expportrait.render import Camera, render
from expportrait.render.picture import shade_image

SIDE = 512  # px of a close-up
FINER = 2  # pixels rendered for one that is shown, along each side


class Square(NamedTuple):
    """Around a face, in px of the picture."""

    left: float
    top: float
    side: float

    @classmethod
    def around(cls, points: np.ndarray, width: float = 1.35) -> "Square":
        """Around landmarks (P, 2), a little above their middle; ``width`` in heights of the landmarks."""
        side = width * np.ptp(points[:, 1])
        left, top = np.rint((points.min(0) + points.max(0) - side) / 2 - (0, 0.08 * side))
        return cls(float(left), float(top), float(side))

    def of_picture(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) u8 -> (SIDE, SIDE, 3)."""
        near = SIDE / self.side
        view = np.float32([[near, 0, -self.left * near], [0, near, -self.top * near]])
        return cv2.warpAffine(picture, view, (SIDE, SIDE), flags=cv2.INTER_CUBIC)

    def of_head(self, vertices: torch.Tensor, camera: Camera, faces: torch.Tensor) -> np.ndarray:
        """Vertices (n, 3) in camera space, lit -> (SIDE, SIDE, 3) u8."""
        pixels = FINER * SIDE
        near = pixels / self.side
        cut = Camera(camera.focal * near, (camera.cx - self.left) * near, (camera.cy - self.top) * near, pixels, pixels)
        maps = render(vertices[None], faces, cut, cull=True)
        lit = shade_image(maps.normals[0], maps.coverage[0])
        return cv2.resize(lit, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
