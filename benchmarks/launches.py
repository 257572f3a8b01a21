"""What a fit asks of a GPU: operations launched there, and how often the program waits for one, by stage of the fit.

    python benchmarks/launches.py [--frames 100] [--size 512] [--json FILE]

Counted on a pretended GPU (benchmarks/pretend_gpu.py), in the code that a real one runs: an operation that is no view
launches a kernel or more, a transfer included; where its result has to be known on the CPU (a number, the size of a
selection, a copy), the program waits for all that was launched before. A second fit of a quarter of the frames tells
what a frame costs (slope) and what a clip costs beside its frames (offset).
"""

import argparse
import json
import platform
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.made_heads import make_truth
from benchmarks.pretend_gpu import pretend_gpu

from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.proxy import ProxyFitter
from expportrait.options import layered
from expportrait.settings.config import Proxy

COUNTED = {"operations": "launches", "synchronisations": "waits"}
US = 6  # of the CPU for a launch, at the least
LEFT_OUT = "set-up"  # what is done before the first step, and once after the last


def counted(frames: int, size: int, settings: Proxy) -> dict[str, Counter]:
    """Operations and synchronisations of one fit, by stage."""
    head, truth = load_head(), make_truth(load_head(), frames, size)
    found = {name: Counter() for name in COUNTED}
    with pretend_gpu() as gpu:
        head = head.to("cuda")
        before = {name: getattr(gpu, of) for name, of in COUNTED.items()}

        def track(stage: str, _: float) -> None:
            for name, of in COUNTED.items():
                found[name][stage] += getattr(gpu, of) - before[name]
                before[name] = getattr(gpu, of)

        fitter = ProxyFitter(head, truth.targets, truth.points, torch.ones(frames), settings)
        track(LEFT_OUT, 0)
        fitter.run(track=track)
        track(LEFT_OUT, 0)
    return found


def per_frame(lengths: tuple[int, int], counts: tuple[int, int]) -> dict[str, float]:
    """Of two fits: the longer one's count a frame, the slope a frame, and the offset a clip."""
    slope = (counts[1] - counts[0]) / (lengths[1] - lengths[0])
    figures = {"per_frame": counts[1] / lengths[1], "slope": slope, "offset": counts[1] - lengths[1] * slope}
    return {name: round(value, 1) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", type=int, default=512, help="px, of the estimates")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=NUMBER", help="of the section proxy")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Sparse CSR")
    settings = layered([], [f"proxy.{pair}" for pair in asked.set], {}).proxy
    lengths = max(2, asked.frames // 4), asked.frames
    clock = time.process_time()
    fits = [counted(frames, asked.size, settings) for frames in lengths]
    report = {
        "frames": asked.frames, "size": asked.size, "torch": torch.__version__, "python": platform.python_version(),
        "cpu_seconds": round(time.process_time() - clock),
    }  # fmt: skip
    for name in COUNTED:
        by_stage = {stage: (fits[0][name][stage], fits[1][name][stage]) for stage in fits[1][name]}
        by_stage["all"] = tuple(sum(counts) for counts in zip(*by_stage.values(), strict=True))
        figures = {stage: per_frame(lengths, counts) for stage, counts in by_stage.items()}
        report |= {f"{name}_{key}": value for key, value in figures["all"].items()} | {f"{name}_by_stage": figures}
    print(f"A fit of {asked.frames} frames of {asked.size} px; slope and offset against one of {lengths[0]} frames.")
    for name in COUNTED:
        print(f"{name:16} {'a frame':>9} {'slope':>9} {'offset':>9}")
        for stage, of in report[f"{name}_by_stage"].items():
            print(f"  {stage:14} {of['per_frame']:9.1f} {of['slope']:9.1f} {of['offset']:9.0f}")
    print(f"At {US} us a launch: {report['operations_per_frame'] * US / 1e6:.3f} s a frame, whatever the GPU.")
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
