"""Adam for clips: parameters of frames outside the mini-batch keep still, and so do their moments.

Stock Adam on a (T, ...) tensor moves frames that the batch did not touch by their momentum, which is noise here.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-12


@dataclass
class Slot:
    """One parameter: its tensor, its rate, whether its first axis is the frame, and its moments."""

    value: Tensor
    rate: float
    per_frame: bool
    shared_moment: bool = False  # one second moment for the whole tensor: keeps the direction of a smoothed gradient
    first: Tensor = field(init=False)
    second: Tensor = field(init=False)
    steps: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.value.requires_grad_(True)
        self.first = torch.zeros_like(self.value)
        rows = self.value.shape[:1] if self.per_frame else ()
        self.second = (
            torch.zeros(rows, device=self.value.device) if self.shared_moment else torch.zeros_like(self.value)
        )
        self.steps = torch.zeros(rows, device=self.value.device)


class ClipAdam:
    """Adam over named slots; ``step(frames)`` moves the shared slots and the rows ``frames`` of per-frame ones."""

    def __init__(self, slots: dict[str, Slot]):
        self.slots = slots

    def zero_grad(self) -> None:
        for slot in self.slots.values():
            slot.value.grad = None

    @torch.no_grad()
    def step(self, frames: Tensor | None, rate_factor: float = 1.0) -> None:
        for slot in self.slots.values():
            if slot.value.grad is None:
                continue
            rows = frames if slot.per_frame and frames is not None else slice(None)
            index = rows if slot.per_frame else ...
            gradient = slot.value.grad[index]
            slot.steps[index] += 1
            steps = slot.steps[index]
            first = BETA1 * slot.first[index] + (1 - BETA1) * gradient
            square = gradient.square()
            if slot.shared_moment:
                square = square.flatten(1).amax(1) if slot.per_frame else square.amax()
            second = BETA2 * slot.second[index] + (1 - BETA2) * square
            slot.first[index], slot.second[index] = first, second

            def rows_of(x: Tensor, like: Tensor = gradient) -> Tensor:
                return x.reshape(x.shape + (1,) * (like.dim() - x.dim()))

            scale = rows_of((1 - BETA2**steps).sqrt() / (1 - BETA1**steps))
            slot.value[index] -= rate_factor * slot.rate * scale * first / (rows_of(second).sqrt() + EPSILON)
