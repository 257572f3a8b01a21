"""What all terms share: energies of residuals, rows of derivatives, and robust losses as both see them."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Terms = dict[str, Tensor]
Means = dict[
    str, tuple[Tensor, int]
]  # residuals (..., k), and over how many numbers the sum of their squares is a mean


def weighted(found: Means, weights: Mapping[str, float]) -> Terms:
    """Residuals (..., k) the sum of whose squares is the term times its weight; terms without one are left out."""
    return {name: math.sqrt(weights[name] / count) * value for name, (value, count) in found.items() if name in weights}


def energies(residuals: Terms) -> Terms:
    """The sum of the squares of the residuals (..., k), as a mean over the frames."""
    return {name: value.square().sum(-1).mean() for name, value in residuals.items()}


def add(total: Terms, more: Terms) -> None:
    """Add the terms ``more`` to those of the same names."""
    for name, value in more.items():
        total[name] = total[name] + value if name in total else value


def numbers(terms: Terms) -> dict[str, float]:
    """The values of terms (), read from the device at once."""
    if not terms:
        return {}
    return dict(zip(terms, torch.stack([x.detach() for x in terms.values()]).tolist(), strict=True))


def derived(values: Callable[..., Tensor], unknowns: int, *frames: Tensor) -> tuple[Tensor, Tensor]:
    """Values (B, ...) and their derivatives (B, ..., unknowns) by a step (unknowns,) that is still zero.

    ``values``: of a step and of what ``frames`` (B, ...) each hold for one frame. Every value is derived backwards, by
    a step of its own: torch's own Jacobians load its compiler or sympy, 40 to 70 MB and a second of every process.
    """
    batch = len(frames[0])
    found = torch.func.vmap(values)(frames[0].new_zeros(batch, unknowns), *frames)
    count = found[0].numel()
    with torch.enable_grad():
        step = found.new_zeros(count * batch, unknowns).requires_grad_()
        again = torch.func.vmap(values)(step, *(x.repeat(count, *[1] * (x.dim() - 1)) for x in frames))
        each = again.view(count, batch, count).diagonal(dim1=0, dim2=2)
        (change,) = torch.autograd.grad(each.sum(), step)
    return found, change.view(count, batch, -1).transpose(0, 1).contiguous().unflatten(1, found.shape[1:])


def rows_of(residuals: Callable[..., Terms], unknowns: int, *frames: Tensor) -> tuple[Tensor, dict[str, int]]:
    """Gauss-Newton's rows (B, k, unknowns + 1): derivatives of the residuals by a step from where they are, and last
    the residuals; half the squares of these are the energies. And the terms in order, with the rows that each has.

    ``residuals``: of a step (unknowns,) and of what ``frames`` (B, ...) each hold for one frame.
    """
    sizes: dict[str, int] = {}

    def flat(step: Tensor, *frame: Tensor) -> Tensor:
        terms = residuals(step, *frame)
        sizes.update({name: len(value) for name, value in terms.items()})
        return math.sqrt(2) * torch.cat(list(terms.values()))

    values, change = derived(flat, unknowns, *frames)
    return torch.cat([change, values[..., None]], -1), sizes


def reweighted_charbonnier(residual: Tensor, scale: float) -> Tensor:
    """The Charbonnier loss over the weight that its Gauss-Newton rows have, 1 / sqrt(r^2 + scale^2)."""
    root = (residual.square() + scale**2).sqrt()
    return root * (root - scale)


def reweighted_cauchy(residual: Tensor, scale: float) -> Tensor:
    """The Cauchy loss over the weight that its Gauss-Newton rows have, 1 / (1 + (r / scale)^2)."""
    square = 1 + (residual / scale).square()
    return square * square.log() * scale**2 / 2
