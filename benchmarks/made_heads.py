"""A head with hair and a lump on one cheek, rendered with known parameters: what the fits must find again."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from benchmarks.truth_clips import with_hair
from benchmarks.truth_hair import make_sheet
from benchmarks.truth_person import Person
from scipy.spatial import cKDTree
from torch import Tensor

from expportrait.fit.evidence.targets import Targets
from expportrait.fit.model import ClipModel
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.problem import Problem
from expportrait.head import Head
from expportrait.render import render, vertex_normals
from expportrait.settings.config import Proxy


@dataclass
class Truth:
    parameters: HeadParameters
    points: Tensor  # (T, 478, 3) px
    targets: Targets
    static: Tensor  # (n_d, 3) m


def make_truth(
    head: Head, frames: int, size: int = 128, hair: float = 0.02, yaw: float = 0.15, long_hair: str = ""
) -> Truth:
    """``long_hair``: on which sides of the head it hangs before the head, of "left", "right" and "both"."""
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
    faces = head.dense_faces
    if long_hair:
        none = np.zeros((0, *static.shape), np.float32)
        sheet = make_sheet(head, Person(p.shape.numpy(), static.numpy(), none, scalp.numpy()), 1)
        middle, keep = sheet.points[sheet.faces].mean(1)[:, 0], {"left": (0, 1), "right": (-1, 0), "both": (-1, 1)}
        low, high = keep[long_hair]
        posed = sheet.posed(head.transforms(p.shape, p.expression, matrices, translation))
        vertices, faces = with_hair(vertices, faces, posed, sheet.faces[(middle > low) & (middle < high)])
    maps = render(vertices, faces, p.camera(), cull=True)
    landmarks = head.pose(head.landmarks, p.shape, p.expression, matrices, translation)
    depth = landmarks[..., 2:] * p.camera().focal / landmarks[..., 2:].mean()
    points = torch.cat([p.camera().project(landmarks), depth], -1)
    targets = Targets(maps.normals, maps.depth, maps.coverage, maps.coverage.clone())
    return Truth(p, points, targets, static)


def clip_model(head: Head, truth: Truth, settings: Proxy) -> ClipModel:
    """A clip before its fit, whose detector is sure."""
    return ClipModel(Problem.of(head, truth.targets, truth.points, torch.ones(len(truth.points)), settings))


def mirrored_vertices(head: Head) -> torch.Tensor:
    """(n_c,) each coarse vertex's partner on the other side."""
    points = head.coarse.template.numpy()
    return torch.from_numpy(cKDTree(points).query(points * [-1, 1, 1])[1])


def mirrored_truth(head: Head, truth: Truth) -> tuple[Targets, torch.Tensor]:
    """What a mirror shows: the estimates, and the points (T, 478, 3) that the embedding has on the mirrored head."""
    flip = torch.tensor([-1.0, 1, 1])
    maps = [x.flip(2) for x in truth.targets.maps()]
    p = truth.parameters
    vertices = head.pose(head.coarse, p.shape, p.expression, p.matrices(), p.translation())
    vertices = vertices[:, mirrored_vertices(head)] * flip
    points = (head.landmark_barycentric[..., None] * vertices[:, head.faces[head.landmark_faces]]).sum(-2)
    depth = points[..., 2:] * p.camera().focal / points[..., 2:].mean()
    return Targets(maps[0] * flip, *maps[1:]), torch.cat([p.camera().project(points), depth], -1)
