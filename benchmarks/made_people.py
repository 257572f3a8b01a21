"""Proxy stores of made-up people whose dynamic offsets follow a known rule, and what the fit of one frame needs."""

from pathlib import Path

import numpy as np
import torch

from expportrait.fit.store import load_proxy
from expportrait.head import Head
from expportrait.manifest.clips import Row
from expportrait.render import render, vertex_normals
from expportrait.rng import random_generator
from expportrait.settings.config import Config
from expportrait.store import Store, StoreWriter, encode_normals
from expportrait.transfer.model import face_rows

FRAMES, SIZE = 24, 96
HEAD = {"subdivisions": 0}
TRANSFER = {"encoder_width": 48, "code": 24, "vertex_width": 96, "steps": 320, "clips": 5, "window": 16, "frames": 8,
            "vertices": 512, "learning_rate": 4e-3, "save_every": 50}  # fmt: skip
SHORT = {"steps": 200, "save_every": 20, "clips": 2, "vertices": 128, "encoder_width": 16}  # to be killed in
PROXY = {"rigid_steps": 40, "landmark_steps": 20, "coarse_passes": 0, "static_passes": 1, "dynamic_passes": 0,
         "final_passes": 0, "min_steps": 1, "coarse_size": 48, "fine_size": 48}  # fmt: skip
PEOPLE = {
    f"{name}-1": (name, "train") for name in ("ann", "bob", "cem", "eva", "fay", "gil", "hal", "ida", "jon", "kim")
}
PEOPLE |= {"dee-1": ("dee", "test")}


def config(results: Path, **sections: dict) -> Config:
    base = {"head": HEAD, "transfer": TRANSFER, "proxy": PROXY}
    names = base.keys() | sections.keys()
    return Config(results=results, **{name: base.get(name, {}) | sections.get(name, {}) for name in names})


def rows(people: dict[str, tuple[str, str]] = PEOPLE) -> list[Row]:
    return [Row(clip, "made", clip, Path(clip), person=person, split=split) for clip, (person, split) in people.items()]


def rule(head: Head, neutral: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
    """(T, V, 3) m: wrinkles across the person's own face, as deep as the first expression says."""
    chosen, weight = face_rows(head), head.dynamic_mask[:, None]
    height = (neutral - (weight * neutral).sum(0) / weight.sum())[chosen, 1]
    depth = 1e-3 * torch.tanh(expression[:, 0, None]) * torch.sin(150 * height)
    normals = vertex_normals(neutral[None], head.dense_faces)[0, chosen]
    return depth[..., None] * normals * head.dynamic_mask[chosen, None]


def proxy_store(results: Path, head: Head, clip: str, frames: int = FRAMES, key: str = "") -> None:
    """A person and a motion that depend on the clip's name alone."""
    rng = random_generator(0, "transfer", "person", clip.split("-")[0])
    shape = 0.8 * torch.randn(head.n_shape, generator=rng) * (torch.arange(head.n_shape) < 10)
    static = 1e-3 * torch.randn(3, generator=rng) * head.static_mask(1.0)[:, None]
    rng = random_generator(0, "transfer", "motion", clip)
    t = torch.arange(frames)[:, None] / 8
    expression = torch.sin(t + 6 * torch.rand(head.n_expression, generator=rng)) * (torch.arange(head.n_expression) < 2)
    pose = torch.zeros(frames, 10, 3)
    pose[:, :6] = 0.12 * torch.sin(t[..., None] + 6 * torch.rand(6, 3, generator=rng))
    pose[:, 6:] = 0.05 * torch.randn(4, 3, generator=rng)
    place = torch.tensor([0.01, -0.1, -1.2]) + 0.01 * torch.sin(t + 6 * torch.rand(3, generator=rng))
    neutral = head.dense.canonical(shape, torch.zeros(1, head.n_expression))[0] + static
    dynamic = rule(head, neutral, expression)
    with StoreWriter(results / "proxy" / f"{clip}.zarr", {"key": key or f"proxy {clip}"}) as out:
        out.array("shape", shape.numpy())
        out.array("expression", expression.numpy())
        out.array("pose", pose.numpy())
        out.array("translation", place.numpy())
        out.array("static_offset", static.numpy())
        out.array("dynamic_offset", (dynamic - dynamic.mean(0)).numpy().astype(np.float16))
        out.array("dynamic_vertices", face_rows(head).numpy().astype(np.int32))
        out.attrs(head_sha256=head.sha256, size=SIZE, focal=2.8 * SIZE)


def painted_store(results: Path, head: Head, clip: str) -> None:
    """The store of crop: frames that show the clip's head in colours known for every vertex, on black."""
    fitted = load_proxy(Store(results / "proxy" / f"{clip}.zarr"), head)
    paint = 128 + 90 * torch.sin(60 * head.dense.template)
    maps = render(fitted.vertices(), head.dense_faces, fitted.camera, {"paint": paint}, cull=True)
    with StoreWriter(results / "crop" / f"{clip}.zarr", {"key": f"crop {clip}"}) as out:
        out.array("frames", maps.attributes["paint"].numpy().clip(0, 255).astype(np.uint8))
        out.array("timestamps", np.arange(fitted.frames) / 25)
        out.attrs(fps=25.0)


def frame_stores(results: Path, head: Head, clip: str) -> None:
    """Stores of landmarks and geometry, rendered from the clip's proxy."""
    fitted = load_proxy(Store(results / "proxy" / f"{clip}.zarr"), head)
    vertices = fitted.vertices()
    corners = head.faces[head.landmark_faces]
    points = sum(head.landmark_barycentric[:, k, None] * vertices[:, corners[:, k]] for k in range(3))
    with StoreWriter(results / "landmarks" / f"{clip}.zarr", {"key": f"landmarks {clip}"}) as out:
        pixels = fitted.camera.project(points)
        out.array("points", torch.cat([pixels, torch.zeros_like(pixels[..., :1])], -1).numpy())
        out.array("confidence", np.ones(len(pixels), np.float32))
    maps = render(vertices, head.dense_faces, fitted.camera)
    mask = (255 * maps.coverage.numpy()).astype(np.uint8)
    with StoreWriter(results / "geometry" / f"{clip}.zarr", {"key": f"geometry {clip}"}) as out:
        out.array("normals", encode_normals(maps.normals.numpy()))
        out.array("depth", maps.depth.numpy().astype(np.float16))
        out.array("mask", mask)
        out.array("confidence", mask)
        out.attrs(depth_space="depth")
