"""The dense losses of section 3.1.2: geometry (eq. 6), silhouette, and the quadratic terms on the offset fields."""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from expportrait.fit.bias import unbiased
from expportrait.fit.evidence.targets import Targets
from expportrait.render import Fragments
from expportrait.settings.config import Proxy

DEPTH_CLAMP = 0.02  # m; larger residuals are occlusions or another surface
MILLI = 1000.0  # offsets are metres, their weights are per mm^2


def scale_and_shift(
    value: Tensor, estimate: Tensor, weight: Tensor, group: Tensor, groups: int, anchored: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weighted least squares value ~ a estimate + b, a > 0, in every group. All (P,); group int -> two (groups,).

    ``anchored`` (groups,): b is zero.
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


def geometry_loss(fragments: Fragments, targets: Targets, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Eq. (6) over M_t: (normal term, depth term in m). ``fragments``: renders of the targets' frames at their size;
    ``bias`` (n, 2) rad: of the normals, at the mesh's vertices."""
    pixels = targets.size**2
    index, group = fragments.index, fragments.index // pixels
    weight = (targets.confidence * targets.mask).flatten().index_select(0, index)
    norm = weight.sum().clamp_min(1.0)
    wanted = targets.normals.reshape(-1, 3).index_select(0, index)
    if bias is not None:
        with torch.no_grad():
            wanted = unbiased(wanted, fragments.interpolate(bias))
    cosine = (fragments.normals * wanted).sum(-1)
    normal = (weight * ((1 - cosine) + 0.5 * (fragments.normals - wanted).abs().sum(-1))).sum() / norm

    estimate = targets.depth.flatten().index_select(0, index)
    depth = fragments.depth
    with torch.no_grad():
        value = 1 / depth if targets.disparity else depth
        a, b = scale_and_shift(value, estimate, weight, group, targets.frames, targets.anchored)
        metres = depth.square() if targets.disparity else torch.ones_like(depth)
        residual = (value - (a[group] * estimate + b[group])) * metres
        robust = weight / (1 + (residual / DEPTH_CLAMP).square())
        a, b = scale_and_shift(value, estimate, robust, group, targets.frames, targets.anchored)
    value = 1 / depth if targets.disparity else depth
    residual = ((value - (a[group] * estimate + b[group])) * metres).abs().clamp_max(DEPTH_CLAMP)
    return normal, (weight * residual).sum() / norm


def silhouette_loss(coverage: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """L_sil: mean |A - mask| over valid pixels. coverage (B, h, w) with edge gradients; mask, valid (B, h, w) 0..1."""
    return (valid * (coverage - mask).abs()).sum() / valid.sum().clamp_min(1.0)


class _Quadratic(torch.autograd.Function):
    """x^T K x for a sparse symmetric K: its gradient is one more product, not a graph through the sparse kernel."""

    @staticmethod
    def forward(ctx, x: Tensor, matrix: Tensor) -> Tensor:  # noqa: ANN001
        product = (matrix @ x.flatten(1)).view_as(x)
        ctx.save_for_backward(product)
        return (x * product).sum()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN001
        (product,) = ctx.saved_tensors
        return 2 * gradient * product, None


def adjacency(faces: np.ndarray, vertices: int) -> sp.csr_matrix:
    """0/1 vertex adjacency of a mesh, (vertices, vertices)."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    matrix = sp.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(vertices, vertices))
    matrix.data[:] = 1.0
    return matrix


def laplacian(faces: np.ndarray, vertices: int) -> sp.csr_matrix:
    """Uniform random-walk Laplacian I - D^-1 A of a mesh, (vertices, vertices)."""
    matrix = adjacency(faces, vertices)
    degree = np.maximum(np.asarray(matrix.sum(1)).ravel(), 1)
    return sp.identity(vertices, format="csr") - sp.diags(1 / degree) @ matrix


def to_torch(matrix: sp.spmatrix) -> Tensor:
    csr = matrix.tocsr().astype(np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # beta, but it is the fast one
        return torch.sparse_csr_tensor(
            torch.from_numpy(csr.indptr.astype(np.int64)),
            torch.from_numpy(csr.indices.astype(np.int64)),
            torch.from_numpy(csr.data),
            size=csr.shape,
            check_invariants=False,
        )


def strain_matrix(faces: np.ndarray, vertices: np.ndarray, weight: np.ndarray | None = None) -> sp.csr_matrix:
    """K with x^T K x = sum over edges of |x_i - x_j|^2 / |e_ij|^2, the squared stretch of an offset field. (n, n).

    ``weight`` (n,): of the edges at a vertex, averaged over their two ends."""
    edges = adjacency(faces, len(vertices))
    i, j = edges.nonzero()
    stiffness = 1 / np.maximum(((vertices[i] - vertices[j]) ** 2).sum(1), 1e-8)
    if weight is not None:
        stiffness *= (weight[i] + weight[j]) / 2
    weights = sp.csr_matrix((stiffness, (i, j)), edges.shape)
    return sp.diags(np.asarray(weights.sum(1)).ravel()) - weights


@dataclass
class OffsetWeights:
    """Of one field's own terms: L_mag and L_lap (per mm^2), squared stretch, L_mag along the surface (per mm^2), for
    which ``along`` (n, 3, 3) projects onto it."""

    magnitude: float
    laplacian: float
    strain: float
    tangent: float = 0.0
    along: Tensor | None = None


class OffsetEnergy:
    """L_mag, L_lap and L_str of an offset field over ``n`` vertices, as means over vertices; the first two per mm^2.

    ``terms`` are what Adam differentiates; ``gradient`` is their derivative in closed form, for the linear solver.
    """

    def __init__(
        self,
        laplacian: sp.csr_matrix,
        strain: sp.csr_matrix,
        device: torch.device | str = "cpu",
        held: Tensor | None = None,
    ):
        """``held`` (n,): times L_mag of a vertex."""
        self.n = laplacian.shape[0]
        self.held = torch.ones(self.n, 1, device=device) if held is None else held[:, None].to(device)
        self.bilaplacian = to_torch(laplacian.T @ laplacian).to(device)
        self.strain = to_torch(strain).to(device)
        self.stiffness = torch.from_numpy(strain.diagonal()).float().to(device)
        self.average = to_torch(sp.identity(self.n) - laplacian).to(device)

    def __call__(self, offset: Tensor, magnitude: float = 0.0, smoothness: float = 0.0, strain: float = 0.0) -> Tensor:
        """offset (n, ..., 3) m -> weighted sum, a mean over the trailing fields."""
        loss = magnitude * MILLI**2 * (self.held * offset.flatten(1).square()).sum()
        if smoothness:
            loss = loss + smoothness * MILLI**2 * _Quadratic.apply(offset, self.bilaplacian)
        if strain:
            loss = loss + strain * _Quadratic.apply(offset, self.strain)
        return loss / (self.n * (offset[0].numel() // 3))

    def terms(self, offset: Tensor, rest: Tensor | None, w: OffsetWeights) -> dict[str, Tensor]:
        """Every weighted term of ``offset`` (n, ..., 3) m; ``rest``, alike: where all but L_lap are zero."""
        moved = offset if rest is None else offset - rest
        found = {"magnitude": self(moved, w.magnitude), "strain": self(moved, strain=w.strain)}
        found["laplacian"] = self(offset, smoothness=w.laplacian)
        if w.along is not None:
            slid = (w.along @ moved[..., None])[..., 0]
            found["tangent"] = w.tangent * MILLI**2 * (slid * moved).sum(-1).mean()
        return found

    def gradient(self, offset: Tensor, moved: Tensor, w: OffsetWeights) -> Tensor:
        """(n, 3): the derivative of the sum of ``terms`` by ``offset`` (n, 3), of which ``moved`` is less the rest. It
        is linear: of a step, as both, it is the product with the second derivatives."""
        out = w.magnitude * MILLI**2 * self.held * moved + w.strain * (self.strain @ moved)
        if w.laplacian:
            out = out + w.laplacian * MILLI**2 * (self.bilaplacian @ offset)
        if w.along is not None:
            out = out + w.tangent * MILLI**2 * torch.einsum("nij,nj->ni", w.along, moved)
        return 2 / self.n * out

    def diagonal(self, w: OffsetWeights) -> Tensor:
        """(n,) of about the second derivatives, for preconditioning."""
        own = (w.magnitude * self.held[:, 0] + 1.2 * w.laplacian) * MILLI**2 + w.strain * self.stiffness
        if w.along is not None:
            own = own + w.tangent * MILLI**2 * w.along.diagonal(dim1=1, dim2=2).mean(1)
        return 2 / self.n * own

    def smooth(self, field: Tensor, rounds: int) -> Tensor:
        """Average a (n, ...) field over neighbours ``rounds`` times."""
        flat = field.flatten(1)
        for _ in range(rounds):
            flat = 0.5 * flat + 0.5 * (self.average @ flat)
        return flat.view_as(field)


def weighted_terms(terms: dict[str, Tensor], s: Proxy) -> dict[str, Tensor]:
    """The data terms, each times its weight."""
    weight = {"landmark": s.w_landmark, "normal": s.w_normal, "depth": s.w_depth, "silhouette": s.w_silhouette}
    return {name: weight[name] * value for name, value in terms.items()}
