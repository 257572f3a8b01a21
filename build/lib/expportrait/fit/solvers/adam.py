"""Adam for clips: parameters of frames outside the mini-batch keep still, and so do their moments.

Stock Adam on a (T, ...) tensor moves frames that the batch did not touch by their momentum, which is noise here.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-12


def adam_step(gradient: Tensor, first: Tensor, second: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of rate 1 down a gradient: (change, first moment, second moment).

    ``steps`` counts this one. ``second`` and ``steps`` may lack trailing axes: they are then shared over those, which
    keeps the direction of a smoothed gradient.
    """

    def aligned(x: Tensor) -> Tensor:
        return x.reshape(x.shape + (1,) * (gradient.dim() - x.dim()))

    square = gradient.square()
    if second.dim() < square.dim():
        square = square.flatten(second.dim()).amax(-1)
    first, second = torch.lerp(first, gradient, 1 - BETA1), torch.lerp(second, square, 1 - BETA2)
    scale = (1 - BETA2**steps).sqrt() / (1 - BETA1**steps)
    return -aligned(scale) * first / (aligned(second).sqrt() + EPSILON), first, second


@dataclass
class Slot:
    """One parameter: its tensor, its rate, whether its first axis is the frame, and its moments."""

    value: Tensor
    rate: float
    per_frame: bool
    shared_moment: bool = False  # one second moment for the whole tensor
    first: Tensor = field(init=False)
    second: Tensor = field(init=False)
    steps: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.value.requires_grad_(True)
        self.first = torch.zeros_like(self.value)
        rows = self.value.shape[:1] if self.per_frame else ()
        self.steps = torch.zeros(rows, device=self.value.device)
        self.second = torch.zeros(rows if self.shared_moment else self.value.shape, device=self.value.device)


class ClipAdam:
    """Adam over named slots; ``step(frames)`` moves the shared slots and the rows ``frames`` of per-frame ones."""

    def __init__(self, slots: dict[str, Slot]):
        self.slots = slots

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for slot in self.slots.values():
            slot.value.grad = None

    @torch.no_grad()
    def step(self, frames: Tensor | None, rate_factor: float = 1.0) -> None:
        """Move all slots that have a gradient, by ``rate_factor`` times their rates; ``frames`` None: all rows."""
        for slot in self.slots.values():
            if slot.value.grad is None:
                continue
            if frames is None or not slot.per_frame:  # without the copies that rows take
                slot.steps += 1
                change, slot.first, slot.second = adam_step(slot.value.grad, slot.first, slot.second, slot.steps)
                slot.value.add_(change, alpha=rate_factor * slot.rate)
                continue
            slot.steps[frames] += 1
            change, slot.first[frames], slot.second[frames] = adam_step(
                slot.value.grad[frames], slot.first[frames], slot.second[frames], slot.steps[frames]
            )
            slot.value[frames] += rate_factor * slot.rate * change
