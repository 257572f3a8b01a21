"""A training step of the generator: what the model takes, by the machine's multiplications, and what all else does.

    python benchmarks/generator_step.py                    preset mid on this CPU, one thread
    python benchmarks/generator_step.py --waits FOLDER     waiting for windows beside a GPU's step of .5 s
    python benchmarks/generator_step.py --gpu [--tiny]     preset 1.3B on a GPU, 512 px, 49 and 81 frames

On a CPU, CPU seconds of the thread that trains are counted, which other work on the machine leaves alone. --waits
reads stores of full size, which it makes in FOLDER where they are not there. A sleep stands for the GPU, longer by as
much as other work on the machine makes a thread slower.
"""

import argparse
import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from heapq import heapreplace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.full_size import PORTRAITS, WINDOW, make_stores, windows
from benchmarks.overlap import SIZE
from benchmarks.training_steps import DRAWN, WARM, on_gpu, trained

from expportrait.engine.log import Rows, read_log
from expportrait.engine.training import Course, descend
from expportrait.generator.bill import model_config
from expportrait.generator.data import Batch, Windows, stored_maps, training_batch
from expportrait.generator.flop import step_flop, window_tokens
from expportrait.settings.config import Config
from expportrait.store import Store

STEP = 0.5  # s of a GPU for a window of 81 frames at 512 px
ALL = [*DRAWN, "appearance", "seen"]
DROPS = {"shift": 3.0, "drop_reference": 0.1, "drop_control": 0.1, "drop_both": 0.05}
LENGTH = 17  # frames
# Of the profile: what a part of the step is, by the functions that do it
PARTS = {
    "model, forwards and backwards": ("flow_losses", "backward"),
    "norm of the gradient, clipping": ("_get_total_norm", "_clip_grads_with_norm_"),
    "optimizer": ("step", "zero_grad"),
    "moving average": ("follow",),
    "data (taking it)": ("__next__",),
    "figures of the log": ("figures",),
}


def cpu_rate(side: int = 1024) -> float:
    """FLOP a CPU second of one thread, of a product of matrices of float32; the best of five."""
    a, taken = torch.randn(side, side), []
    for _ in range(5):
        start = time.thread_time()
        _ = a @ a
        taken.append(time.thread_time() - start)
    return 2 * side**3 / min(taken)


def on_cpu(steps: int) -> None:
    """Preset mid, windows of ``LENGTH`` frames at 256 px from stores."""
    torch.set_num_threads(1)
    profile, began = cProfile.Profile(time.thread_time), []

    def seen(rows: Rows) -> None:
        if len(rows) == WARM:
            began.append(time.thread_time())
            profile.enable()
        elif len(rows) == WARM + steps:
            profile.disable()
            began.append(time.thread_time())

    config = Config(
        latents={"size": 256, "window": LENGTH},
        generator={"preset": "mid", "maps": DRAWN, "precision": "no", "checkpointing": "none", "batch": 1},
    )
    with tempfile.TemporaryDirectory() as folder:
        make_stores(Path(folder), 2, 33, 256, LENGTH)
        rates = [cpu_rate()]
        rows = trained(config, windows(Path(folder), DRAWN), WARM + steps, "cpu", seen)
    rates.append(cpu_rate())
    whole = (began[1] - began[0]) / steps
    spent: dict[str, float] = {}  # of functions that call one of the same name, as wrappers do, the outermost counts
    for (_, _, name), times in pstats.Stats(profile).stats.items():
        spent[name] = max(times[3], spent.get(name, 0.0))
    parts = {part: sum(spent.get(name, 0.0) for name in names) / steps for part, names in PARTS.items()}
    parts["all else of the loop"] = whole - sum(parts.values())
    tokens = window_tokens(model_config(config), 256, LENGTH)
    flop, (model, *others) = step_flop(config.generator, tokens), parts.values()
    print(f"preset mid, {tokens} tokens, {steps} steps, load {os.getloadavg()[0]:.1f}; "
          f"{min(rates) / 1e9:.0f} and {max(rates) / 1e9:.0f} GFLOP a CPU second by a product of matrices")  # fmt: skip
    for name, seconds in parts.items():
        print(f"  {name:32} {1e3 * seconds:9.1f} CPU ms {seconds / whole:8.2%}")
    print(f"the model is {model * max(rates) / flop:.2f} times the floor of {1e3 * flop / max(rates):.0f} ms, "
          f"{flop / 1e12:.3f} TFLOP; all else is {sum(others) / whole:.2%} of the step")  # fmt: skip
    waiting = statistics.median(row["waiting"] / row["seconds"] for row in rows[WARM:])
    print(f"waiting for data: {waiting:.2%} of the wall time (median)")


