"""L_mag along the surface, per mm^2: estimates tell how far out a surface lies, hardly where on it a vertex does."""

import torch
from torch import Tensor

from expportrait.fit.terms.quadratic import MILLI, Field


class Tangent:
    """The squared length of a field's part along the surface."""

    unit = MILLI**2
    matrix = None  # it differs along x, y and z

    def energy(self, x: Field, weight: float) -> Tensor:
        """See ``FieldTerm``."""
        slid = (x.along @ x.moved[..., None])[..., 0]
        return weight * self.unit * (slid * x.moved).sum(-1).mean()

    def gradient(self, x: Field, weight: float) -> Tensor:
        """See ``FieldTerm``."""
        return weight * self.unit * torch.einsum("nij,nj->ni", x.along, x.moved)

    def diagonal(self, weight: float, along: Tensor | None) -> Tensor:
        """See ``FieldTerm``."""
        return weight * along.diagonal(dim1=1, dim2=2).mean(1)
