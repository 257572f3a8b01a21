"""Where D_s starts (section 3.1.3): hair grown from the scalp until the head fills its outline there."""

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree
from torch import Tensor

from expportrait.fit.evidence.hanging import Masks, below_ears, find_ears, hanging_sides
from expportrait.fit.evidence.targets import BORDER, distance, outline_distance
from expportrait.fit.mesh_operators import adjacency
from expportrait.fit.parameters import HeadParameters
from expportrait.head import Head
from expportrait.render import vertex_normals

RIM = 0.35  # |n . view| of a vertex that draws the outline
SHRINK = 0.01  # m, deepest that the start may cut into the bare head
STIFFNESS = 0.05  # membrane weight that carries the growth from the rim over the scalp
SMOOTH = 20  # rounds of averaging the normals along which hair grows
FOLDED = 0.35  # 1 - n . outward, averaged, on an ear
EAR = 0.5  # share from which on a vertex is the ear's
SHELL = 5  # edges from an ear's folds to the middle of its hollow
SLOPE = 1.0  # steepest rise of hair behind the hairline
FIXED = 10.0  # weight of what does not grow, beside 1 of a vertex on the outline
LONG = 0.012  # m, half the thickness from which what lies outside the head is not its surface (long hair, a hat's brim)


def unexplained(mask: np.ndarray, coverage: np.ndarray, radius: float) -> np.ndarray:
    """(h, w) bool: thick parts of the mask that the head does not cover (opening by ``radius`` px, and a margin).

    Long hair, a hand or a collar would pull neck and cheeks towards them without end.
    """
    rest = (mask > 0.5) & ~(coverage > 0.5)
    core = distance(rest) > radius
    return (distance(~core) < 1.5 * radius + 2) & ~(coverage > 0.5)


@torch.no_grad()
def rim_growth(
    head: Head, parameters: HeadParameters, targets: Masks, limit: np.ndarray, hidden: np.ndarray, views: int = 12
) -> np.ndarray:
    """(n_c,) m, NaN where unseen: how far rim vertices lie inside the outline, at their depth, over several frames.
    Vertices ``hidden`` (n_c,) 0..1 by hair that hangs draw no outline."""
    total, weight = np.zeros(len(limit)), np.zeros(len(limit))
    size = targets.size
    camera = parameters.camera(size)
    focal = float(camera.focal)
    for t in np.unique(np.linspace(0, targets.frames - 1, min(views, targets.frames)).round().astype(int)).tolist():
        frame = slice(t, t + 1)
        p = parameters
        vertices = head.pose(head.coarse, p.shape, p.expression[frame], p.matrices(frame), p.translation(frame))
        normals = vertex_normals(vertices, head.faces)[0]
        rim = ((normals * F.normalize(-vertices[0], dim=-1)).sum(-1).abs() < RIM).cpu().numpy()
        at = camera.project(vertices[0]).cpu().numpy()
        use = np.flatnonzero(rim & targets.margins.holds(at, size, BORDER) & (limit > 0) & (hidden < 0.5))
        # Between pixels: of the pixel that holds a vertex, left and right would differ by up to one.
        places = at[use, ::-1].T - 0.5
        inside = map_coordinates(outline_distance(targets.masks(frame)[0].cpu().numpy()), places, order=1)
        metres = inside * -vertices[0, use, 2].cpu().numpy() / focal
        believed = metres < 1.5 * limit[use]  # farther outlines are long hair, cut short
        total[use[believed]] += np.clip(metres[believed], -SHRINK, limit[use][believed])
        weight[use[believed]] += 1
    return np.where(weight > 0, total / np.maximum(weight, 1), np.nan)


def limit_by_slope(vertices: np.ndarray, edges: sp.csr_matrix, limit: np.ndarray, scalp: np.ndarray) -> np.ndarray:
    """(n,) m: what a vertex may grow so that hair rises from the hairline and the nape without a step."""
    a, b = edges.nonzero()
    lengths = sp.csr_matrix((np.linalg.norm(vertices[a] - vertices[b], axis=1), (a, b)), edges.shape)
    allowed = np.full(len(vertices), np.inf)
    for level in np.unique(limit[~scalp]):
        source = np.flatnonzero(~scalp & (limit == level))
        distance = dijkstra(lengths, indices=source, min_only=True)
        allowed = np.minimum(allowed, level + SLOPE * distance)
    return allowed


