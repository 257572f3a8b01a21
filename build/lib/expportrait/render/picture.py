"""Pictures for people: clay shading, normal-map colours, another point of view."""

import math

import numpy as np
import torch
from torch import Tensor

Image = Tensor | np.ndarray


def shade_image(
    normals: Image,
    coverage: Image | None = None,
    light: tuple[float, float, float] = (-0.6, 0.7, 0.7),
    background: int = 255,
) -> np.ndarray:
    """Camera-space normals (H, W, 3), coverage (H, W) 0..1 -> grey clay (H, W, 3) u8, lit softly from ``light``
    (towards the light).

    Without coverage, pixels whose normal is 0 are background.
    """
    normals, alpha = _arrays(normals, coverage)
    light = np.asarray(light) / np.linalg.norm(light)
    key = np.clip((normals @ light + 0.1) / 1.1, 0, 1) ** 1.4  # wrapped around the terminator, as skin and clay look
    sky = (normals[..., 1] + 1) / 2
    halfway = light + np.array([0, 0, 1])
    gloss = np.clip(normals @ (halfway / np.linalg.norm(halfway)), 0, 1) ** 30
    linear = 0.02 + 0.06 * sky + 0.62 * key + 0.06 * gloss
    return _over(np.clip(linear, 0, 1)[..., None] ** (1 / 2.2) * np.ones(3), alpha, background)


def normals_to_rgb(normals: Image, coverage: Image | None = None, background: int = 255) -> np.ndarray:
    """Normals (H, W, 3) -> the usual colours (H, W, 3) u8: (n + 1) / 2, so that a surface facing the viewer is light
    blue."""
    normals, alpha = _arrays(normals, coverage)
    return _over((normals + 1) / 2, alpha, background)


def turntable(vertices: Tensor, yaw: float, pitch: float = 0.0, centre: Tensor | None = None) -> Tensor:
    """Vertices (..., V, 3) turned about ``centre`` (3,), by default the middle of their box. Radians: a positive yaw
    turns a face that looks at the viewer towards +x (right in the image), a positive pitch downwards."""
    if centre is None:
        flat = vertices.reshape(-1, 3)
        centre = (flat.amin(0) + flat.amax(0)) / 2
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    about_y = vertices.new_tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = vertices.new_tensor([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return (vertices - centre) @ (about_y @ about_x).T + centre


def _arrays(normals: Image, coverage: Image | None) -> tuple[np.ndarray, np.ndarray]:
    normals, coverage = (a.detach().cpu().numpy() if isinstance(a, torch.Tensor) else a for a in (normals, coverage))
    normals = np.asarray(normals, np.float64)
    if normals.ndim != 3 or normals.shape[-1] != 3:
        raise ValueError(f"Expected the normals of one image (H, W, 3), got {normals.shape}.")
    alpha = np.abs(normals).sum(-1) > 0 if coverage is None else np.asarray(coverage)
    return normals, alpha.astype(np.float64)


def _over(colour: np.ndarray, alpha: np.ndarray, background: int) -> np.ndarray:
    alpha = alpha[..., None]
    return np.rint(255 * alpha * colour + (1 - alpha) * background).astype(np.uint8)
