"""What the moving average of its weights costs the generator's training: ``python benchmarks/average.py``.

Steps of the tiny preset, one window of 9 frames at 256 px, one thread: milliseconds (median of 20, each of the two in
turn), the ratio, and the bytes that a weight takes.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu import generator_batch, generator_model

from expportrait.engine.average import Average
from expportrait.engine.training import trainable
from expportrait.generator.train import flow_losses

TIMES = 20


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Train, print."""
    torch.set_num_threads(1)
    model, batch = generator_model(tiny=True).train(), generator_batch(9, 256)
    weights = trainable(model)
    optimizer, average = torch.optim.AdamW(weights.values(), lr=1e-5, fused=True), Average(weights, 0.999)

    def step() -> None:
        flow_losses(model, batch, "velocity").mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    steps, follows = zip(*[(milliseconds(step), milliseconds(lambda n=n: average.follow(n))) for n in range(TIMES)],
                         strict=True)  # fmt: skip
    without, added = statistics.median(steps), statistics.median(follows)
    count = sum(value.numel() for value in weights.values())
    kept = sum(value.nbytes for value in average.values.values())
    print(f"{count / 1e6:.2f} M weights: a step {without:.1f} ms, its average {added:.2f} ms, "
          f"{1 + added / without:.4f} times as long; {kept / count:.0f} bytes a weight")  # fmt: skip


if __name__ == "__main__":
    main()
