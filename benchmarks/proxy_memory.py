"""What the stage proxy takes for short and long clips: CPU seconds a frame and peak memory, from stores on the disk.

    python benchmarks/proxy_memory.py [frames ...]
    python benchmarks/proxy_memory.py --shaded 100      D_t held against the pictures' shading, as of embedded maps

A rendered head with known hair, 50 frames forwards and backwards, as stores of landmarks and geometry; every length is
fitted by the stage in a process of its own, one thread.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from expportrait.engine.loop import run
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.store import Store, StoreWriter, encode_normals, videocodec

MADE, SIZE, BLOCK = 50, 512, 16
CLIP = "head"
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


def write_stores(results: Path, frames: int, shaded: bool) -> None:
    """The parents of the stage, ``frames`` long; ``shaded``: their maps' face is said to be a fitted head's."""
    from benchmarks.made_heads import make_truth

    from expportrait.estimators.head_landmarks import load_head

    truth = make_truth(load_head(), MADE, size=SIZE)
    order = np.arange(frames) % (2 * MADE - 2)
    order = np.minimum(order, 2 * MADE - 2 - order)
    with StoreWriter(results / "crop" / f"{CLIP}.zarr", {"key": "crop"}) as out:
        stream = out.stream("frames", frames, (SIZE, SIZE, 3), np.uint8, videocodec.COLOURS, color="RGB")
        for start in range(0, frames, BLOCK):  # looked at in far turns alone, of which there are none
            stream.append(np.full((min(BLOCK, frames - start), SIZE, SIZE, 3), 128, np.uint8))
    with StoreWriter(results / "landmarks" / f"{CLIP}.zarr", {"key": "landmarks"}) as out:
        out.array("points", truth.points.numpy()[order].astype(np.float32))
        out.array("confidence", np.ones((frames, truth.points.shape[1]), np.float32))
    maps = {
        "normals": (encode_normals(truth.targets.normals.numpy()), videocodec.VECTORS),
        "depth": (truth.targets.depth.numpy().astype(np.float16), videocodec.DEPTH),
        "mask": (np.uint8(255 * (truth.targets.mask.numpy() > 0.5)), None),
        "confidence": (np.uint8(255 * (truth.targets.mask.numpy() > 0.5)), videocodec.TRUST),
    }
    about = {"key": "geometry", "depth_space": "depth", "fitted_face": shaded}
    with StoreWriter(results / "geometry" / f"{CLIP}.zarr", about) as out:
        for name, (values, qp) in maps.items():
            stream = out.stream(name, frames, values.shape[1:], values.dtype, qp)
            for start in range(0, frames, BLOCK):
                stream.append(values[order[start : start + BLOCK]])


def fit(results: Path) -> None:
    """Fit the clip of ``results`` and say what it took."""
    torch.set_num_threads(1)
    start = time.process_time()
    outcome = run(with_code("proxy"), [Row(CLIP, "bench", CLIP, "")], Config(results=results))[CLIP]
    if outcome.status != "ok":
        sys.exit(outcome.why)
    seconds = time.process_time() - start
    frames = len(Store(results / "proxy" / f"{CLIP}.zarr").lazy("pose"))
    peak = int(PEAK.search(Path("/proc/self/status").read_text())[1]) / 1024
    print(f"{frames:5} frames of {SIZE} px: {seconds / frames:.2f} CPU s a frame, peak {peak:.0f} MiB", flush=True)


def main() -> None:
    step, *rest = sys.argv[1:] or [""]
    if step == "--write":
        return write_stores(Path(rest[0]), int(rest[1]), rest[2:] == ["--shaded"])
    if step == "--fit":
        return fit(Path(rest[0]))
    shaded = ["--shaded"] if step == "--shaded" else []
    for frames in (rest if shaded else sys.argv[1:]) or ("100", "600"):
        with tempfile.TemporaryDirectory() as name:
            subprocess.run([sys.executable, __file__, "--write", name, frames, *shaded], check=True)
            subprocess.run([sys.executable, __file__, "--fit", name], check=True)


if __name__ == "__main__":
    main()
