"""Rendered truth for the geometry estimators: random open heads with grown hair and clothes, painted and lit.

The open head's space of faces is what the embedded estimator fits, so figures on the bare face are flattering; hair,
the clothes and the fine relief are outside of any model.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from expportrait.head import Head
from expportrait.head.rotation import axis_angle_to_matrix
from expportrait.points478 import BROWS, LEFT_IRIS, OUTER_LIPS, RIGHT_IRIS
from expportrait.render import Camera, render, vertex_normals

LIPS = (*OUTER_LIPS, 78, 82, 13, 312, 308, 14)
PUPILS = (RIGHT_IRIS[0], LEFT_IRIS[0])
EXPRESSIONS = (
    ({}, 0.0),
    ({"smile": 0.7}, 0.05),
    ({}, 0.2),
    ({"pucker": 0.6, "browInnerUp": 0.7}, 0.0),
)  # units, jaw in rad
LIGHT = np.array([-0.35, 0.45, 0.82])


@dataclass
class Scene:
    """frame (H,W,3) u8; normals (H,W,3), depth (H,W) m, mask (H,W) bool: true; smooth: the normals without relief;
    region (H,W) int, index into Head.REGIONS, -1 outside; hair, cloth (H,W) bool: 3 mm thick or more;
    points (478,3) px, true landmarks.
    """

    frame: np.ndarray
    normals: np.ndarray
    smooth: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    region: np.ndarray
    hair: np.ndarray
    cloth: np.ndarray
    points: np.ndarray
    camera: Camera


def soft(head: Head, name: str, steps: int) -> Tensor:
    """(n_d,) membership in a region, averaged ``steps`` times over each vertex's neighbours."""
    n = len(head.dense.template)
    edge = head.dense_faces[:, [0, 1, 1, 2, 2, 0, 1, 0, 2, 1, 0, 2]].reshape(-1, 2).T
    links = torch.sparse_coo_tensor(edge, torch.ones(edge.shape[1]), (n, n), check_invariants=True).coalesce()
    degree = torch.sparse.sum(links, 1).to_dense().clamp_min(1)
    field = (head.regions == head.REGIONS.index(name)).float()
    for _ in range(steps):
        field = 0.5 * field + 0.5 * (links @ field.unsqueeze(1))[:, 0] / degree
    return field