def costs(folder: Path, maps: Sequence[str], count: int = 12) -> list[float]:
    """CPU seconds of one window each."""
    some, taken = windows(folder, maps), []
    for step in range(count + 1):
        start = time.thread_time()
        training_batch(some, 0, step, 1, **DROPS)
        taken.append(time.thread_time() - start)
    return taken[1:]


def reading(folder: Path) -> None:
    """What the parts of a window take."""
    some, median = windows(folder, ALL), statistics.median
    stores = {(stage, clip): Store(folder / stage / f"{clip}.zarr")
              for stage in ("control", "carry") for clip, _ in some.table}  # fmt: skip

    def maps(names: list[str], clip: str, window: int) -> None:
        start = stores["carry", clip].attrs["starts"][window]
        stored_maps(stores["control", clip], slice(start, start + WINDOW), SIZE, names)

    def carried(clip: str, window: int) -> None:
        for name in ("appearance", "seen"):
            array = stores["carry", clip].lazy(name)
            array.into(np.empty((1, *array.shape[1:]), array.dtype), PORTRAITS * window)

    parts: dict[str, Callable[[str, int], object]] = {
        "normals (H.264)": partial(maps, ["normals"]),
        "coverage (Blosc)": partial(maps, ["coverage"]),
        "latents": lambda clip, window: some.latent(clip, "windows", window),
        "portrait carried along": carried,
        "noise": lambda clip, window: torch.randn(16, 21, 64, 64, generator=torch.Generator()),
    }
    for name, part in parts.items():
        taken = []
        for k in range(13):
            start = time.thread_time()
            part(*some.table[k % len(some)])
            taken.append(1e3 * (time.thread_time() - start))
        print(f"  {name:48} {median(taken[1:]):8.1f} CPU ms")
    for chosen in (["normals"], DRAWN, ALL):
        taken = costs(folder, chosen)
        print(f"  {'all of ' + ', '.join(chosen):48} {1e3 * median(taken):8.1f}, at most {1e3 * max(taken):.1f}")


def computed(seconds: Sequence[float], workers: int) -> float:
    """The share of the time that steps of ``STEP`` wait for windows that take ``seconds`` of a core each, where each
    worker has one: as the loop asks for them."""
    free, asked, clock, waited = [0.0] * workers, [0.0] * (workers + 1), 0.0, 0.0
    for number, taken in enumerate(seconds):
        done = clock + taken  # where nobody else makes it
        if workers:
            done = max(free[0], asked[number]) + taken
            heapreplace(free, done)
        wait = max(0.0, done - clock)
        waited, clock = waited + wait, clock + wait
        asked.append(clock)  # a window is taken, and another one asked for
        clock += STEP
    return waited / clock


def waits(folder: Path, steps: int) -> None:
    """The training's own loop with a model that sleeps."""
    torch.set_num_threads(1)
    if not (folder / "carry").exists():
        make_stores(folder)
    print(f"a window of 81 frames at 512 px, load {os.getloadavg()[0]:.1f}")
    reading(folder)
    wall = time.perf_counter()
    taken = costs(folder, ALL, 24)
    stretch = max(1.0, (time.perf_counter() - wall) / sum(taken) * len(taken) / (len(taken) + 1))
    print(f"other work on the machine makes a thread {stretch:.1f} times as slow: so is the step that sleeps")
    print(f"{'workers':8} computed, a core each: waiting   measured: waiting, load")
    for workers in (0, 1, 2, 4):
        some, model = windows(folder, ALL), torch.nn.Linear(1, 1)

        def losses(batch: Batch, model: torch.nn.Module = model) -> dict[str, Tensor]:
            time.sleep(stretch * STEP)
            return {"loss": model(batch.sigma[:, None]).square().mean()}

        course = Course("generator", steps, steps, 1, partial(made, some), losses, lambda step: 1e-3)
        with tempfile.TemporaryDirectory() as work:
            course = replace(course, workers=workers)
            descend(course, model, torch.optim.SGD(model.parameters()), Path(work) / "work")
            rows = read_log(Path(work) / "work" / "loss.csv")[1:]
        share = sum(row["waiting"] for row in rows) / sum(row["seconds"] for row in rows)
        print(f"{workers:7} {computed(taken * 10, workers):31.2%} {share:19.2%}, {os.getloadavg()[0]:.1f}", flush=True)


def made(some: Windows, step: int, _: int) -> Batch:
    return training_batch(some, 0, step, 1, **DROPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--waits", type=Path, metavar="FOLDER")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="with --gpu: sizes for a CPU, to see that it runs")
    asked = parser.parse_args()
    if asked.waits:
        waits(asked.waits, 4 * asked.steps)
    elif asked.gpu:
        found: dict = {}
        on_gpu(found, asked.tiny, 600, "cuda" if torch.cuda.is_available() else "cpu")
        for row in found["steps"]:
            print(row)
    else:
        on_cpu(asked.steps)


if __name__ == "__main__":
    main()
