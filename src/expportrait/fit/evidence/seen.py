"""What the estimates say of the surface that a frame shows: of its vertices and edges instead of its pixels.

An edge e lies in the surface, so that n* . e = 0 for the estimated normal n* along it: close to linear in the vertices,
where the normal of a rendered pixel is not. A mesh's own smooth normal n leaves a remainder n . e on details of few
edges; it is taken off, so that nothing pulls where n = n*.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.fit.bias import unbiased
from expportrait.fit.evidence.targets import Targets, outline_distance
from expportrait.render import Camera, Fragments, vertex_normals

BEHIND = 0.002  # m behind the rendered surface from where on a vertex is hidden
STEP = 0.015  # m between neighbouring pixels that belong to two surfaces
GRAZING = 0.2  # cosine to the view from where on a vertex counts in full
TILT = 0.1  # robust scale of n* . e / |e|, rad
DEPTH = 0.01  # robust scale of depth, m
EDGE = 0.9  # of the mask, sampled at a vertex: below lies what straddles the outline
RIM = 0.5  # cosine to the view below which a vertex may draw the outline
BORDER = 4  # px beside the picture's edge, where the outline is the picture's and not the person's
OUTLINE = 0.01  # robust scale of the outline, m
FARTHEST = 0.05  # m from the outline, beyond which it is another one
FEW = 20  # vertices from which on a frame's scale and shift of depth can be told


@dataclass
class Seen:
    """One frame's residuals, and what their derivatives need. Weights are robust; of each kind they sum to about one
    over the scale of what is quadratic.

    Of k edges (i, j): ``tilt`` (k,) = (n* - n) . e / |e|, ``across`` (k, 3) its derivative by e = x_i - x_j at still n,
    ``swing`` (k, 2) that by the bias of n*, about the camera's x and y.
    Of m vertices: ``gap`` (m,) m, depth less the estimate after scale and shift, and ``basis`` (m, 1 or 2), what the
    scale, and the shift where it is unknown, change of it. Of r vertices on the outline: ``rim`` (r,), ``outward``
    (r, 3) across it, ``excess`` (r,) m, how far it lies outside the mask's outline (inside: below 0).
    """

    edges: Tensor
    tilt: Tensor
    across: Tensor
    swing: Tensor
    edge_weight: Tensor
    points: Tensor
    gap: Tensor
    basis: Tensor
    depth_weight: Tensor
    rim: Tensor
    outward: Tensor
    excess: Tensor
    rim_weight: Tensor

    def energies(self, share: float, weights: dict[str, float]) -> dict[str, float]:
        """``share`` times the robust means that the rows are derivatives of (tilt in rad, depth and outline in m), each
        times its weight: normal, depth, outline."""
        found = {
            "normal": (self.edge_weight * charbonnier(self.tilt, TILT)).sum(),
            "depth": (self.depth_weight * cauchy(self.gap, DEPTH)).sum(),
            "outline": (self.rim_weight * cauchy(self.excess, OUTLINE)).sum(),
        }
        return {name: share * weights[name] * float(value) for name, value in found.items() if weights.get(name)}


def charbonnier(residual: Tensor, scale: float) -> Tensor:
    """The loss whose rows weigh 1 / sqrt(r^2 + scale^2), over that weight."""
    root = (residual.square() + scale**2).sqrt()
    return root * (root - scale)


def cauchy(residual: Tensor, scale: float) -> Tensor:
    """The loss whose rows weigh 1 / (1 + (r / scale)^2), over that weight."""
    square = 1 + (residual / scale).square()
    return square * square.log() * scale**2 / 2


@dataclass
class Places:
    """Where the n vertices of one frame are in the picture. ``normals`` (n, 3); ``facing`` (n,) cosine to the view;
    ``pixel`` (n, 2), ``column`` and ``row`` (n,) kept off the border; ``far``, ``near`` (n,) m, of the surface that is
    drawn around there; ``shown`` (n,) bool: nothing is before it, and its neighbourhood is one surface."""

    normals: Tensor
    facing: Tensor
    pixel: Tensor
    column: Tensor
    row: Tensor
    far: Tensor
    near: Tensor
    shown: Tensor


@torch.no_grad()
def places(vertices: Tensor, faces: Tensor, rendered: Fragments, camera: Camera) -> Places:
    """Of vertices (n, 3) in camera space, whose mesh is ``rendered``."""
    height, width = camera.height, camera.width
    normals = vertex_normals(vertices[None], faces)[0]
    facing = (normals * F.normalize(-vertices, dim=-1)).sum(-1)
    depth = rendered.image(rendered.depth, background=1e3)
    # Farthest and nearest around a pixel: where they lie apart, one surface ends before another.
    far, near = F.max_pool2d(depth, 3, 1, 1)[0], -F.max_pool2d(-depth, 3, 1, 1)[0]
    pixel = camera.project(vertices)
    column, row = pixel.floor().long().unbind(-1)
    inside = (column >= 1) & (column < width - 1) & (row >= 1) & (row < height - 1)
    column, row = column.clamp(1, width - 2), row.clamp(1, height - 2)
    far, near = far[row, column], near[row, column]
    shown = inside & (facing > 0.02) & (far - near < STEP) & (-vertices[:, 2] < far + BEHIND)
    return Places(normals, facing, pixel, column, row, far, near, shown)


@torch.no_grad()
def look(
    vertices: Tensor,
    faces: Tensor,
    edges: Tensor,
    rendered: Fragments,
    targets: Targets,
    camera: Camera,
    trust: Tensor | None = None,
    valid: Tensor | None = None,
    bias: Tensor | None = None,
) -> Seen:
    """Residuals of one frame: vertices (n, 3) in camera space, the ``edges`` (E, 2) asked for, the mesh's render at the
    targets' size; ``trust`` (n,) 0..1 of vertices; ``valid`` (h, w) 0..1 where the mask's outline is this head's;
    ``bias`` (n, 2) rad: of the normals."""
    height, width = camera.height, camera.width
    place = places(vertices, faces, rendered, camera)
    own, pixel = place.normals, place.pixel
    share = place.shown * (place.facing / GRAZING).clamp(0, 1)
    share = share if trust is None else share * trust

    image = torch.cat([targets.normals[0].permute(2, 0, 1), targets.depth, targets.confidence, targets.mask])[None]

    def sample(points: Tensor) -> Tensor:
        at = points / points.new_tensor([width, height]) * 2 - 1
        return F.grid_sample(image, at[None, None], align_corners=False)[0, :, 0].t()

    points = (share > 0).nonzero().squeeze(-1)
    values = pixel.new_zeros(len(vertices), 6).index_copy(0, points, sample(pixel[points]))
    sure = values[:, 4] * share * (values[:, 5] - EDGE).clamp_min(0) / (1 - EDGE)
    kept = edges[(sure[edges] > 0).all(1)]
    a, b = vertices[kept[:, 0]], vertices[kept[:, 1]]
    length = (a - b).norm(dim=-1, keepdim=True).clamp_min(1e-6)
    direction = (a - b) / length
    normals = F.normalize(values[kept, :3].sum(1), dim=-1)
    normals = normals if bias is None else unbiased(normals, bias[kept].mean(1))
    along = (normals * direction).sum(-1)
    tilt = along - (F.normalize(own[kept].sum(1), dim=-1) * direction).sum(-1)
    # Of the direction alone, not of the length: edges would shrink to please.
    across = (normals - along[:, None] * direction) / length
    swing = torch.linalg.cross(direction, normals)[:, :2]
    weight = sure[kept].amin(1) * length[:, 0].square()  # as much as the edge has surface
    weight = weight / (tilt.square() + TILT**2).sqrt() / weight.sum().clamp_min(1e-12)
    if valid is None:
        rim = points[:0], vertices[:0], vertices[:0, 0], vertices[:0, 0]
    else:
        # At the border of the picture the outline is the picture's.
        left, right, top, bottom = targets.margins.bounds(width, BORDER)
        beside = (place.column >= left) & (place.column < right) & (place.row >= top) & (place.row < bottom)
        candidates = (
            beside & (place.facing.abs() < RIM) & (place.far > 100) & (-vertices[:, 2] < place.near + 5 * BEHIND)
        )
        rim = outline_excess(vertices, own, candidates.nonzero().squeeze(-1), pixel, rendered, targets, camera, valid)
    anchored = targets.anchored is not None and bool(targets.anchored[0])
    depths = depth_gap(vertices, points, values[points, 3], sure[points], targets.disparity, anchored)
    return Seen(kept, tilt, across, swing, weight, *depths, *rim)


def depth_gap(
    vertices: Tensor, points: Tensor, estimate: Tensor, sure: Tensor, disparity: bool, anchored: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vertices ``points`` (m,) that count, their gap, basis and weight (see ``Seen``)."""
    points, estimate, sure = points[sure > 0], estimate[sure > 0], sure[sure > 0]
    if len(points) < FEW:
        none = sure.new_zeros(0)
        return points[:0], none, sure.new_zeros(0, 1), none
    depth = -vertices[points, 2]
    # In disparity the residual 1/z - (a d + b) becomes metres by -z^2.
    metres, known = (-depth.square(), -depth) if disparity else (torch.ones_like(depth), depth)
    basis, weight = torch.stack([estimate * metres] if anchored else [estimate * metres, metres], -1), sure
    for _ in range(4):
        gap = known - basis @ least_squares(basis, weight, known[:, None])[:, 0]
        weight = sure / (1 + (gap / DEPTH).square())
    return points, gap, basis, weight / DEPTH / sure.sum()


