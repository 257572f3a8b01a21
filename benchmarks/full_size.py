"""Stores as the stages write them, of the size that a training reads: 512 px, windows of 81 frames."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchmarks.made_heads import make_truth
from benchmarks.overlap import SIZE, film
from benchmarks.scale import WanShaped

from expportrait.engine.loop import run
from expportrait.estimators.head_landmarks import load_head
from expportrait.generator.codec import resize
from expportrait.generator.data import Windows
from expportrait.manifest.clips import Row
from expportrait.render import Maps
from expportrait.settings.config import Config
from expportrait.stages import control, with_code
from expportrait.store import Store, StoreWriter, videocodec

WINDOW, PORTRAITS = 81, 2
RELIEF = 0.06  # of the normals: with it, control normals take the bytes that those of the demo's fits take
KINDS = {"crop": {"frames": videocodec.COLOURS}, "control": {"normals": videocodec.VECTORS, "coverage": None}}


def heads(frames: int, size: int) -> dict[str, np.ndarray]:
    """Control maps of a head that turns and talks, with a skin of some relief that moves."""
    targets = make_truth(load_head(), frames, size).targets
    rough = torch.randn(size // 4, size // 4, 3, generator=torch.Generator().manual_seed(2)).repeat_interleave(4, 0)
    rough = RELIEF * torch.stack([rough.repeat_interleave(4, 1).roll((t, t // 2), (0, 1)) for t in range(frames)])
    normals = torch.nn.functional.normalize(targets.normals + rough, dim=-1) * targets.mask[..., None]
    face = torch.zeros(targets.mask.shape, dtype=torch.long)
    return control.encode(Maps(normals, targets.depth, targets.mask, face), load_head(), [])


def make_stores(folder: Path, clips: int = 3, frames: int = 161, size: int = SIZE, window: int = WINDOW) -> None:
    """Stores of the stages crop, control, latents and carry. The codec's latents are noise, of the shape and with the
    spread of Wan's; what the portrait carried along shows is noise too."""
    config = Config(results=folder, latents={"size": size, "window": window, "stride": window - 1})
    rows = [Row(f"clip{k}", "bench", f"clip{k}", "") for k in range(clips)]
    arrays = {"frames": resize(film(frames), size), **heads(frames, size)}
    for stage, packing in KINDS.items():
        for k, row in enumerate(rows):
            with StoreWriter(folder / stage / f"{row.clip}.zarr", {"key": f"{stage} {k}"}) as out:
                for name, qp in packing.items():
                    stream = out.stream(name, frames, arrays[name].shape[1:], arrays[name].dtype, qp)
                    stream.append(np.roll(arrays[name], 7 * k, 2))
    stage = replace(with_code("latents"), load=lambda settings, device: WanShaped())
    outcomes = run(stage, rows, config)
    assert {outcome.status for outcome in outcomes.values()} == {"ok"}, outcomes
    for row in rows:
        carry(folder, row.clip)


def carry(folder: Path, clip: str) -> None:
    made, random = Store(folder / "latents" / f"{clip}.zarr"), np.random.default_rng(1)
    latents = made["windows"]
    count, side, window = len(latents) * PORTRAITS, latents.shape[-1], made.attrs["window"]
    given = {name: made.attrs[name] for name in ("codec", "size", "window", "starts", "references")}
    several = [[*range(PORTRAITS)] for _ in latents]
    with StoreWriter(folder / "carry" / f"{clip}.zarr", {"key": "carry", **given, "portraits": several}) as out:
        appearance = out.stream("appearance", count, latents.shape[1:], np.float16)
        seen = out.stream("seen", count, (window, side, side), np.uint8)
        for row in range(count):
            appearance.append(np.roll(latents[row // PORTRAITS], 1 + row, 0)[None])
            blocks = random.integers(0, 256, (window, side // 8, side // 8)).repeat(8, 1).repeat(8, 2)
            seen.append(blocks[None].astype(np.uint8))


def windows(folder: Path, maps: Sequence[str]) -> Windows:
    """Of these stores; nothing is held in memory, as of a data set that does not fit."""
    clips = sorted(path.stem for path in (folder / "latents").glob("*.zarr"))
    stores = {stage: {clip: folder / stage / f"{clip}.zarr" for clip in clips}
              for stage in ("latents", "control", "carry")}  # fmt: skip
    made = Windows(stores["latents"], stores["control"], maps, stores["carry"])
    made._held = None
    return made
