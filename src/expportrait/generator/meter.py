"""What a training step takes: how long the transformer was at work in it, memory, and the ratio to the floor."""

import time
from typing import Any

import torch
from torch import Tensor

from expportrait.engine.costs import peak_memory
from expportrait.engine.log import Row
from expportrait.generator.flop import peak, step_flop
from expportrait.generator.model import PortraitTransformer
from expportrait.settings.config import Generator

GIB = 1 << 30
MIB = 1 << 20


class Meter:
    """``figures`` gives further columns of the log. The transformer is timed by what it is asked and what it answers,
    forwards and, by their gradients, backwards.

    A GPU is timed by its own events, for which nothing waits: by the time that figures are asked for, the step's loss
    has come from the GPU, and with it all that was recorded before.
    """

    def __init__(self, model: PortraitTransformer, settings: Generator, tokens: int, processes: int, device: str):
        self.tokens, self._gpu = settings.batch * tokens, device.startswith("cuda")  # of a step
        self.flop = step_flop(settings, tokens) / processes  # of a step, of this process
        self.peak, self.source = peak(device, settings.precision)
        self._spans: list[list[Any]] = []
        model.transformer.register_forward_pre_hook(self._asked)
        model.transformer.register_forward_hook(self._answered)

    def figures(self, seconds: float) -> Row:
        """Of the step that took ``seconds``: tokens, of all processes; TFLOP/s of this one; its time by that at the
        peak; the peak of memory, GiB; seconds that were not the transformer's, waiting among them."""
        spent = sum(self._between(*span) for span in self._spans if len(span) == 2)
        self._spans.clear()
        rate = self.flop / seconds
        return {"tokens": self.tokens, "tflops": rate / 1e12, "floor": self.peak / rate, "memory": memory(self._gpu),
                "other": max(0.0, seconds - spent)}  # fmt: skip

    def _asked(self, module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            backward: list[Any] = []
            self._spans += [self._now()], backward
            if given[0].requires_grad:
                given[0].register_hook(lambda _: backward.append(self._now()))

    def _answered(self, module: torch.nn.Module, given: tuple[Tensor, ...], made: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            *_, forward, backward = self._spans
            forward.append(self._now())
            made[0].register_hook(lambda _: backward.append(self._now()))

    def _now(self) -> Any:
        if not self._gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1000 if self._gpu else end - start


def memory(gpu: bool) -> float:
    """GiB at most since it was last asked; without a GPU, of the process, since the training began."""
    if not gpu:
        return peak_memory() * MIB / GIB
    held = torch.cuda.max_memory_allocated() / GIB
    torch.cuda.reset_peak_memory_stats()
    return held
