"""L_lap (eq. 7): the squared Laplacian of an offset field, per mm^2. Where the field starts does not count."""

import scipy.sparse as sp
import torch
from torch import Tensor

from expportrait.fit.mesh_operators import to_torch
from expportrait.fit.terms.quadratic import MILLI, Field, count, quadratic


class Laplacian:
    """``laplacian`` (n, n) of the mesh."""

    unit = MILLI**2

    def __init__(self, laplacian: sp.csr_matrix, device: torch.device | str = "cpu"):
        self.matrix = laplacian.T @ laplacian
        self.squared = to_torch(self.matrix).to(device)

    def energy(self, x: Field, weight: float) -> Tensor:
        """See ``FieldTerm``."""
        return weight * self.unit * quadratic(x.offset, self.squared) / count(x.offset)

    def gradient(self, x: Field, weight: float) -> Tensor:
        """See ``FieldTerm``."""
        return weight * self.unit * (self.squared @ x.offset)

    def diagonal(self, weight: float, along: Tensor | None) -> float:
        """See ``FieldTerm``."""
        return 1.2 * weight
