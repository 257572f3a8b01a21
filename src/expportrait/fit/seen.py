"""What the estimates say of the surface that a frame shows: of its vertices and edges instead of its pixels.

An edge e of the surface lies in it, so n* . e = 0 for the estimated normal n* along e: an equation linear in the
vertices, where the normal of a rendered pixel is not.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.fit.targets import Targets
from expportrait.render import Camera, Fragments, vertex_normals

BEHIND = 0.004  # m behind the rendered surface from where on a vertex is hidden
GRAZING = 0.2  # cosine to the view from where on a vertex counts in full


@dataclass
class Seen:
    """One frame's equations. Of edges: ``edges`` (k, 2) vertices, ``normals`` (k, 3) mean n* along them, ``weight``
    (k,), trust times the share of the surface. Of vertices: ``points`` (m,), estimated ``depth`` (m,), ``trust`` (m,).
    """

    edges: Tensor
    normals: Tensor
    weight: Tensor
    points: Tensor
    depth: Tensor
    trust: Tensor


@torch.no_grad()
def look(
    vertices: Tensor, faces: Tensor, edges: Tensor, rendered: Fragments, targets: Targets, camera: Camera
) -> Seen:
    """Vertices (n, 3) camera space of one frame, its mesh, the ``edges`` (E, 2) asked for, its render at the targets'
    size."""
    height, width = camera.height, camera.width
    facing = (vertex_normals(vertices[None], faces)[0] * F.normalize(-vertices, dim=-1)).sum(-1)
    depth = rendered.image(rendered.depth, background=torch.inf)[0]
    pixel = camera.project(vertices)
    column, row = pixel.floor().long().unbind(-1)
    inside = (column >= 1) & (column < width - 1) & (row >= 1) & (row < height - 1)
    column, row = column.clamp(1, width - 2), row.clamp(1, height - 2)
    # The farthest surface around: at a rim the vertex's own pixel may show what lies before or behind it.
    around = F.max_pool2d(torch.where(depth.isinf(), -torch.inf, depth)[None, None], 3, 1, 1)[0, 0]
    shown = inside & (facing > 0.02) & (-vertices[:, 2] < around[row, column] + BEHIND)
    share = shown * (facing / GRAZING).clamp(0, 1)

    trust = targets.confidence[0] * targets.mask[0]
    image = torch.cat([targets.normals[0].permute(2, 0, 1), targets.depth, trust[None]])[None]

    def sample(points: Tensor) -> Tensor:
        at = points / points.new_tensor([width, height]) * 2 - 1
        return F.grid_sample(image, at[None, None], align_corners=False)[0, :, 0].t()

    kept = edges[(share[edges] > 0).all(1)]
    points = shown.nonzero().squeeze(-1)
    values = pixel.new_zeros(len(vertices), 5).index_copy(0, points, sample(pixel[points]))
    middle = sample(camera.project(vertices[kept].mean(1)))
    along = values[kept]
    normals = F.normalize(along[..., :3].sum(1) + 2 * middle[:, :3], dim=-1)
    length = (vertices[kept[:, 0]] - vertices[kept[:, 1]]).square().sum(-1)
    weight = along[..., 4].amin(1) * middle[:, 4] * share[kept].amin(1) * length
    sure = weight > 0
    return Seen(kept[sure], normals[sure], weight[sure], points, values[points, 3], values[points, 4] * share[points])
