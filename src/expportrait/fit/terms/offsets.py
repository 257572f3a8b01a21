"""The quadratic terms of an offset field: L_mag, L_lap and L_str, and what D_s may slide along the surface."""

from dataclasses import dataclass

import scipy.sparse as sp
import torch
from torch import Tensor

from expportrait.fit.mesh_operators import to_torch

MILLI = 1000.0  # offsets are metres, their weights are per mm^2


class _Quadratic(torch.autograd.Function):
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


@dataclass
class OffsetWeights:
    """Of one field's own terms: L_mag and L_lap (per mm^2), squared stretch, L_mag along the surface (per mm^2), for
    which ``along`` (n, 3, 3) projects onto it."""

    magnitude: float
    laplacian: float
    strain: float
    tangent: float = 0.0
    along: Tensor | None = None


class OffsetEnergy:
    """L_mag, L_lap and L_str of an offset field over ``n`` vertices, as means over vertices; the first two per mm^2.

    ``terms`` are what Adam differentiates; ``gradient`` is their derivative in closed form, for the linear solver.
    """

    def __init__(
        self,
        laplacian: sp.csr_matrix,
        strain: sp.csr_matrix,
        device: torch.device | str = "cpu",
        held: Tensor | None = None,
    ):
        """``held`` (n,): times L_mag of a vertex."""
        self.n = laplacian.shape[0]
        self.held = torch.ones(self.n, 1, device=device) if held is None else held[:, None].to(device)
        self.bilaplacian = to_torch(laplacian.T @ laplacian).to(device)
        self.strain = to_torch(strain).to(device)
        self.stiffness = torch.from_numpy(strain.diagonal()).float().to(device)
        self.average = to_torch(sp.identity(self.n) - laplacian).to(device)
        self._parts = sp.diags(self.held[:, 0].double().cpu().numpy()), laplacian.T @ laplacian, strain
        self._sums: dict[tuple[float, ...], Tensor] = {}

    def sum(self, w: OffsetWeights) -> Tensor:
        """(n, n) sparse: the second derivatives of all ``terms`` but the one along the surface."""
        key = w.magnitude, w.laplacian, w.strain
        if key not in self._sums:
            held, smooth, strain = self._parts
            total = MILLI**2 * (w.magnitude * held + w.laplacian * smooth) + w.strain * strain
            self._sums[key] = to_torch(2 / self.n * total).to(self.held.device)
        return self._sums[key]

    def __call__(self, offset: Tensor, magnitude: float = 0.0, smoothness: float = 0.0, strain: float = 0.0) -> Tensor:
        """offset (n, ..., 3) m -> weighted sum, a mean over the trailing fields."""
        loss = magnitude * MILLI**2 * (self.held * offset.flatten(1).square()).sum()
        if smoothness:
            loss = loss + smoothness * MILLI**2 * _Quadratic.apply(offset, self.bilaplacian)
        if strain:
            loss = loss + strain * _Quadratic.apply(offset, self.strain)
        return loss / (self.n * (offset[0].numel() // 3))

    def terms(self, offset: Tensor, rest: Tensor | None, w: OffsetWeights) -> dict[str, Tensor]:
        """Every weighted term of ``offset`` (n, ..., 3) m; ``rest``, alike: where all but L_lap are zero."""
        moved = offset if rest is None else offset - rest
        found = {"magnitude": self(moved, w.magnitude), "strain": self(moved, strain=w.strain)}
        found["laplacian"] = self(offset, smoothness=w.laplacian)
        if w.along is not None:
            slid = torch.einsum("nij,n...j->n...i", w.along, moved)
            found["tangent"] = w.tangent * MILLI**2 * (slid * moved).sum(-1).mean()
        return found

    def gradient(self, offset: Tensor, moved: Tensor, w: OffsetWeights) -> Tensor:
        """(n, 3): the derivative of the sum of ``terms`` by ``offset`` (n, 3), of which ``moved`` is less the rest. It
        is linear: of a step, as both, it is the product with the second derivatives."""
        out = w.magnitude * MILLI**2 * self.held * moved + w.strain * (self.strain @ moved)
        if w.laplacian:
            out = out + w.laplacian * MILLI**2 * (self.bilaplacian @ offset)
        out = 2 / self.n * out
        return out if w.along is None else out + self.along(moved, w)

    def product(self, step: Tensor, w: OffsetWeights) -> Tensor:
        """(n, 3): ``step`` (n, 3) times the second derivatives."""
        out = self.sum(w) @ step
        return out if w.along is None else out + self.along(step, w)

    def along(self, moved: Tensor, w: OffsetWeights) -> Tensor:
        """(n, 3): the derivative of the term along the surface."""
        return (2 / self.n * w.tangent * MILLI**2) * torch.einsum("nij,nj->ni", w.along, moved)

    def diagonal(self, w: OffsetWeights) -> Tensor:
        """(n,) of about the second derivatives, for preconditioning."""
        own = (w.magnitude * self.held[:, 0] + 1.2 * w.laplacian) * MILLI**2 + w.strain * self.stiffness
        if w.along is not None:
            own = own + w.tangent * MILLI**2 * w.along.diagonal(dim1=1, dim2=2).mean(1)
        return 2 / self.n * own

    def smooth(self, field: Tensor, rounds: int) -> Tensor:
        """Average a (n, ...) field over neighbours ``rounds`` times."""
        flat = field.flatten(1)
        for _ in range(rounds):
            flat = 0.5 * flat + 0.5 * (self.average @ flat)
        return flat.view_as(field)
