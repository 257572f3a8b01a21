"""The landmark term, eq. (5): detected points against the head's own, in inter-ocular distances, robustly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from expportrait.render import Camera

ROBUST = 0.003  # Charbonnier scale, in inter-ocular distances


def residuals(projected: Tensor, points: Tensor, unit: Tensor) -> Tensor:
    """(..., 478, 2) by which projected points (..., 478, 2) px are off the detected (..., 478, 2+) px; ``unit``: px of
    an inter-ocular distance."""
    return (projected - points[..., :2]) / unit


def charbonnier(residual: Tensor, scale: float = ROBUST) -> Tensor:
    """The robust rho of eq. (5) is quadratic below ``scale``, linear above. (..., 2) -> (...)."""
    return (residual.square().sum(-1) + scale**2).sqrt() - scale


def energies(residual: Tensor, weight: Tensor) -> Tensor:
    """The sum of rho over points, residuals (..., 478, 2), each times its ``weight`` (..., 478): (...)."""
    return (weight * charbonnier(residual)).sum(-1)


def energy(residual: Tensor, weight: Tensor, scale: float = ROBUST) -> Tensor:
    """The same over all frames, ()."""
    return (weight * charbonnier(residual, scale)).sum()


def by_points(points: Tensor, camera: Camera, unit: Tensor) -> Tensor:
    """(478, 2, 3): derivatives of the residuals by the points (478, 3) m, in camera space."""
    return camera.slope(points) / unit


def rows(residual: Tensor, jacobian: Tensor, weight: Tensor, scale: float) -> Tensor:
    """(956, P + 1): Gauss-Newton's rows of one frame, last the residual. Their J^T r is the derivative of ``scale``
    times ``energy``.

    residual (478, 2), jacobian (478, 2, P), weight (478,).
    """
    weight = weight / (residual.square().sum(-1) + ROBUST**2).sqrt()
    weight = (scale * weight).sqrt()
    return (weight[:, None, None] * torch.cat([jacobian, residual[..., None]], -1)).flatten(0, 1)


@dataclass
class LandmarkPoints:
    """Residuals of one frame's 478 points, ``residual`` (478, 2), their derivatives by the points in camera space,
    ``jacobian`` (478, 2, 3) per m, and the ``weight`` (478,) of their squares, robust kernel included."""

    residual: Tensor
    jacobian: Tensor
    weight: Tensor

    @classmethod
    def observe(
        cls, points: Tensor, detected: Tensor, weight: Tensor, unit: Tensor, camera: Camera
    ) -> "LandmarkPoints":
        """Compare points (478, 3) m with the ``detected`` (478, 2+) px; ``weight`` (478,), ``unit``: px of an
        inter-ocular distance."""
        residual = residuals(camera.project(points), detected, unit)
        weight = weight / (residual.square().sum(-1) + ROBUST**2).sqrt()
        return cls(residual, by_points(points, camera, unit), weight)

    def energy(self) -> Tensor:
        """The robust sum that the residuals and weights are derivatives of."""
        square = self.residual.square().sum(-1) + ROBUST**2
        return (self.weight * square.sqrt() * (square.sqrt() - ROBUST)).sum()

    def by_offsets(self, turn: Tensor) -> Tensor:
        """(478, 2, 3): derivatives by a canonical offset of the points; ``turn`` (478, 3, 3) from the canonical pose to
        the camera."""
        return self.jacobian @ turn