@torch.no_grad()
def grow(head: Head, parameters: HeadParameters, targets: Masks, max_growth: float) -> Tensor:
    """(n_d, 3) m, canonical: the scalp's rim vertices reach the outline, the rest of it follows as a membrane; face,
    neck and body stay.

    Hair grows along normals (section 3.1.3), smoothed. Ears stay: drawn to the hair's outline they would be crumpled.
    Where hair hangs past the ears, growth ends at them: the surface comes down to the ears and the neck.
    """
    faces, n = head.faces.cpu().numpy(), len(head.coarse.template)
    names = np.array(head.REGIONS)[head.regions[:n].cpu().numpy()]
    # A hairline that is lower on one side, by a vertex, would be a step in the hair there.
    names = np.where(names == names[mirrored(head)], names, "face")
    edges, scalp = adjacency(faces, n), names == "scalp"
    neutral = head.coarse.canonical(parameters.shape, parameters.expression.new_zeros(1, head.n_expression))[0]
    normals = vertex_normals(neutral[None], head.faces)[0].cpu().numpy()
    vertices = neutral.cpu().numpy()
    ear = ear_share(vertices, normals, scalp, edges)
    # As at the hairline, hair rises from the ears without a step: a funnel would open around them.
    scalp &= ear < EAR
    limit = np.where(scalp, max_growth, 0.0)
    hidden = hanging_hair(head, parameters, targets)[:, 1]
    seen = rim_growth(head, parameters, targets, limit, hidden)
    if np.isnan(seen).all():
        return torch.zeros_like(head.dense.template)
    membrane = sp.diags(np.asarray(edges.sum(1)).ravel()) - edges
    data = np.where(limit > 0, (~np.isnan(seen)).astype(float), FIXED)
    system = sp.diags(data) + STIFFNESS * membrane + 1e-6 * sp.identity(n)
    growth = spla.spsolve(system.tocsc(), data * np.nan_to_num(seen))
    growth = np.clip(growth, -SHRINK, limit)

    growth = np.where(scalp, np.minimum(growth, limit_by_slope(vertices, edges, limit, scalp)), growth)
    moved = (growth * (1 - ear))[:, None] * smoothed(normals, edges)
    moved[limit == 0] = 0
    moved = torch.from_numpy(moved.astype(np.float32)).to(head.coarse.template.device)
    return head.upsample @ moved


def mirrored(head: Head) -> np.ndarray:
    """(n_c,) the coarse vertex nearest to each one's mirror image: regions come from landmarks, which a detector puts
    a millimetre to one side."""
    points = head.coarse.template.cpu().numpy()
    return cKDTree(points).query(points * [-1, 1, 1])[1]


def smoothed(normals: np.ndarray, edges: sp.csr_matrix) -> np.ndarray:
    """(n, 3) unit vectors along which what covers a surface with such normals has its thickness."""
    smooth = averaged(normals, edges, SMOOTH)
    return smooth / np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-6)


def thickness_axes(head: Head, parameters: HeadParameters) -> Tensor:
    """(n_d, 3) unit vectors along which hair and clothes are thick or thin, canonical."""
    neutral = head.coarse.canonical(parameters.shape, parameters.expression.new_zeros(1, head.n_expression))
    normals = vertex_normals(neutral, head.faces)[0].cpu().numpy()
    axes = smoothed(normals, adjacency(head.faces.cpu().numpy(), len(normals))).astype(np.float32)
    return F.normalize(head.upsample @ torch.from_numpy(axes).to(head.upsample.device), dim=-1)


@torch.no_grad()
def hanging_hair(head: Head, parameters: HeadParameters, targets: Masks) -> np.ndarray:
    """(n_c, 2) 0..1: where hair that hangs past the ears hides the head, and where it lies beside it (see
    ``below_ears``)."""
    n = len(head.coarse.template)
    share, names = ears(head)[:n].cpu().numpy(), np.array(head.REGIONS)[head.regions[:n].cpu().numpy()]
    neutral = head.coarse.canonical(parameters.shape, parameters.expression.new_zeros(1, head.n_expression))[0]
    vertices = neutral.cpu().numpy()
    place = find_ears(vertices, share, np.isin(names, ["scalp", "neck"]))
    return below_ears(vertices, names, place, hanging_sides(head, parameters, targets, place))


def ears(head: Head) -> Tensor:
    """(n_d,) 0..1: where the ears are, from the template alone."""
    n = len(head.coarse.template)
    normals = vertex_normals(head.coarse.template[None], head.faces)[0].cpu().numpy()
    scalp = (head.regions[:n] == head.REGIONS.index("scalp")).cpu().numpy()
    share = ear_share(head.coarse.template.cpu().numpy(), normals, scalp, adjacency(head.faces.cpu().numpy(), n))
    coarse = torch.from_numpy(share.astype(np.float32)).to(head.upsample.device)
    return (head.upsample @ coarse.unsqueeze(-1)).squeeze(-1)


def ear_share(vertices: np.ndarray, normals: np.ndarray, scalp: np.ndarray, edges: sp.csr_matrix) -> np.ndarray:
    """(n,) 0..1, smooth: the folded skin at the skull's sides, whose normals do not point away from its centre."""
    outward = vertices - vertices[scalp].mean(0)
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    folded = averaged(1 - (normals * outward).sum(1), edges, 4) > FOLDED
    beside = np.abs(vertices[:, 0]) > 0.7 * np.quantile(np.abs(vertices[scalp, 0]), 0.99)
    ear = closed(scalp & folded & beside, edges, SHELL) & scalp
    return np.clip(4 * averaged(ear.astype(float), edges, 8), 0, 1)


def closed(inside: np.ndarray, edges: sp.csr_matrix, rounds: int) -> np.ndarray:
    """(n,) bool: with the holes and bays that are less than twice ``rounds`` edges wide."""

    def grown(part: np.ndarray) -> np.ndarray:
        for _ in range(rounds):
            part = part | (edges @ part > 0)
        return part

    return ~grown(~grown(inside))


def averaged(field: np.ndarray, edges: sp.csr_matrix, rounds: int) -> np.ndarray:
    """A vertex field (n,) or (n, k) averaged with its neighbours ``rounds`` times."""
    degree = np.maximum(np.asarray(edges.sum(1)).reshape(-1, *[1] * (field.ndim - 1)), 1)
    for _ in range(rounds):
        field = 0.5 * field + 0.5 * (edges @ field) / degree
    return field
