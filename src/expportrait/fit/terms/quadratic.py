"""What the quadratic terms of an offset field share: fields as they see them, and x^T K x with a closed derivative."""

from dataclasses import dataclass
from typing import Protocol

import scipy.sparse as sp
import torch
from torch import Tensor

MILLI = 1000.0  # offsets are metres, their weights are per mm^2


@dataclass
class Field:
    """An offset field: ``offset`` (n, ..., 3) m; ``moved``, alike, less where all terms but L_lap are zero; ``along``
    (n, 3, 3) projects onto the surface. A step is a field whose ``moved`` is its ``offset``."""

    offset: Tensor
    moved: Tensor
    along: Tensor | None = None


class FieldTerm(Protocol):
    """A term w x^T K x / n of a field x over n vertices, a mean over vertices and trailing fields.

    ``unit``: times K, for weights per mm^2. ``matrix`` (n, n): K, where it is the same along x, y and z.
    """

    unit: float
    matrix: sp.csr_matrix | None

    def energy(self, x: Field, weight: float) -> Tensor:
        """The term of a field (n, ..., 3)."""

    def gradient(self, x: Field, weight: float) -> Tensor:
        """(n, 3): weight times K x, which is n / 2 times the derivative."""

    def diagonal(self, weight: float, along: Tensor | None) -> Tensor | float:
        """(n,) about the diagonal of weight times K over the unit, for preconditioning."""


class _Product(torch.autograd.Function):
    """x^T K x for a sparse symmetric K: its gradient is one more product, not a graph through the sparse kernel."""

    @staticmethod
    def forward(ctx, x: Tensor, matrix: Tensor) -> Tensor:  # noqa: ANN001
        product = (matrix @ x.flatten(1)).view_as(x)
        ctx.save_for_backward(product)
        return (x * product).sum()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN001
        (product,) = ctx.saved_tensors
        return 2 * gradient * product, None


def quadratic(x: Tensor, matrix: Tensor) -> Tensor:
    """(): x^T K x of a field (n, ..., 3), K (n, n) sparse and symmetric."""
    return _Product.apply(x, matrix)


def count(x: Tensor) -> int:
    """How many vertices, and those of how many fields, a field (n, ..., 3) has."""
    return x.numel() // 3
