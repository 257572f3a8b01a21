"""Small clips with known motion, and the stores of the stages that the generator reads."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expportrait.engine.loop import run
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import pair_row
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.store import StoreWriter, encode_normals

# A run small enough for tests: 32 px, windows of 5 frames.
SETTINGS = {
    "latents": {"codec": "linear", "channels": 16, "space": 4, "size": 32, "window": 5, "stride": 4, "references": 2},
    "generator": {
        "preset": "tiny", "reference": "conv", "prediction": "x0", "loss_weight": "sample", "shift": 8, "steps": 6,
        "batch": 2, "micro": 2, "learning_rate": 3e-3, "warmup": 2, "precision": "no", "checkpointing": "none",
        "save_every": 2, "drop_reference": 0, "drop_control": 0, "drop_both": 0,
    },
    "reenact": {"steps": 2, "overlap": 2},
}  # fmt: skip


def config(results: Path, **sections: dict) -> Config:
    return Config(results=results, **{name: values | sections.get(name, {}) for name, values in SETTINGS.items()})


def ball(frames: int, phase: float, colour: tuple[int, int, int], size: int = 64) -> tuple[np.ndarray, ...]:
    """A ball that swings: frames (T, H, W, 3) u8, normals (T, H, W, 3) and coverage (T, H, W) u8."""
    y, x = np.mgrid[:size, :size] + 0.5
    pictures, normals, coverage = [], [], []
    for t in range(frames):
        u = (x - size / 2 - size / 5 * np.sin(phase + t / 2)) / (size / 3)
        v = (y - size / 2) / (size / 3)
        inside = u * u + v * v < 1
        z = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
        shown = np.array(colour) * (0.4 + 0.6 * z[..., None])
        pictures.append(np.where(inside[..., None], shown, 90).astype(np.uint8))
        normals.append(np.where(inside[..., None], np.stack([u, -v, z], -1), 0))
        coverage.append(np.where(inside, 255, 0).astype(np.uint8))
    return np.array(pictures), np.array(normals), np.array(coverage)


CLIPS = {"a": (0.0, (250, 120, 40)), "b": (2.0, (40, 120, 250))}


def clip_stores(results: Path, frames: int = 12) -> list[Row]:
    """Stores of the stages crop and control for two clips; returns the clips' rows."""
    for clip, (phase, colour) in CLIPS.items():
        pictures, normals, coverage = ball(frames, phase, colour)
        with StoreWriter(results / "crop" / f"{clip}.zarr", {"key": f"crop {clip}"}) as out:
            out.array("frames", pictures)
            out.array("timestamps", np.arange(frames) / 25)
            out.attrs(fps=25.0)
        with StoreWriter(results / "control" / f"{clip}.zarr", {"key": f"control {clip}"}) as out:
            out.array("normals", encode_normals(normals))
            out.array("coverage", coverage)
    return [Row(clip, "test", clip, Path(clip), person=clip) for clip in CLIPS]


def drive_store(results: Path, target: str, driver: str, frames: int = 12) -> Row:
    """A pair's control maps: here the driver's own, the two heads being alike."""
    _, normals, coverage = ball(frames, *CLIPS[driver])
    rows = {clip: Row(clip, "test", clip, Path(clip), person=clip) for clip in CLIPS}
    pair = pair_row(rows[target], rows[driver])
    _, own, covered = ball(1, *CLIPS[target])
    with StoreWriter(results / "drive" / f"{pair.clip}.zarr", {"key": f"drive {pair.clip}"}) as out:
        out.array("normals", encode_normals(normals))
        out.array("coverage", coverage)
        out.array("reference_normals", encode_normals(own))
        out.array("reference_coverage", covered)
        out.attrs(target=target, driver=driver, reference=0)
    return pair


def latent_stores(results: Path, settings: Config) -> list[Row]:
    """All that the generator trains on."""
    rows = clip_stores(results)
    index = run(with_code("latents"), rows, settings)
    assert {outcome.status for outcome in index.values()} == {"ok"}
    return rows


def to_frames(video: Tensor) -> np.ndarray:
    """(1, 3, T, H, W) in -1..1 to (T, H, W, 3) u8 RGB."""
    return ((video[0].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()
