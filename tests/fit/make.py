"""A head with hair and a lump on one cheek, rendered with known parameters: what the fits must find again."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from expportrait.fit.parameters import HeadParameters
from expportrait.fit.targets import Targets
from expportrait.head import Head
from expportrait.render import render, vertex_normals


@dataclass
class Truth:
    parameters: HeadParameters
    points: Tensor  # (T, 478, 3) px
    targets: Targets
    static: Tensor  # (n_d, 3) m


def make_truth(head: Head, frames: int, size: int = 128, hair: float = 0.02, yaw: float = 0.15) -> Truth:
    g = torch.Generator().manual_seed(3)
    p = HeadParameters.neutral(head, frames, size, 3.1 * size)
    p.shape = 0.7 * torch.randn(head.n_shape, generator=g)
    phase = torch.linspace(0, 2 * math.pi, frames + 1)[:-1]
    p.expression[:, :3] = 0.5 * torch.stack([phase.sin(), phase.cos(), (2 * phase).sin()], 1)
    pose = torch.zeros(frames, 10, 3)
    pose[:, 1, 1] = pose[:, 2, 1] = yaw * phase.sin()
    pose[:, 3, 0] = 0.06 * (1 + phase.cos())
    pose[:, 4:6, 1] = torch.linspace(-0.2, 0.2, frames)[:, None]  # the eyes
    blink = [i for i, name in enumerate(head.unit_names) if name.startswith("eyeBlink")]  # SMPL-X has none
    if blink:
        p.expression[frames // 2] += 0.9 * head.unit_matrix[blink].sum(0)
    p.set_pose(pose, torch.tensor([[0.01, -0.13, -1.45]]).expand(frames, 3))
    scalp = (head.regions == head.REGIONS.index("scalp")).float()
    neutral = head.dense.canonical(p.shape, torch.zeros(1, head.n_expression))
    normals = vertex_normals(neutral, head.dense_faces)[0]
    above = ((neutral[0, :, 1] - 0.15) / 0.05).clamp(0, 1)
    static = (hair * above * scalp).unsqueeze(-1) * normals
    matrices, translation = p.matrices(), p.translation()
    vertices = head.pose(head.dense, p.shape, p.expression, matrices, translation, static)
    maps = render(vertices, head.dense_faces, p.camera(), cull=True)
    landmarks = head.pose(head.landmarks, p.shape, p.expression, matrices, translation)
    depth = landmarks[..., 2:] * p.camera().focal / landmarks[..., 2:].mean()
    points = torch.cat([p.camera().project(landmarks), depth], -1)
    targets = Targets(maps.normals, maps.depth, maps.coverage, maps.coverage.clone())
    return Truth(p, points, targets, static)
