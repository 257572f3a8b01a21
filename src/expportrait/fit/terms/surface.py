"""What the estimates say of the surface that one frame shows: normals, depth and outline together.

Solvers of linear steps look at its vertices and edges, Adam at its pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.fit.evidence.targets import Targets
from expportrait.fit.evidence.visibility import in_picture, places
from expportrait.fit.terms import depth, normals
from expportrait.fit.terms.depth import VertexDepths
from expportrait.fit.terms.normals import EdgeNormals
from expportrait.fit.terms.outline import Outline
from expportrait.fit.terms.residuals import Terms
from expportrait.render import Camera, Fragments

GRAZING = 0.2  # cosine to the view from where on a vertex counts in full
OWN = slice(6, 9)  # of what is sampled: the normals of the head's own render
EDGE = 0.9  # of the mask, sampled at a vertex: below lies what straddles the outline


def pixel_energies(fragments: Fragments, targets: Targets, bias: Tensor | None = None) -> dict[str, Tensor]:
    """Eq. (6) over M_t: the normal term and the depth term, m.

    ``fragments``: renders of the targets' frames at their size; ``bias`` (n, 2) rad of the normals, at the mesh's
    vertices.
    """
    weight = (targets.confidence * targets.mask).flatten().index_select(0, fragments.index)
    normal = normals.pixel_energy(fragments, targets, weight, bias)
    return {"normal": normal, "depth": depth.pixel_energy(fragments, targets, weight)}


@dataclass
class SurfaceResiduals:
    """One frame's residuals, and what their derivatives need."""

    normals: EdgeNormals
    depth: VertexDepths
    outline: Outline

    def energies(self, share: float | Tensor, weights: Mapping[str, float]) -> Terms:
        """``share`` times the robust means that the rows are derivatives of, each times its weight: normal (rad), depth
        and outline (m). Those without a weight are left out."""
        found = {"normal": self.normals, "depth": self.depth, "outline": self.outline}
        return {name: share * weights[name] * term.energy() for name, term in found.items() if weights.get(name)}


@torch.no_grad()
def observe(
    vertices: Tensor,
    edges: Tensor,
    rendered: Fragments,
    targets: Targets,
    camera: Camera,
    trust: Tensor | None = None,
    valid: Tensor | None = None,
    bias: Tensor | None = None,
) -> SurfaceResiduals:
    """Compare one frame with its estimates.

    vertices (n, 3) in camera space; ``edges`` (E, 2), those asked for; ``rendered``: the mesh at the targets' size;
    ``trust`` (n,) 0..1 of vertices; ``valid`` (h, w) 0..1 where the mask's outline is this head's, None: nowhere;
    ``bias`` (n, 2) rad of the normals.
    """
    place = places(vertices, rendered, camera)
    share = place.shown * (place.facing / GRAZING).clamp(0, 1)
    share = share if trust is None else share * trust
    own = rendered.image(torch.cat([rendered.normals, rendered.depth[:, None]], 1))[0].permute(2, 0, 1)
    image = torch.cat([targets.normals[0].permute(2, 0, 1), targets.depth, targets.confidence, targets.mask, own])[None]

    def sample(points: Tensor, channels: slice = slice(None)) -> Tensor:
        return F.grid_sample(image[:, channels], in_picture(points, camera), align_corners=False)[0, :, 0].t()

    points = (share > 0).nonzero().squeeze(-1)
    pixel, count = place.pixel.index_select(0, points), len(vertices)
    values = pixel.new_zeros(count, 10).index_copy(0, points, sample(pixel))
    sides = torch.eye(2, device=pixel.device)
    steps = [(sample(pixel + side, OWN) - sample(pixel - side, OWN)) / 2 for side in sides]  # a pixel to either side
    slope = torch.stack(steps, -1) @ camera.slope(vertices.index_select(0, points))
    slope = pixel.new_zeros(count, 3, 3).index_copy(0, points, slope)
    sure = values[:, 4] * share * (values[:, 5] - EDGE).clamp_min(0) / (1 - EDGE)
    anchored = targets.anchored is not None and bool(targets.anchored[0])
    return SurfaceResiduals(
        EdgeNormals.observe(vertices, values[:, OWN], slope, values[:, :3], sure, edges, bias),
        VertexDepths.observe(points, values[points, 9], values[points, 3], sure[points], targets.disparity, anchored),
        Outline.none(vertices) if valid is None else Outline.observe(vertices, place, rendered, targets, camera, valid),
    )
