"""How busy a stage keeps the model that it has: model time / wall time, all in turn and overlapped.

python benchmarks/overlap.py [clips] [frames]

The model is a sleep, which takes as long as a GPU would and leaves the processor alone. Everything else is what the
stages do: 512 px frames are unpacked, prepared, packed and stored.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import skimage.data
import torch

from expportrait.engine import loop
from expportrait.engine import prefetch as overlap
from expportrait.engine.stage import Clip, Stage
from expportrait.estimators.geometry.base import Geometry
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config, Latents
from expportrait.stages import control, geometry, with_code
from expportrait.store import StoreWriter, videocodec

SIZE = 512
BATCH = 8  # frames a call of the geometry networks
# ms a frame of a network or renderer; what a GPU of today takes is of this order
MODEL = {"geometry": (20, 40), "latents": (10, 20), "control": (5, 20)}


class Model:
    """Sleeps for the time that a GPU would take, and counts it."""

    def __init__(self, milliseconds: float):
        self.seconds, self.used = milliseconds / 1000, 0.0

    def __call__(self, frames: int) -> None:
        start = time.perf_counter()
        time.sleep(frames * self.seconds)
        self.used += time.perf_counter() - start


def film(frames: int) -> np.ndarray:
    """(T, 512, 512, 3) u8: a portrait that sways, with a little noise."""
    random, picture = np.random.default_rng(0), skimage.data.astronaut()[:SIZE, :SIZE].astype(np.int16)
    moved = (np.roll(picture, (int(4 * np.sin(t / 9)), int(9 * np.sin(t / 7))), (0, 1)) for t in range(frames))
    noisy = (np.clip(image + random.normal(0, 2, image.shape), 0, 255) for image in moved)
    return np.stack([image.astype(np.uint8) for image in noisy])


def maps_of(frames: np.ndarray) -> Geometry:
    """Maps as smooth and as rough as those of a face: slopes of the picture's brightness."""
    grey = frames.mean(-1, dtype=np.float32)
    slope = np.stack([np.roll(grey, 3, 2) - grey, grey - np.roll(grey, 3, 1), np.full_like(grey, 40)], -1)
    normals = slope / np.linalg.norm(slope, axis=-1, keepdims=True)
    mask = np.float32(grey > 30)
    return Geometry(normals * mask[..., None], grey * mask / 255, mask, mask, "depth")


def geometry_stage(model: Model, made: Geometry) -> Stage:
    """Stage geometry with a network that is no network; the frames are read ahead."""

    def compute(piece: tuple[slice, np.ndarray]) -> Geometry:
        part, frames = piece
        model(len(frames))
        return Geometry(made.normals[part], made.depth[part], made.mask[part], made.confidence[part], "depth")

    def process(clip: Clip, out: StoreWriter) -> None:
        frames, streams = clip.parents["crop"].lazy("frames"), {}
        parts = [slice(first, min(len(made), first + BATCH)) for first in range(0, len(made), BATCH)]
        read = clip.ahead((part, frames[part]) for part in parts)
        for maps in clip.computed(map(compute, read)):
            for name, block in geometry.encode(maps).items():
                if name not in streams:
                    kind = block.shape[1:], block.dtype, geometry.PACKING[name]
                    streams[name] = out.stream(name, len(made), *kind)
                streams[name].append(block)

    return replace(with_code("geometry"), parents=("crop",), process=process, load=None, overlaps=True)


def latents_stage(model: Model) -> Stage:
    """Stage latents with a codec that takes its time and gives noise of the right shape."""

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        model(pixels.shape[2])
        return torch.randn(1, 16, 1 + (pixels.shape[2] - 1) // 4, SIZE // 8, SIZE // 8)

    codec = SimpleNamespace(encode=encode, describe=dict)
    return replace(with_code("latents"), load=lambda settings, device: codec)


@contextmanager
def control_stage(model: Model, made: Geometry) -> Iterator[Stage]:
    """Stage control with a renderer that takes its time."""

    def render_maps(*_: object) -> Iterator[dict[str, np.ndarray]]:
        for first in range(0, len(made), control.BLOCK):
            normals, mask = (of[first : first + control.BLOCK] for of in (made.normals, made.mask))
            model(len(normals))
            yield {"normals": control.encode_normals(normals), "coverage": np.uint8(255 * mask)}

    before = control.render_maps, control.load_proxy
    control.render_maps, control.load_proxy = render_maps, lambda *_: SimpleNamespace(frames=len(made))
    try:
        loaded = SimpleNamespace(REGIONS=())
        yield replace(
            with_code("control"), parents=("crop",), load=lambda *_: loaded, process=with_proxy(control.process)
        )
    finally:
        control.render_maps, control.load_proxy = before


def with_proxy(process: object) -> object:
    def wrapped(clip: Clip, out: StoreWriter) -> None:
        clip.parents["proxy"] = None
        process(clip, out)

    return wrapped


def busy(made: Stage, model: Model, results: Path, rows: list[Row], wanted: bool) -> tuple[float, float]:
    """Model time / wall time, and the latter in seconds."""
    config = Config(results=results, latents=Latents(size=SIZE))
    before, loop.worthwhile, model.used = loop.worthwhile, lambda device: wanted, 0.0
    start = time.perf_counter()
    try:
        index = loop.run(replace(made, version=100 + wanted), rows, config)
    finally:
        loop.worthwhile = before
    seconds = time.perf_counter() - start
    assert {outcome.status for outcome in index.values()} == {"ok"}, index
    return model.used / seconds, seconds


def main(clips: int, frames: int) -> None:
    pictures = film(frames)
    made = maps_of(pictures)
    print(f"{clips} clips of {frames} frames, {overlap.threads()} thread(s), load {os.getloadavg()[0]:.1f}")
    print(f"{'stage':10} ms a frame   busy: in turn   overlapped   wall s: in turn   overlapped")
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        rows = [Row(f"c{i}", "bench", f"c{i}", "") for i in range(clips)]
        for row in rows:
            with StoreWriter(results / "crop" / f"{row.clip}.zarr", {"key": row.clip}) as out:
                stream = out.stream("frames", frames, pictures.shape[1:], np.uint8, videocodec.COLOURS)
                stream.append(pictures)
        for name, costs in MODEL.items():
            for cost in costs:
                model = Model(cost)
                if name == "control":
                    with control_stage(model, made) as chosen:
                        found = [busy(chosen, model, results, rows, wanted) for wanted in (False, True)]
                else:
                    chosen = geometry_stage(model, made) if name == "geometry" else latents_stage(model)
                    found = [busy(chosen, model, results, rows, wanted) for wanted in (False, True)]
                shares, walls = zip(*found, strict=True)
                print(f"{name:10} {cost:10} {shares[0]:15.0%} {shares[1]:12.0%} {walls[0]:17.1f} {walls[1]:12.1f}",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main(*(int(value) for value in (sys.argv[1:] + ["6", "100"][len(sys.argv) - 1 :])))
