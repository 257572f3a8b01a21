"""Stage (d): D_s of a clip by integrating the estimated normals and depths, a linear problem.

With coarse head and D_t held still, each frame says of each edge e = x_i - x_j that it sees: n* . e = 0, and of each
vertex how deep it lies. Turned back to the canonical pose, these are equations in D_s alone; their sums over the
frames are one 3x3 system an edge and a vertex, whatever the number of frames.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from expportrait.fit.clip_model import ClipModel
from expportrait.fit.losses import MILLI
from expportrait.fit.seen import look

TILT = 0.1  # robust scale of n* . e / |e|, rad
DEPTH = 0.01  # robust scale of depth, m
ITERATIONS = 60  # of conjugate gradients


class StaticSolver:
    """Integrates D_s of one clip on the dense mesh."""

    def __init__(self, model: ClipModel, size: int, rest: Tensor):
        self.model, self.size, self.rest = model, size, rest
        faces = model.head.dense_faces
        self.edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values.unique(dim=0)
        self.key = self.edges[:, 0] * len(rest) + self.edges[:, 1]

    @torch.no_grad()
    def step(self, frames: Tensor, tell: Callable[[], None] = lambda: None) -> None:
        """One pass over ``frames`` and the solution."""
        m, head, p, s = self.model, self.model.head, self.model.parameters, self.model.s
        n, device = len(self.rest), m.device
        of_edge = torch.zeros(len(self.edges), 9, device=device)
        pull_edge = torch.zeros(len(self.edges), 3, device=device)
        of_vertex = torch.zeros(n, 9, device=device)
        pull_vertex = torch.zeros(n, 3, device=device)
        camera = p.camera(self.size)
        sure = m.confidence if m.confidence.dim() == 1 else m.confidence.mean(1)
        for one in frames.to(device).split(1):
            vertices = m.vertices(one, dense=True)
            targets = m.targets[self.size][one]
            seen = look(vertices[0], head.dense_faces, self.edges, m.rendered(vertices, self.size, True), targets, camera)
            transforms = head.transforms(p.shape, p.expression[one], p.matrices(one), p.translation(one))[0]
            turn = (head.dense.weights @ transforms[:, :, :3].flatten(1)).view(n, 3, 3)
            trust = float(sure[one].clamp(0.05, 1))
            rows = torch.searchsorted(self.key, seen.edges[:, 0] * n + seen.edges[:, 1])
            span = vertices[0, seen.edges[:, 0]] - vertices[0, seen.edges[:, 1]]
            length = span.norm(dim=-1, keepdim=True).clamp_min(1e-6)
            residual = (seen.normals * span / length).sum(-1)
            normal = (seen.normals - residual[:, None] * span / length) / length
            normal = (turn[seen.edges].mean(1).transpose(1, 2) @ normal[..., None])[..., 0]
            weight = trust * s.w_normal * seen.weight / (residual.square() + TILT**2).sqrt() / seen.weight.sum().clamp_min(1e-9)
            of_edge.index_add_(0, rows, (weight[:, None, None] * normal[:, :, None] * normal[:, None]).flatten(1))
            pull_edge.index_add_(0, rows, (weight * residual)[:, None] * normal)
            self.add_depth(seen, vertices[0], turn, trust, targets.disparity, of_vertex, pull_vertex)
            tell()
        count = len(frames)
        self.solve((of_edge / count).view(-1, 3, 3), pull_edge / count, (of_vertex / count).view(-1, 3, 3), pull_vertex / count)

    def add_depth(self, seen, vertices: Tensor, turn: Tensor, trust: float, disparity: bool, of_vertex: Tensor, pull: Tensor) -> None:
        points = seen.points
        if len(points) < 20:
            return
        depth = -vertices[points, 2]
        metres = depth.square() if disparity else torch.ones_like(depth)
        value = 1 / depth if disparity else depth
        basis = torch.stack([seen.depth * metres, metres], -1)
        known, weight = value * metres, seen.trust
        for _ in range(3):
            gram = basis.t() @ (weight[:, None] * basis)
            fit = torch.linalg.lstsq(gram, basis.t() @ (weight * known)[:, None]).solution[:, 0]
            residual = known - basis @ fit
            weight = seen.trust / (1 + (residual / DEPTH).square())
        if disparity:
            residual = -residual
        towards = -turn[points, 2]  # depth's derivative by the canonical offset
        weight = trust * self.model.s.w_depth / DEPTH * weight / seen.trust.sum().clamp_min(1)
        of_vertex.index_add_(0, points, (weight[:, None, None] * towards[:, :, None] * towards[:, None]).flatten(1))
        pull.index_add_(0, points, (weight * residual)[:, None] * towards)

    def solve(self, of_edge: Tensor, pull_edge: Tensor, of_vertex: Tensor, pull_vertex: Tensor) -> None:
        """Conjugate gradients for the change of D_s, with the offsets' own terms."""
        m, s = self.model, self.model.s
        mask, energy, n = m.static_mask, m.static_energy, len(self.rest)
        i, j = self.edges.unbind(1)

        def offsets(x: Tensor, grown: Tensor) -> Tensor:
            """Gradient of L_mag, L_lap and strain."""
            out = s.w_static_magnitude * MILLI**2 * grown
            out = out + s.w_static_laplacian * MILLI**2 * (energy.bilaplacian @ x)
            return 2 / n * (out + s.w_strain * (energy.strain @ grown))

        def product(x: Tensor) -> Tensor:
            moved = mask * x
            along = (of_edge @ (moved[i] - moved[j])[..., None])[..., 0]
            out = (of_vertex @ moved[..., None])[..., 0].index_add(0, i, along).index_add(0, j, -along)
            return mask * out + offsets(x, x)

        pull = pull_vertex.index_add(0, i, pull_edge).index_add(0, j, -pull_edge)
        right = -(mask * pull) - offsets(m.static_raw, m.static_raw - self.rest)
        # Jacobi's preconditioner from the traces.
        scale = of_vertex.diagonal(dim1=1, dim2=2).mean(1)
        trace = of_edge.diagonal(dim1=1, dim2=2).mean(1)
        scale = scale.index_add(0, i, trace).index_add(0, j, trace) * mask[:, 0].square()
        scale = scale + 2 / n * (s.w_static_magnitude + s.w_static_laplacian) * MILLI**2
        scale = (scale + 2 / n * s.w_strain * energy.stiffness).unsqueeze(-1)
        x, r = torch.zeros_like(right), right
        z = r / scale
        d, rz = z, (r * z).sum()
        for _ in range(ITERATIONS):
            q = product(d)
            step = rz / (d * q).sum().clamp_min(1e-30)
            x, r = x + step * d, r - step * q
            z = r / scale
            rz, old = (r * z).sum(), rz
            d = z + rz / old.clamp_min(1e-30) * d
        m.static_raw += x
