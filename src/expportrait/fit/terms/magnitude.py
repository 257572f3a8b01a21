"""L_mag (eq. 7): the squared length of an offset field, per mm^2."""

import scipy.sparse as sp
from torch import Tensor

from expportrait.fit.terms.quadratic import MILLI, Field, count


class Magnitude:
    """``held`` (n,): times the term at a vertex."""

    unit = MILLI**2

    def __init__(self, held: Tensor):
        self.held = held[:, None]
        self.matrix = sp.diags(held.double().cpu().numpy())

    def energy(self, x: Field, weight: float) -> Tensor:
        """See ``FieldTerm``."""
        return weight * self.unit * (self.held * x.moved.flatten(1).square()).sum() / count(x.moved)

    def gradient(self, x: Field, weight: float) -> Tensor:
        """See ``FieldTerm``."""
        return weight * self.unit * self.held * x.moved

    def diagonal(self, weight: float, along: Tensor | None) -> Tensor:
        """See ``FieldTerm``."""
        return weight * self.held[:, 0]
