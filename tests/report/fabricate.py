"""A small run: real head, real rendering, made-up estimates and fits, written through the project's own stores."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch

from expportrait.fit.parameters import HeadParameters
from expportrait.fit.proxy import ProxyFit
from expportrait.fit.store import FittedHead, load_proxy, save_proxy
from expportrait.head import Head
from expportrait.manifest import Row
from expportrait.render import render
from expportrait.render.picture import shade_image
from expportrait.stage import Outcome, write_index
from expportrait.stages import PER_CLIP
from expportrait.store import Store, StoreWriter, encode_normals

HEAD = {"subdivisions": 0, "shape_components": 4, "expression_components": 4}
NO_FACE = "no face in any frame; give the clip a box or remove it"


def row(clip: str, dataset: str = "demo", person: str = "") -> Row:
    return Row(clip, dataset, f"{clip}.mp4", Path(f"{clip}.mp4"), person=person or clip)


@cache
def load_head() -> Head:
    return Head.load(**HEAD)


def make_proxy(file: Path, head: Head, frames: int, size: int) -> FittedHead:
    """A head that turns, with a bump on its scalp, and a loss that falls."""
    parameters = HeadParameters.neutral(head, frames, size, 3.0 * size)
    turns = torch.zeros(frames, 10, 3)
    turns[:, 2, 1] = 0.4 * torch.sin(torch.arange(frames) / max(1, frames - 1) * 6.28)
    parameters.set_pose(turns, torch.tensor([[0.0, -0.08, -1.6]]).expand(frames, 3))
    static = 0.01 * (head.dense.template[:, 1:2] > 0.2) * torch.tensor([0.0, 1.0, 0.0])
    vertices = torch.arange(5)
    plan = [("rigid", 20), ("landmarks", 20), ("coarse", 30), ("static", 30), ("dynamic", 30)]
    steps = [(name, k) for name, count in plan for k in range(count)]
    losses = [
        (
            name,
            {"total": 3 * math.exp(-i / 40) + 0.1}
            | ({} if name in ("rigid", "landmarks") else {"normal": 0.5 * math.exp(-k / 20)}),
        )
        for i, (name, k) in enumerate(steps)
    ]
    noise = torch.rand(frames, generator=torch.Generator().manual_seed(0))
    errors = {"landmark": 0.015 + 0.01 * noise, "normal_deg": 8 + 2 * noise, "overlap": 0.95 - 0.02 * noise}
    fit = ProxyFit(parameters, static, torch.zeros(frames, 5, 3), vertices, losses, errors)
    with StoreWriter(file, {"key": f"proxy-{file.stem}", "settings": {"head": HEAD}}) as out:
        save_proxy(out, fit, head)
        out.attrs(seconds={"landmarks": 1.5, "coarse": 4.0})
    return load_proxy(Store(file), head)


def make_clip(
    results: Path, clip: str, frames: int = 6, size: int = 96, stages: tuple[str, ...] = PER_CLIP, fps: float = 25.0
) -> None:
    """The stores of one clip, up to the last of ``stages``."""
    head = load_head()
    posed = make_proxy(results / "proxy" / f"{clip}.zarr", head, frames, size)
    maps = render(posed.vertices(), head.dense_faces, posed.camera)
    normals, coverage = maps.normals.numpy(), maps.coverage.numpy()
    backdrop = np.array([70, 110, 150], np.uint8)
    images = np.stack(
        [np.where(c[..., None] > 0, shade_image(n, c), backdrop) for n, c in zip(normals, coverage, strict=True)]
    )
    points = np.zeros((frames, 478, 3), np.float32)
    seen = posed.camera.project(posed.vertices()[:, :: len(head.dense.template) // 477][:, :478])
    points[..., :2] = seen.numpy()
    interpolated = np.arange(frames) == 1
    written = {
        "crop": {"frames": images, "timestamps": np.arange(frames) / fps},
        "landmarks": {"points": points, "confidence": np.ones(frames, np.float32), "interpolated": interpolated},
        "geometry": {"normals": encode_normals(normals), "mask": (255 * coverage).astype(np.uint8)},
        "control": {"normals": encode_normals(normals), "coverage": (255 * coverage).astype(np.uint8)},
    }
    attrs = {
        "crop": {
            "source": f"{clip}.mp4",
            "source_size": [640, 360],
            "fps": fps,
            "box": [100.4, 20.0, 420.0, 339.6],
            "padded": [0, 0, 0, 4],
            "shots": [[0, 30], [30, 60]],
            "shot": [30, 30 + frames],
            "face": 150.2,
            "face_coverage": 0.9,
        },
        "landmarks": {"detector": "mediapipe 0.10.14"},
    }
    for stage in stages:
        if stage in written:
            with StoreWriter(
                results / stage / f"{clip}.zarr", {"key": f"{stage}-{clip}"} | attrs.get(stage, {})
            ) as out:
                for name, array in written[stage].items():
                    out.array(name, array)


def index_all(results: Path, shards: dict[str, list[Row]], made: dict[str, dict[str, Outcome]]) -> None:
    """Write indexes: clips in ``made`` as given there (stages left out are not in the index), others ok throughout."""
    for stage in PER_CLIP:
        for shard, members in shards.items():
            index = {r.clip: made.get(r.clip, {}).get(stage, Outcome("ok", f"{stage}-{r.clip}")) for r in members}
            write_index(results / stage / f"{shard}.json", index)


def failed_at(stage: str, why: str) -> dict[str, Outcome]:
    """Failed in ``stage``, skipped afterwards."""
    at = PER_CLIP.index(stage)
    return {stage: Outcome("failed", "k", why)} | {
        s: Outcome("skipped", None, f"{stage}: {why}") for s in PER_CLIP[at + 1 :]
    }
