"""Closed meshes with a known surface, for tests and benchmarks that must not depend on a head model."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def sphere(divisions: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Unit geodesic sphere: vertices (10 n^2 + 2, 3), faces (20 n^2, 3) int64, counter-clockwise seen from outside."""
    golden = (1 + 5**0.5) / 2
    corners = np.array([(0, a, b) for a in (-1, 1) for b in (-golden, golden)])
    corners = np.concatenate(
        [np.roll(corners, shift, 1) for shift in range(3)]
    )  # the 12 vertices of an icosahedron, edges of length 2
    near = np.isclose(np.linalg.norm(corners[:, None] - corners[None], axis=-1), 2)
    solid = [
        (a, b, c) for a in range(12) for b in range(a) for c in range(b) if near[a, b] and near[b, c] and near[a, c]
    ]
    steps = [(i, j) for i in range(divisions + 1) for j in range(divisions + 1 - i)]
    number = {step: n for n, step in enumerate(steps)}
    upright = [(number[i, j], number[i + 1, j], number[i, j + 1]) for i, j in steps if i + j < divisions]
    inverted = [(number[i + 1, j], number[i + 1, j + 1], number[i, j + 1]) for i, j in steps if i + j < divisions - 1]
    weights = np.array([(divisions - i - j, i, j) for i, j in steps]) / divisions
    points = (weights @ corners[np.array(solid)]).reshape(-1, 3)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    faces = (np.array(upright + inverted) + len(steps) * np.arange(20)[:, None, None]).reshape(-1, 3)
    _, first, merged = np.unique(points.round(9) + 0.0, axis=0, return_index=True, return_inverse=True)
    points, faces = points[first], merged.reshape(-1)[faces]
    a, b, c = points[faces].transpose(1, 0, 2)
    inward = (np.cross(b - a, c - a) * a).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return torch.tensor(points, dtype=dtype), torch.tensor(faces)


def bumpy_head(divisions: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A sphere pushed out into something like a head of 0.25 m (nose, eye sockets, ears, chin, fine bumps), facing
    +z. 46 divisions: 42k faces."""
    direction, faces = sphere(divisions, torch.float64)
    x, y, z = direction.unbind(1)

    def bump(centre: tuple[float, float, float], width: float) -> Tensor:
        offset = direction - F.normalize(direction.new_tensor(centre), dim=0)
        return torch.exp(-(offset * offset).sum(1) / (2 * width**2))

    radius = 0.1 * (1 + 0.12 * y * y - 0.1 * x * x) + 0.028 * bump((0, -0.1, 1), 0.12) + 0.02 * bump((0, -1, 0.4), 0.35)
    for side in (-1, 1):
        radius = radius - 0.008 * bump((0.35 * side, 0.15, 1), 0.12) + 0.02 * bump((side, 0, 0), 0.12)
    radius = radius + 0.0006 * torch.sin(40 * x) * torch.sin(37 * y) * torch.sin(43 * z)
    return (direction * radius[:, None]).to(dtype), faces
