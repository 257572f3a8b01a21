"""The squared stretch of an offset field, which keeps chin, ears and lips from folding (ours, beside eq. 7)."""

import scipy.sparse as sp
import torch
from torch import Tensor

from expportrait.fit.mesh_operators import to_torch
from expportrait.fit.terms.quadratic import Field, count, quadratic


class Strain:
    """``matrix`` (n, n): see ``strain_matrix``."""

    unit = 1.0

    def __init__(self, matrix: sp.csr_matrix, device: torch.device | str = "cpu"):
        self.matrix = matrix
        self.stiffness = to_torch(matrix).to(device)
        self.own = torch.from_numpy(matrix.diagonal()).float().to(device)

    def energy(self, x: Field, weight: float) -> Tensor:
        """See ``FieldTerm``."""
        return weight * quadratic(x.moved, self.stiffness) / count(x.moved)

    def gradient(self, x: Field, weight: float) -> Tensor:
        """See ``FieldTerm``."""
        return weight * (self.stiffness @ x.moved)

    def diagonal(self, weight: float, along: Tensor | None) -> Tensor:
        """See ``FieldTerm``."""
        return weight * self.own