def outline_excess(
    vertices: Tensor,
    normals: Tensor,
    rim: Tensor,
    pixel: Tensor,
    rendered: Fragments,
    targets: Targets,
    camera: Camera,
    valid: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vertices ``rim`` (r,) that count, outward, excess and weight (see ``Seen``)."""
    outward = F.normalize(normals[rim] * normals.new_tensor([1.0, 1.0, 0.0]), dim=-1)
    beyond = pixel[rim] + outward[:, :2] * outward.new_tensor([2.0, -2.0])
    own = rendered.image(torch.ones_like(rendered.depth))[0]
    outlines = [torch.from_numpy(outline_distance(x.cpu().numpy())).to(own.device) for x in (own, targets.mask[0])]
    images = torch.stack([*outlines, valid])[None]

    def sample(at: Tensor) -> Tensor:
        at = at / at.new_tensor([camera.width, camera.height]) * 2 - 1
        return F.grid_sample(images, at[None, None], align_corners=False)[0, :, 0]

    mine, theirs, _ = sample(pixel[rim])
    metres = -vertices[rim, 2] / camera.focal
    excess = (mine - theirs) * metres
    weight = (sample(beyond)[2] > 0.9) / (1 + (excess / OUTLINE).square()) * (excess.abs() < FARTHEST)
    return rim, outward, excess, weight / OUTLINE / weight.sum().clamp_min(FEW)


def least_squares(basis: Tensor, weight: Tensor, values: Tensor) -> Tensor:
    """(k, c): the weighted fit of ``values`` (m, c) by ``basis`` (m, k)."""
    scale = basis.abs().amax(0).clamp_min(1e-12)
    basis = basis / scale
    gram = basis.t() @ (weight[:, None] * basis)
    gram = gram + 1e-7 * gram.diagonal().amax().clamp_min(1e-12) * torch.eye(len(gram), device=gram.device)
    return torch.linalg.solve(gram, basis.t() @ (weight[:, None] * values)) / scale[:, None]
