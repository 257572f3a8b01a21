"""The portrait moved by its own clip: how near it comes to the clip's frames, and what the two maps cost.

    python benchmarks/appearance.py [--results results] [--every 4] [--lengths 50 400]

Reads the stores of a run (crop, geometry, proxy, drive/targets), of every target that is also a clip with a head of its
own: the head fitted from the reference frame alone is moved by the clip's motion with D_s alone, and the result is
compared with the clip's frames at full size, beside the portrait held still. What counts as seen is `seen` above 127.
CPU milliseconds a frame are those of the two maps, without reading and writing; for the memory, the maps of motions as
long as --lengths says are made in a process of its own each. One thread.
"""

import argparse
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from expportrait.appearance.carry import carried
from expportrait.appearance.portrait import Portrait, portrait
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.store import FittedHead, load_proxy
from expportrait.metrics.shipped_lpips import ShippedLpips
from expportrait.settings.config import HeadSettings
from expportrait.store import Store
from expportrait.transfer.drive import driven, still
from expportrait.transfer.motion import motion

PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
HEAD = "clip | frames | PSNR: still | appearance | of what is seen: still | appearance | LPIPS: still | appearance | ms"


def loaded(results: Path, clip: str, rows: np.ndarray | None = None) -> tuple[Portrait, FittedHead, np.ndarray, int]:
    """The portrait, its head with the clip's motion in the frames ``rows`` (all of them), the frames, the reference."""
    store = Store(results / "drive" / "targets" / f"{clip}.zarr")
    reference = store.attrs["reference"]
    head = load_head(HeadSettings(**store.attrs["settings"].get("head", {})))
    target, moves = load_proxy(store, head), motion(load_proxy(Store(results / "proxy" / f"{clip}.zarr"), head))
    rows = np.arange(moves.frames) if rows is None else rows % moves.frames
    picked = torch.from_numpy(np.r_[reference, rows])  # the reference first: what the motion starts from
    parts = {name: getattr(moves, name)[picked] for name in ("expression", "face", "turns", "place")}
    made = driven(target, 0, replace(moves, **parts), None, 0, True, False)
    made = replace(made, **{name: getattr(made, name)[1:] for name in ("expression", "pose", "translation", "dynamic")})
    frames = Store(results / "crop" / f"{clip}.zarr").lazy("frames")
    matte = Store(results / "geometry" / f"{clip}.zarr").lazy("mask")[reference]
    return portrait(frames[reference], matte, still(target, 0, False)), made, frames, reference


def compared(results: Path, clip: str, every: int, lpips: ShippedLpips) -> str:
    count = len(Store(results / "crop" / f"{clip}.zarr").lazy("frames"))
    reference = Store(results / "drive" / "targets" / f"{clip}.zarr").attrs["reference"]
    rows = np.setdiff1d(np.arange(0, count, every), [reference])
    shown, made, frames, _ = loaded(results, clip, rows)
    start = time.process_time()
    blocks = list(carried(shown, made))
    cost = 1000 * (time.process_time() - start) / len(rows)
    picture, seen = (np.concatenate(part) for part in zip(*blocks, strict=True))
    truth, held = frames[:][rows], frames[reference][None]
    error = [((one.astype(np.float32) - truth) ** 2).mean(-1) for one in (held, picture)]
    whole = [decibels(one.mean((1, 2))).mean() for one in error]
    inside = [decibels(np.array([e[s > 127].mean() for e, s in zip(one, seen, strict=True)])).mean() for one in error]
    far = [np.mean([lpips(a[None], b[None]) for a, b in zip(one, truth, strict=True)])
           for one in (np.broadcast_to(held, truth.shape), picture)]  # fmt: skip
    figures = [f"{v:.1f}" for v in (*whole, *inside)] + [f"{v:.3f}" for v in far] + [f"{cost:.0f}"]
    return " | ".join([clip, str(len(rows)), *figures])


def decibels(error: np.ndarray) -> np.ndarray:
    return 10 * np.log10(255**2 / error)


def peak(results: Path, clip: str, frames: int) -> None:
    """Make the maps of ``frames`` frames, one block after the other, and say what they took."""
    shown, made, *_ = loaded(results, clip, np.arange(frames))
    start, count = time.process_time(), sum(len(seen) for _, seen in carried(shown, made))
    cost = 1000 * (time.process_time() - start) / count
    memory = int(PEAK.search(Path("/proc/self/status").read_text())[1]) / 1024
    print(f"{count} | {cost:.0f} | {memory:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--lengths", type=int, nargs="*", default=[50, 400])
    parser.add_argument("--peak", nargs=2, metavar=("CLIP", "FRAMES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if given.peak:
        return peak(given.results, given.peak[0], int(given.peak[1]))
    targets = sorted(file.stem for file in (given.results / "drive" / "targets").glob("*.zarr"))
    clips = [clip for clip in targets if len(Store(given.results / "crop" / f"{clip}.zarr").lazy("frames")) > 1]
    lpips = ShippedLpips()
    print(HEAD)
    for clip in clips:
        print(compared(given.results, clip, given.every, lpips), flush=True)
    print("frames | CPU ms a frame | peak memory, MiB")
    for length in given.lengths:
        again = [sys.executable, __file__, "--results", given.results, "--peak", clips[0], str(length)]
        print(subprocess.run(again, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
