"""The terms of an offset field that are its own, together: as energies for Adam, in closed form for linear solvers."""

from collections.abc import Mapping
from dataclasses import dataclass

import scipy.sparse as sp
import torch
from torch import Tensor

from expportrait.fit.mesh_operators import to_torch
from expportrait.fit.terms.quadratic import Field, FieldTerm


@dataclass
class OffsetWeights:
    """Of one field's terms, by name; those without are left out. ``along`` (n, 3, 3): see ``Field``."""

    of: Mapping[str, float]
    along: Tensor | None = None


class OffsetEnergy:
    """All ``terms`` of a field over n vertices, by their names. ``laplacian`` (n, n) of its mesh."""

    def __init__(self, terms: Mapping[str, FieldTerm], laplacian: sp.csr_matrix, device: torch.device | str):
        self.n, self.named, self.device = laplacian.shape[0], terms, device
        self.average = to_torch(sp.identity(self.n) - laplacian).to(device)
        self._sums: dict[tuple[float, ...], Tensor] = {}

    def terms(self, offset: Tensor, rest: Tensor | None, w: OffsetWeights) -> dict[str, Tensor]:
        """Every weighted term of ``offset`` (n, ..., 3) m; ``rest``, alike: where all but L_lap are zero."""
        x = Field(offset, offset if rest is None else offset - rest, w.along)
        return {name: term.energy(x, w.of[name]) for name, term in self.named.items() if name in w.of}

    def split(self, w: OffsetWeights) -> tuple[list[tuple[FieldTerm, float]], list[tuple[FieldTerm, float]]]:
        """Terms and weights: those with a matrix, and those without."""
        both = [(term, w.of[name]) for name, term in self.named.items() if name in w.of]
        return [x for x in both if x[0].matrix is not None], [x for x in both if x[0].matrix is None]

    def gradient(self, offset: Tensor, moved: Tensor, w: OffsetWeights) -> Tensor:
        """(n, 3): the derivative of the sum of ``terms`` by ``offset`` (n, 3), of which ``moved`` is less the rest. It
        is linear: of a step, as both, it is the product with the second derivatives."""
        x, (alike, others) = Field(offset, moved, w.along), self.split(w)
        out = 2 / self.n * sum(term.gradient(x, weight) for term, weight in alike)
        return sum((term.gradient(x, 2 / self.n * weight) for term, weight in others), out)

    def product(self, step: Tensor, w: OffsetWeights) -> Tensor:
        """(n, 3): ``step`` (n, 3) times the second derivatives; of all terms with a matrix at once."""
        alike, others = self.split(w)
        key = tuple(weight for _, weight in alike)
        if key not in self._sums:
            total = sum(weight * term.unit * term.matrix for term, weight in alike)
            self._sums[key] = to_torch(2 / self.n * total).to(self.device)
        x = Field(step, step, w.along)
        return sum((term.gradient(x, 2 / self.n * weight) for term, weight in others), self._sums[key] @ step)

    def diagonal(self, w: OffsetWeights) -> Tensor:
        """(n,) of about the second derivatives, for preconditioning."""
        (alike, others), own = self.split(w), {}
        for term, weight in alike:  # units last: sums of the weights alone round as they always did
            own[term.unit] = own.get(term.unit, 0.0) + term.diagonal(weight, w.along)
        total = sum(unit * found for unit, found in own.items())
        return 2 / self.n * sum((term.diagonal(term.unit * weight, w.along) for term, weight in others), total)

    def smooth(self, field: Tensor, rounds: int) -> Tensor:
        """Average a (n, ...) field over neighbours ``rounds`` times."""
        flat = field.flatten(1)
        for _ in range(rounds):
            flat = 0.5 * flat + 0.5 * (self.average @ flat)
        return flat.view_as(field)
