"""Stage ``control``: each clip's fitted head rendered as control maps, registered to its frames (docs/control.md)."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch

from expportrait.engine.stage import Clip
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.store import FittedHead, load_proxy
from expportrait.head import Head
from expportrait.render import Maps, render
from expportrait.store import StoreWriter, encode_normals, videocodec

BLOCK = 4  # frames rendered at once


def load(settings: SimpleNamespace, device: str) -> Head:
    return load_head(settings.head).to(device)


@torch.no_grad()
def render_maps(fitted: FittedHead, wanted: list[str], backend: str = "auto") -> Iterator[dict[str, np.ndarray]]:
    """Blocks of frames: normals (B, H, W, 3) int8, coverage (B, H, W) u8 and the ``wanted`` extras."""
    head = fitted.head
    for first in range(0, fitted.frames, BLOCK):
        vertices = fitted.vertices(slice(first, first + BLOCK))
        yield encode(render(vertices, head.dense_faces, fitted.camera, backend=backend, cull=True), head, wanted)


def encode(maps: Maps, head: Head, wanted: list[str]) -> dict[str, np.ndarray]:
    """8-bit maps of a block. ``region``: 0 outside, else 1 + index into ``Head.REGIONS``; ``eyes``: 255 on eyeballs."""
    covered = maps.coverage.cpu().numpy() > 0.5
    out = {
        "normals": encode_normals(maps.normals.cpu().numpy()),
        "coverage": np.where(covered, 255, 0).astype(np.uint8),
    }
    if "depth" in wanted:
        out["depth"] = maps.depth.cpu().numpy().astype(np.float16)
    if {"region", "eyes"} & set(wanted):
        face_region = head.regions[head.dense_faces[:, 0]].cpu().numpy()
        region = np.where(covered, 1 + face_region[maps.face_id.clamp_min(0).cpu().numpy()], 0).astype(np.uint8)
        if "region" in wanted:
            out["region"] = region
        if "eyes" in wanted:
            out["eyes"] = np.where(region == 1 + head.REGIONS.index("eye"), 255, 0).astype(np.uint8)
    return out


@torch.no_grad()
def process(clip: Clip, out: StoreWriter) -> None:
    fitted = load_proxy(clip.parents["proxy"], clip.tools)
    streams = {}
    blocks = render_maps(fitted, clip.settings.control.maps, clip.backend)
    for block in clip.progress(clip.computed(blocks), -(-fitted.frames // BLOCK), "render"):
        for name, maps in block.items():
            if name not in streams:
                qp = videocodec.VECTORS if name == "normals" else None
                streams[name] = out.stream(name, fitted.frames, maps.shape[1:], maps.dtype, qp)
            streams[name].append(maps)
    out.attrs(
        normals="int8, n * 127; camera space: x right, y up, z to the viewer",
        registered_to="crop frames: same size, order and number",
        regions=["", *clip.tools.REGIONS],
    )