def growth(head: Head, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Thickness (n_d,2) m of hair, 12 to 45 mm with lobes, and of clothes, 15 to 35 mm with folds; offsets (n_d,3)."""
    rest = head.dense.template
    scalp, body = soft(head, "scalp", 12), soft(head, "body", 12)
    top = rest[scalp > 0.5].mean(0)
    around = torch.atan2(rest[:, 0] - top[0], rest[:, 2] - top[2])
    lobes = 1 + 0.25 * torch.sin(random.integers(3, 7) * around + random.uniform(0, 6)) * torch.sin(40 * rest[:, 1])
    folds = 1 + 0.3 * torch.sin(60 * rest[:, 0] + 25 * rest[:, 1] + random.uniform(0, 6))
    hair = random.uniform(0.012, 0.045) * scalp * lobes
    clothes = random.uniform(0.015, 0.035) * body * folds
    radial = torch.nn.functional.normalize(rest - top, dim=1)  # a scalp's own normals cross at the ears
    outward = vertex_normals(rest[None], head.dense_faces)[0]
    return torch.stack([hair, clothes], 1), hair.unsqueeze(1) * radial + clothes.unsqueeze(1) * outward


def relief(canonical: np.ndarray, hair: np.ndarray, cloth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(P,3) tilt of the normals at canonical points (P,3): strands, weave and pores, each where it belongs."""
    x, y, z = canonical.T
    strands = np.sin(900 * (x + 0.25 * y) + 3 * np.sin(120 * y)) * hair
    folds = np.sin(170 * x + 90 * y + 2 * np.sin(60 * y + random.uniform(0, 6))) * cloth
    pores = random.normal(size=len(x)) * (1 - hair - cloth).clip(0)
    return np.stack(
        [0.16 * strands + 0.18 * folds + 0.02 * pores, 0.05 * strands + 0.12 * folds + 0.02 * pores, 0 * z], -1
    )


def make_scene(head: Head, seed: int, size: int = 512, dressed: bool = True) -> Scene:
    """One picture and its truth. ``dressed``: with hair, clothes and relief; otherwise the bare head."""
    random = np.random.default_rng(seed)
    normal = lambda *shape: torch.from_numpy(random.normal(size=shape).astype(np.float32))  # noqa: E731
    shape = 0.8 * normal(head.n_shape) * (torch.arange(head.n_shape) < 50)
    units, jaw = EXPRESSIONS[seed % len(EXPRESSIONS)]
    expression = head.expression_of(units)[None]
    turn = torch.zeros(1, 10, 3)
    turn[0, 3, 0] = jaw
    yaw, pitch = np.radians(random.uniform(-20, 20)), np.radians(random.uniform(-10, 10))
    turn[0, :3, 1], turn[0, 1:3, 0] = yaw * torch.tensor([0.4, 0.3, 0.3]), pitch / 2
    turn[0, 6:8, 2] = torch.tensor([-0.05, 0.05]) * float(random.uniform(-1, 1))
    pose = axis_angle_to_matrix(turn)
    thickness, offset = growth(head, random)
    thickness, offset = thickness * dressed, offset * dressed
    focal = 3.0 * size
    eyes = head.joints(shape, expression)[0, 4:6].mean(0)
    # The face fills about two fifths of the picture, its middle a little above the centre.
    place = torch.tensor([float(random.uniform(-0.02, 0.02)), 0.03, -1.05]) - eyes
    vertices = head.pose(head.dense, shape, expression, pose, place[None], offset)
    points = head.pose(head.landmarks, shape, expression, pose, place[None])[0]
    camera = Camera(focal, size / 2, size / 2, size, size)
    attributes = {"canonical": head.dense.template, "thickness": thickness}
    maps = render(vertices, head.dense_faces, camera, attributes)
    inside = maps.coverage[0].numpy() > 0.5
    smooth, depth = maps.normals[0].numpy(), maps.depth[0].numpy()
    canonical = maps.attributes["canonical"][0].numpy()
    face = np.where(inside, maps.face_id[0].numpy(), 0)
    region = np.where(inside, head.regions[head.dense_faces[:, 0]].numpy()[face], -1)
    hair, cloth = np.moveaxis(maps.attributes["thickness"][0].numpy() > 0.003, -1, 0)
    normals = smooth.copy()
    if dressed:
        normals[inside] += relief(canonical[inside], hair[inside] * 1.0, cloth[inside] * 1.0, random)
        normals[inside] /= np.linalg.norm(normals[inside], axis=-1, keepdims=True)
    frame = paint(head, canonical, normals, inside, region, hair, cloth, random)
    pixels = torch.cat([camera.project(points), points[:, 2:] * 0], -1).numpy()
    return Scene(frame, normals, smooth, depth, inside, region, hair, cloth, pixels, camera)


def paint(head, canonical, normals, inside, region, hair, cloth, random) -> np.ndarray:
    """(H,W,3) u8: skin, lips, brows, eyes, hair, striped clothes, lit from one side, on a smooth background; noise."""
    landmarks = head.landmarks.template.numpy()

    def near(ids: tuple[int, ...], reach: float) -> np.ndarray:
        out = np.zeros(inside.shape, bool)
        out[inside] = cKDTree(landmarks[list(ids)]).query(canonical[inside], distance_upper_bound=reach)[0] < reach
        return out

    tone = random.uniform(0.45, 1.0)
    colour = np.full((*inside.shape, 3), np.array([215, 165, 140]) * tone, np.float32)
    colour[near(LIPS, 0.005)] = np.array([190, 90, 90]) * tone
    colour[near(BROWS, 0.0055)] = 60 * tone
    colour[region == head.REGIONS.index("eye")] = 235
    colour[near(PUPILS, 0.0062) & (region == head.REGIONS.index("eye"))] = 45
    colour[region == head.REGIONS.index("teeth")] = 230
    colour[hair] = random.uniform(30, 150) * np.array([1, 0.75, 0.5])
    stripes = 1 + 0.25 * np.sign(np.sin(220 * canonical[..., 0] + 60 * canonical[..., 1]))[..., None]
    colour = np.where(cloth[..., None], random.uniform(40, 200, 3) * stripes, colour)
    light = LIGHT * [random.choice([-1, 1]), 1, 1]
    lit = colour * (0.35 + 0.75 * np.clip(normals @ (light / np.linalg.norm(light)), 0, 1))[..., None]
    h, w = inside.shape
    corners = random.uniform(60, 220, (2, 2, 3))
    u, v = np.meshgrid(np.linspace(0, 1, w), np.linspace(0, 1, h))
    back = sum(corners[i, j] * ((v if i else 1 - v) * (u if j else 1 - u))[..., None] for i in (0, 1) for j in (0, 1))
    frame = np.where(inside[..., None], lit, back) + random.normal(scale=3, size=(h, w, 3))
    return np.clip(frame, 0, 255).astype(np.uint8)
