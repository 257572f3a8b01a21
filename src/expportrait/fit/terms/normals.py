"""The normal term, eq. (6): the estimated normals against the head's own, pixel by pixel or along its edges.

An edge e lies in the surface, so that n* . e = 0 for the estimated normal n* along it: close to linear in the vertices,
where the normal of a rendered pixel is not. A mesh's own smooth normal n leaves a remainder n . e on details of few
edges; it is taken off, so that nothing pulls where n = n*. Both are sampled alike, in the estimate and in the head's
own render: what a picture's grid does to lips and lids is the same in both, and goes.

Where e moves along as a whole, n is carried along and n* is not: the estimate slides under the edge, which tells where
along the surface lips and wrinkles are.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.fit.bias import unbiased
from expportrait.fit.evidence.targets import Targets
from expportrait.fit.terms.residuals import reweighted_charbonnier
from expportrait.render import Fragments

ROBUST = 0.1  # Charbonnier scale of n* . e / |e|, rad


def pixel_energy(fragments: Fragments, targets: Targets, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The weighted mean over the pixels (P,) that ``fragments`` cover, by their ``weight`` (P,).

    ``bias`` (n, 2) rad of the normals, at the mesh's vertices.
    """
    wanted = targets.normals.reshape(-1, 3).index_select(0, fragments.index)
    if bias is not None:
        with torch.no_grad():
            wanted = unbiased(wanted, fragments.interpolate(bias))
    cosine = (fragments.normals * wanted).sum(-1)
    error = (1 - cosine) + 0.5 * (fragments.normals - wanted).abs().sum(-1)
    return (weight * error).sum() / weight.sum().clamp_min(1.0)


@dataclass
class EdgeNormals:
    """Residuals of one frame's k ``edges`` (i, j), (k, 2), and their derivatives.

    ``residual`` (k,) = (n* - n) . e / |e|; ``jacobian`` (k, 2, 3) 1/m by x_i and x_j in camera space, e = x_i - x_j: as
    e turns at still n* and n . e / |e| stays, and as both ends slide over n*, whose slope n's stands for;
    ``bias_jacobian`` (k, 2) by the bias of n*, about the camera's x and y. ``weight`` (k,): of their squares, as the
    Charbonnier kernel of scale ``ROBUST`` gives it; the edges' shares in it add up to one.
    """

    edges: Tensor
    residual: Tensor
    jacobian: Tensor
    bias_jacobian: Tensor
    weight: Tensor

    @classmethod
    def observe(
        cls,
        vertices: Tensor,
        own: Tensor,
        slope: Tensor,
        estimate: Tensor,
        sure: Tensor,
        edges: Tensor,
        bias: Tensor | None,
    ) -> "EdgeNormals":
        """Compare the ``own`` normals (n, 3) in the picture at vertices (n, 3) with the ``estimate`` (n, 3) there, on
        those of ``edges`` (E, 2) whose ends are ``sure`` (n,) 0..1; ``slope`` (n, 3, 3): derivatives of the own
        normals' components by a vertex's place in camera space, per m; ``bias`` (n, 2) rad."""
        kept = edges[(sure[edges] > 0).all(1)]
        a, b = vertices[kept[:, 0]], vertices[kept[:, 1]]
        length = (a - b).norm(dim=-1, keepdim=True).clamp_min(1e-6)
        direction = (a - b) / length
        normals = F.normalize(estimate[kept].sum(1), dim=-1)
        normals = normals if bias is None else unbiased(normals, bias[kept].mean(1))
        along = (normals * direction).sum(-1)
        residual = along - (F.normalize(own[kept].sum(1), dim=-1) * direction).sum(-1)
        # By the direction alone, not by the length: edges would shrink to please.
        turned = (normals - along[:, None] * direction) / length
        slid = (direction[:, None, :, None] * slope[kept]).sum(2) / 2
        bias_jacobian = torch.linalg.cross(direction, normals)[:, :2]
        weight = sure[kept].amin(1) * length[:, 0].square()  # as much as the edge has surface
        weight = weight / (residual.square() + ROBUST**2).sqrt() / weight.sum().clamp_min(1e-12)
        return cls(kept, residual, slid + torch.stack([turned, -turned], 1), bias_jacobian, weight)

    def energy(self) -> Tensor:
        """The robust mean that the rows are derivatives of, rad."""
        return (self.weight * reweighted_charbonnier(self.residual, ROBUST)).sum()

    def rows(self, moved: Tensor, number: Tensor, scale: Tensor | float) -> Tensor:
        """(k, P + 1): Gauss-Newton's rows, last the residual; their J^T r is the derivative of ``scale`` times the
        energy. ``moved`` (m, 3, P): derivatives of the vertices, at ``number`` (n,) of each."""
        out = torch.zeros(len(self.edges), moved.shape[-1] + 1, dtype=moved.dtype, device=moved.device)
        for end in range(2):  # one after the other: (k, 3, P) is the largest array of a coarse step
            out[:, :-1] += torch.einsum("ek,ekp->ep", self.jacobian[:, end], moved[number[self.edges[:, end]]])
        out[:, -1] = self.residual
        return out.mul_(self.root(scale)[:, None])

    def bias_rows(self, basis: Tensor, scale: Tensor | float) -> Tensor:
        """(k, 2 b): derivatives of the same rows by the coefficients of the bias, whose ``basis`` is (n, b)."""
        swing = basis[self.edges].mean(1)[:, :, None] * self.root(scale)[:, None, None]
        return (swing * self.bias_jacobian[:, None]).flatten(1)

    def root(self, scale: Tensor | float) -> Tensor:
        """(k,) factors of the rows."""
        return (scale * self.weight).sqrt()

    def by_offsets(self, turn: Tensor) -> Tensor:
        """(k, 6): derivatives by the canonical offsets of both ends; ``turn`` (n, 3, 3) from the canonical pose to the
        camera."""
        return (self.jacobian[:, :, None] @ turn[self.edges]).flatten(1)
