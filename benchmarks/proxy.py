"""Cost and gain of the proxy's fit on a rendered head with known hair: CPU seconds a frame of each stage, and its
errors over those of the coarse head alone.

    python benchmarks/proxy.py [--frames 24]
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.made_heads import make_truth

from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.evaluate import evaluate
from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.fit.model import ClipModel
from expportrait.fit.problem import Problem
from expportrait.fit.proxy import ProxyFitter
from expportrait.settings.config import Proxy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    frames = parser.parse_args().frames
    torch.set_num_threads(1)
    head, settings = load_head(), Proxy()
    truth = make_truth(head, frames, size=512)
    confidence = torch.ones(frames)

    problem = Problem.of(head, truth.targets, truth.points, confidence, settings)
    coarse = fit_landmarks(head, problem.detected, problem.confidence, problem.size, settings)
    before = evaluate(ClipModel(problem, coarse), settings.fine_size, dense=False)

    seconds: dict[str, float] = {}
    clock = time.process_time()

    def track(stage: str, _: float) -> None:
        nonlocal clock
        now = time.process_time()
        seconds[stage] = seconds.get(stage, 0.0) + now - clock
        clock = now

    fit = ProxyFitter(head, truth.targets, truth.points, confidence, settings).run(track=track)
    print(f"{frames} frames of 512 px, {len(head.dense.template)} vertices, one thread")
    for stage, total in seconds.items():
        print(f"{stage:10} {total / frames:6.3f} CPU s a frame")
    print(f"{'all':10} {sum(seconds.values()) / frames:6.3f} CPU s a frame")
    for name in ("landmark", "normal_deg", "overlap"):
        ours, alone = fit.errors[name].mean(), before[name].mean()
        print(f"{name:10} {ours:.4f}, coarse alone {alone:.4f}, ratio {ours / alone:.2f}")


if __name__ == "__main__":
    main()
