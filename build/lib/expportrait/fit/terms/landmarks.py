"""The landmark term, eq. (5): detected points against the head's own, in inter-ocular distances, robustly."""

import torch
from torch import Tensor

ROBUST = 0.01  # Charbonnier scale, in inter-ocular distances


def residuals(projected: Tensor, points: Tensor, unit: Tensor) -> Tensor:
    """(..., 478, 2) by which projected points (..., 478, 2) px are off the detected (..., 478, 2+) px; ``unit``: px of
    an inter-ocular distance."""
    return (projected - points[..., :2]) / unit


def charbonnier(residual: Tensor) -> Tensor:
    """The robust rho of eq. (5) is quadratic below ``ROBUST``, linear above. (..., 2) -> (...)."""
    return (residual.square().sum(-1) + ROBUST**2).sqrt() - ROBUST


def energies(residual: Tensor, weight: Tensor) -> Tensor:
    """The sum of rho over points, residuals (..., 478, 2), each times its ``weight`` (..., 478): (...)."""
    return (weight * charbonnier(residual)).sum(-1)


def energy(residual: Tensor, weight: Tensor) -> Tensor:
    """The same over all frames, ()."""
    return (weight * charbonnier(residual)).sum()


def rows(residual: Tensor, jacobian: Tensor, weight: Tensor, scale: float) -> Tensor:
    """(956, P + 1): Gauss-Newton's rows of one frame, last the residual. Their J^T r is the derivative of ``scale``
    times ``energy``.

    residual (478, 2), jacobian (478, 2, P), weight (478,).
    """
    weight = weight / (residual.square().sum(-1) + ROBUST**2).sqrt()
    weight = (scale * weight).sqrt()
    return (weight[:, None, None] * torch.cat([jacobian, residual[..., None]], -1)).flatten(0, 1)
