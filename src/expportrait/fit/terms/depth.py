"""The depth term, eq. (6): relative depth against the head's own after the best scale and shift of every frame."""

from dataclasses import dataclass

import torch
from torch import Tensor

from expportrait.fit.evidence.targets import Targets
from expportrait.fit.terms.residuals import reweighted_cauchy
from expportrait.render import Fragments

CLAMP = 0.02  # m; larger residuals of pixels are occlusions or another surface
ROBUST = 0.01  # Cauchy scale of vertices, m
FEW = 20  # vertices from which on a frame's scale and shift of depth can be told


def scale_and_shift(
    value: Tensor, estimate: Tensor, weight: Tensor, group: Tensor, groups: int, anchored: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Fit value ~ a estimate + b, a > 0, by weighted least squares in every group.

    All (P,); group int -> two (groups,). ``anchored`` (groups,): b is zero.
    """

    def total(x: Tensor) -> Tensor:
        return torch.zeros(groups, device=x.device).index_add_(0, group, x)

    norm = total(weight).clamp_min(1e-8)
    if anchored is not None:
        norm = torch.where(anchored, torch.inf, norm)
    mean_x, mean_y = total(weight * estimate) / norm, total(weight * value) / norm
    dx, dy = estimate - mean_x[group], value - mean_y[group]
    a = (total(weight * dx * dy) / total(weight * dx * dx).clamp_min(1e-12)).clamp_min(1e-4)
    return a, mean_y - a * mean_x


def pixel_energy(fragments: Fragments, targets: Targets, weight: Tensor) -> Tensor:
    """The weighted mean over the pixels (P,) that ``fragments`` cover, by their ``weight`` (P,), m."""
    index, group = fragments.index, fragments.index // targets.size**2
    estimate = targets.depth.flatten().index_select(0, index)
    depth = fragments.depth
    anchored = None if targets.anchored is None else targets.anchored.to(depth.device)
    with torch.no_grad():
        value = 1 / depth if targets.disparity else depth
        a, b = scale_and_shift(value, estimate, weight, group, targets.frames, anchored)
        metres = depth.square() if targets.disparity else torch.ones_like(depth)
        residual = (value - (a[group] * estimate + b[group])) * metres
        robust = weight / (1 + (residual / CLAMP).square())
        a, b = scale_and_shift(value, estimate, robust, group, targets.frames, anchored)
    value = 1 / depth if targets.disparity else depth
    residual = ((value - (a[group] * estimate + b[group])) * metres).abs().clamp_max(CLAMP)
    return (weight * residual).sum() / weight.sum().clamp_min(1.0)


@dataclass
class VertexDepths:
    """Residuals of one frame's m ``vertices`` (m,): ``residual`` (m,) m, depth less the estimate after scale and shift.

    ``basis`` (m, 1 or 2), ``scaled``: what the scale, and the shift where it is unknown, change of it. ``weight`` (m,):
    robust, and in sum about one over ``ROBUST``. The derivative by a vertex is that of its depth, -z.
    """

    vertices: Tensor
    residual: Tensor
    basis: Tensor
    weight: Tensor

    @classmethod
    def observe(
        cls, vertices: Tensor, own: Tensor, estimate: Tensor, sure: Tensor, disparity: bool, anchored: bool
    ) -> "VertexDepths":
        """Compare the ``own`` depth (m,) m in the picture at ``vertices`` (m,) with the ``estimate`` (m,) there, where
        this is ``sure`` (m,) 0..1; ``anchored``: the shift is known."""
        told = (sure > 0).nonzero()[:, 0]
        vertices, depth, estimate, sure = (x.index_select(0, told) for x in (vertices, own, estimate, sure))
        if len(vertices) < FEW:
            none = sure.new_zeros(0)
            return cls(vertices[:0], none, sure.new_zeros(0, 1), none)
        # In disparity the residual 1/z - (a d + b) becomes metres by -z^2.
        metres, known = (-depth.square(), -depth) if disparity else (torch.ones_like(depth), depth)
        basis, weight = scaled(torch.stack([estimate * metres] if anchored else [estimate * metres, metres], -1)), sure
        for _ in range(4):
            residual = known - taken_up(basis, weight, known[:, None])[:, 0]
            weight = sure / (1 + (residual / ROBUST).square())
        return cls(vertices, residual, basis, weight / ROBUST / sure.sum())

    def energy(self) -> Tensor:
        """The robust mean that the rows are derivatives of, m."""
        return (self.weight * reweighted_cauchy(self.residual, ROBUST)).sum()

    def rows(self, moved: Tensor, number: Tensor, scale: Tensor | float) -> Tensor:
        """(k, P + 1): Gauss-Newton's rows of the k vertices that move, last the residual, scale and shift projected
        out. ``moved`` (m, 3, P): derivatives of the vertices, at ``number`` (n,) of each; the first n move."""
        mine = self.vertices < len(number)
        basis, weight = self.basis[mine], self.weight[mine]
        rows = torch.cat([-moved[number[self.vertices[mine]], 2], self.residual[mine, None]], -1)
        if len(rows):
            rows = rows - taken_up(basis, weight, rows)
        return rows * (scale * weight).sqrt()[:, None]

    def by_offsets(self, turn: Tensor) -> Tensor:
        """(m, 3): derivatives by canonical offsets; ``turn`` (n, 3, 3) from the canonical pose to the camera."""
        return -turn[self.vertices, 2]

    def nullspace(self, scale: float) -> Tensor:
        """(c, m): orthonormal, in the metric of ``scale`` times the weights, what scale and shift can take up."""
        basis = self.basis
        gram = scale * basis.t() @ (self.weight[:, None] * basis)
        gram.diagonal().add_(1e-6 * gram.diagonal().amax())
        return torch.linalg.solve_triangular(torch.linalg.cholesky_ex(gram)[0], basis.t(), upper=False)


def scaled(basis: Tensor) -> Tensor:
    """(m, k) with columns of at most 1."""
    return basis / basis.abs().amax(0).clamp_min(1e-12)


def taken_up(basis: Tensor, weight: Tensor, values: Tensor) -> Tensor:
    """(m, c): what of ``values`` (m, c) the weighted fit by a ``scaled`` basis (m, k) explains."""
    weighted = (weight[:, None] * basis).t()
    gram = weighted @ basis
    gram.diagonal().add_(1e-7 * gram.diagonal().amax().clamp_min(1e-12))
    found, _ = torch.linalg.solve_ex(gram, weighted @ values)  # never singular, and nobody has to wait to be told
    return basis @ found
