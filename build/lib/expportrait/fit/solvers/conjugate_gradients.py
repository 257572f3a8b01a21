"""Preconditioned conjugate gradients over several tensors of unknowns."""

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradients(
    product: Callable[[list[Tensor]], list[Tensor]], residual: list[Tensor], diagonal: list[Tensor], iterations: int
) -> list[Tensor]:
    """Solve a positive definite system for all tensors of unknowns together.

    ``product``: of the system with a step; ``residual``: the right side; ``diagonal``: about the system's own.
    """

    def dot(x: list[Tensor], y: list[Tensor]) -> Tensor:
        first, *others = (torch.dot(a.flatten(), b.flatten()) for a, b in zip(x, y, strict=True))
        return sum(others, first)

    def plus(x: list[Tensor], factor: Tensor, y: list[Tensor], sign: int = 1) -> list[Tensor]:
        return [torch.addcmul(a, factor, b, value=sign) for a, b in zip(x, y, strict=True)]

    solution = [torch.zeros_like(x) for x in residual]
    ready = [a / b for a, b in zip(residual, diagonal, strict=True)]
    direction, size = ready, dot(residual, ready)
    for _ in range(iterations):
        change = product(direction)
        along = size / dot(direction, change).clamp_min(1e-30)
        solution, residual = plus(solution, along, direction), plus(residual, along, change, -1)
        ready = [a / b for a, b in zip(residual, diagonal, strict=True)]
        size, old = dot(residual, ready), size
        direction = plus(ready, size / old.clamp_min(1e-30), direction)
    return solution
