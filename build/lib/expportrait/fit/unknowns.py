"""All that moves in the fit of one clip; copied and put back whole."""

from dataclasses import dataclass

import torch
from torch import Tensor

from expportrait.fit.bias import NormalBias
from expportrait.fit.dynamic import DynamicField
from expportrait.fit.parameters import HeadParameters


@dataclass
class Unknowns:
    """The coarse head, both offset fields before their masks, and the bias of the estimated normals."""

    parameters: HeadParameters
    static: Tensor  # D_s (n_d, 3) m
    dynamic: DynamicField  # D_t (T, n_f, 3) m
    bias: NormalBias

    def copy(self) -> "Unknowns":
        """A copy that later steps leave as it is."""
        return Unknowns(self.parameters.copy(), self.static.clone(), self.dynamic.copy(), self.bias.copy())

    def finite(self) -> bool:
        """Whether the coarse head and D_s are numbers."""
        return self.parameters.finite() and bool(torch.isfinite(self.static).all())
