"""The silhouette term: the mask against what the head covers, by pixels or at the vertices that draw its outline."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.fit.evidence.targets import BORDER, Targets, outline_distance
from expportrait.fit.evidence.visibility import BEHIND, Places, in_picture
from expportrait.fit.terms.residuals import reweighted_cauchy
from expportrait.render import Camera, Fragments

RIM = 0.5  # cosine to the view below which a vertex may draw the outline
ROBUST = 0.01  # Cauchy scale, m
FARTHEST = 0.05  # m from the outline, beyond which it is another one
FEW = 20  # vertices below which an outline counts less


def pixel_energy(coverage: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """L_sil: mean |A - mask| over valid pixels. coverage (B, h, w) with edge gradients; mask, valid (B, h, w) 0..1."""
    return (valid * (coverage - mask).abs()).sum() / valid.sum().clamp_min(1.0)


@dataclass
class Outline:
    """Residuals of one frame's r ``vertices`` (r,) on the outline: ``residual`` (r,) m, how far each lies outside the
    mask's (inside: below 0); ``jacobian`` (r, 3), across the outline; ``weight`` (r,): robust, and in sum at most
    about one over ``ROBUST``."""

    vertices: Tensor
    jacobian: Tensor
    residual: Tensor
    weight: Tensor

    @classmethod
    def none(cls, vertices: Tensor) -> "Outline":
        """No residuals, of a head that is not compared by its outline."""
        return cls(torch.zeros(0, dtype=torch.long, device=vertices.device), vertices[:0], vertices[:0, 0],
                   vertices[:0, 0])  # fmt: skip

    @classmethod
    def observe(
        cls, vertices: Tensor, place: Places, rendered: Fragments, targets: Targets, camera: Camera, valid: Tensor
    ) -> "Outline":
        """Compare the outline of vertices (n, 3), drawn as ``rendered``, with the mask's, where this is ``valid``
        (h, w) 0..1."""
        # At the border of the picture the outline is the picture's.
        left, right, top, bottom = targets.margins.bounds(camera.width, BORDER)
        beside = (place.column >= left) & (place.column < right) & (place.row >= top) & (place.row < bottom)
        candidates = (
            beside & (place.facing.abs() < RIM) & (place.far > 100) & (-vertices[:, 2] < place.near + 5 * BEHIND)
        )
        rim = candidates.nonzero().squeeze(-1)
        outward = F.pad(F.normalize(place.normals[rim, :2], dim=-1), (0, 1))
        beyond = place.pixel[rim] + 2 * torch.stack([outward[:, 0], -outward[:, 1]], 1)
        own = rendered.image(torch.ones_like(rendered.depth))
        masks = torch.cat([own, targets.mask]).cpu().numpy()
        outlines = torch.from_numpy(np.stack([outline_distance(x) for x in masks])).to(own.device)
        images = torch.cat([outlines, valid[None]])[None]

        def sample(at: Tensor) -> Tensor:
            return F.grid_sample(images, in_picture(at, camera), align_corners=False)[0, :, 0]

        mine, theirs, _ = sample(place.pixel[rim])
        metres = -vertices[rim, 2] / camera.focal
        residual = (mine - theirs) * metres
        weight = (sample(beyond)[2] > 0.9) / (1 + (residual / ROBUST).square()) * (residual.abs() < FARTHEST)
        return cls(rim, outward, residual, weight / ROBUST / weight.sum().clamp_min(FEW))

    def energy(self) -> Tensor:
        """The robust mean that the rows are derivatives of, m."""
        return (self.weight * reweighted_cauchy(self.residual, ROBUST)).sum()

    def rows(self, moved: Tensor, number: Tensor, scale: Tensor | float) -> Tensor:
        """(k, P + 1): Gauss-Newton's rows of the k vertices that move, last the residual. ``moved`` (m, 3, P):
        derivatives of the vertices, at ``number`` (n,) of each; the first n move."""
        mine = self.vertices < len(number)
        push = torch.einsum("rk,rkp->rp", self.jacobian[mine], moved[number[self.vertices[mine]]])
        weight = (scale * self.weight[mine]).sqrt()
        return torch.cat([push, self.residual[mine, None]], -1) * weight[:, None]

    def by_offsets(self, turn: Tensor) -> Tensor:
        """(r, 3): derivatives by canonical offsets; ``turn`` (n, 3, 3) from the canonical pose to the camera."""
        return (turn[self.vertices].transpose(1, 2) @ self.jacobian[..., None])[..., 0]
