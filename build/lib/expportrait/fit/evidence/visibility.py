"""Which vertices of a posed head a frame shows, and where in the picture they are."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.render import Camera, Fragments

BEHIND = 0.002  # m behind the rendered surface from where on a vertex is hidden
STEP = 0.015  # m between neighbouring pixels that belong to two surfaces


@dataclass
class Places:
    """Where the n vertices of one frame are in the picture. ``normals`` (n, 3); ``facing`` (n,) cosine to the view;
    ``pixel`` (n, 2), ``column`` and ``row`` (n,) kept off the border; ``far``, ``near`` (n,) m, of the surface that is
    drawn around there; ``shown`` (n,) bool: nothing is before it, and its neighbourhood is one surface."""

    normals: Tensor
    facing: Tensor
    pixel: Tensor
    column: Tensor
    row: Tensor
    far: Tensor
    near: Tensor
    shown: Tensor


def in_picture(pixels: Tensor, camera: Camera) -> Tensor:
    """(k, 2) px of a square picture -> (1, 1, k, 2) as ``grid_sample`` counts them, -1 to 1."""
    return (pixels * (2 / camera.width) - 1)[None, None]


@torch.no_grad()
def places(vertices: Tensor, rendered: Fragments, camera: Camera) -> Places:
    """Find the vertices (n, 3) of a mesh in camera space in its own render."""
    height, width = camera.height, camera.width
    normals = rendered.vertex_normals[0]
    facing = (normals * F.normalize(-vertices, dim=-1)).sum(-1)
    depth = rendered.image(rendered.depth, background=1e3)
    # Farthest and nearest around a pixel: where they lie apart, one surface ends before another.
    far, near = F.max_pool2d(depth, 3, 1, 1)[0], -F.max_pool2d(-depth, 3, 1, 1)[0]
    pixel = camera.project(vertices)
    column, row = pixel.floor().long().unbind(-1)
    inside = (column >= 1) & (column < width - 1) & (row >= 1) & (row < height - 1)
    column, row = column.clamp(1, width - 2), row.clamp(1, height - 2)
    far, near = far[row, column], near[row, column]
    shown = inside & (facing > 0.02) & (far - near < STEP) & (-vertices[:, 2] < far + BEHIND)
    return Places(normals, facing, pixel, column, row, far, near, shown)
