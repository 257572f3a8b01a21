"""Pinhole camera at the origin, looking along -z (metres, y up; pixels: x right, y down, centres at half-integers)."""

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR, FAR = 0.1, 10.0  # metres. Tight, because the depth buffer has 32 bits.


@dataclass(frozen=True)
class Camera:
    """Focal length and principal point in pixels, image size in pixels.

    ``focal``, ``cx``, ``cy`` are floats or tensors; a tensor of shape (B,) holds one value for each mesh of a batch
    whose points are (B, ..., 3). Gradients reach them.
    """

    focal: float | Tensor
    cx: float | Tensor
    cy: float | Tensor
    height: int
    width: int

    def project(self, points: Tensor) -> Tensor:
        """Camera-space points (..., 3) -> pixels (..., 2). Points must lie in front of the camera (z < 0)."""
        x, y, z = points.unbind(-1)
        focal, cx, cy = (_align(value, x) for value in (self.focal, self.cx, self.cy))
        return torch.stack([cx - focal * x / z, cy + focal * y / z], -1)

    def slope(self, points: Tensor) -> Tensor:
        """(..., 2, 3): derivatives of the pixels by camera-space points (..., 3), px per m."""
        x, y, z = points.unbind(-1)
        by, zero = self.focal / z, torch.zeros_like(z)
        return torch.stack([torch.stack([-by, zero, by * x / z], -1), torch.stack([zero, by, -by * y / z], -1)], -2)

    def clip(self, points: Tensor) -> Tensor:
        """Camera-space points (..., 3) -> OpenGL clip space (..., 4): w is the depth in metres, z/w grows from -1
        (near) to 1 (far)."""
        x, y, z = points.unbind(-1)
        focal, cx, cy = (_align(value, x) for value in (self.focal, self.cx, self.cy))
        wide = 2 * focal / self.width
        high = wide if self.height == self.width else 2 * focal / self.height
        clip_x, clip_y = wide * x, high * y
        if not _centred(cx, self.width):
            clip_x = clip_x - (2 * cx / self.width - 1) * z
        if not _centred(cy, self.height):
            clip_y = clip_y - (1 - 2 * cy / self.height) * z
        clip_z = -(FAR + NEAR) / (FAR - NEAR) * z - 2 * FAR * NEAR / (FAR - NEAR)
        return torch.stack([clip_x, clip_y, clip_z, -z], -1)

    def resized(self, height: int, width: int) -> "Camera":
        """The same view on another pixel grid. With centres at half-integers this is a pure scale; pixels must stay
        square."""
        if height * self.width != width * self.height:
            raise ValueError(
                f"Camera.resized: {height}x{width} has another aspect ratio than {self.height}x{self.width}."
            )
        scale = width / self.width
        return Camera(self.focal * scale, self.cx * scale, self.cy * scale, height, width)

    def to(self, device: torch.device | str) -> "Camera":
        moved = (v.to(device) if isinstance(v, Tensor) else v for v in (self.focal, self.cx, self.cy))
        return Camera(*moved, self.height, self.width)


def _centred(value: float | Tensor, side: int) -> bool:
    return not isinstance(value, Tensor) and 2 * value == side


def _align(value: float | Tensor, points: Tensor) -> float | Tensor:
    """A (B,) value gets the trailing axes of points (B, ...); scalars pass."""
    return value.reshape(-1, *[1] * (points.dim() - 1)) if isinstance(value, Tensor) and value.dim() else value
