"""The path from video to geometry store around networks of the real ones' arithmetic (slow_networks.py).

    python benchmarks/estimator_cost.py david [--frames 4] [--device cpu]
    python benchmarks/estimator_cost.py sapiens --frames 1

In one run, with the same threads: the model calls alone on inputs that are ready, then crop, landmarks and geometry of
one clip, stores written. Ratios are those of the bare calls' seconds to the path's, in CPU time too: other work on the
machine changes wall time between the two.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.estimators import SIZE, bare, clip
from benchmarks.slow_networks import david_base, sapiens_small

from benchmarks import clip_path
from expportrait.estimators.geometry.registry import load_estimator
from expportrait.settings.config import Config

FILES = {"david": david_base, "sapiens": sapiens_small}
WHAT = {"david": "DAViD's base size, three networks", "sapiens": "Sapiens 0.3b, three networks"}


def main(
    which: Annotated[str, typer.Argument(help="david or sapiens")] = "david",
    frames: Annotated[int, typer.Option(min=1)] = 4,
    device: str = "cpu",
) -> None:
    """Print one table."""
    if which not in FILES:
        sys.exit(f"{which}: one of {', '.join(FILES)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = Config(
            results=folder / "results",
            crop={"min_frames": min(frames, 2), "size": SIZE},
            geometry={"estimator": which, **FILES[which](folder)},
        )
        estimator = load_estimator(which, config.head, config.geometry, device)
        call = bare(estimator, frames)
        start, cpu = time.perf_counter(), time.process_time()
        call()
        alone = time.perf_counter() - start, time.process_time() - cpu
        del estimator, call  # the stage loads its own
        spent = clip_path.alone(config, clip_path.films(clip(frames), 1, folder), device, None)

    print(f"{WHAT[which]}, random weights; {frames} frames of {SIZE} px, {torch.get_num_threads()} threads, {device}\n")
    print("| | s a frame | CPU s a frame | bare calls over it | in CPU time |\n" + "| --- " * 5 + "|")
    whole = tuple(map(sum, zip(*spent.values(), strict=True)))
    rows = {"bare calls": alone, **spent, "crop to geometry": whole}
    for title, (wall, cpu) in rows.items():
        counts = title in ("geometry", "crop to geometry")
        ratios = f"{alone[0] / wall:.3f} | {alone[1] / cpu:.3f}" if counts else "– | –"
        print(f"| {title} | {wall / frames:.2f} | {cpu / frames:.2f} | {ratios} |")
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    typer.run(main)
