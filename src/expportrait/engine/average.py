"""A moving average of the weights during a training: steadier than the last step's, which follow its few samples."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from expportrait.engine.parts import local


class Average:
    """``values``, float32 by name: the average of ``weights``, which it follows step by step; at first what these are.

    A step keeps min(``decay``, (1 + step) / (10 + step)) of it. So the average is one over about a tenth of the steps
    at first, and a short training's is not biased to the weights that it began with.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float):
        self.weights, self.decay = weights, decay
        self.values = {name: value.detach().float().clone() for name, value in weights.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take in what ``step``, from 0 on, made of the weights."""
        kept = min(self.decay, (1 + step) / (10 + step))
        weights = [local(value).float() for value in self.weights.values()]
        torch._foreach_lerp_([local(value) for value in self.values.values()], weights, 1 - kept)

    @torch.no_grad()
    def put(self) -> None:
        """Write the average into the weights."""
        for name, value in self.weights.items():
            value.copy_(self.values[name])

    @contextmanager
    def instead(self) -> Iterator[None]:
        """Inside, the weights are the average; afterwards they are what they were, to the last bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self.weights.items():  # one after the other: no second copy of all of them
            kept = value.detach().clone()
            value.copy_(self.values[name])
            self.values[name].copy_(kept)
