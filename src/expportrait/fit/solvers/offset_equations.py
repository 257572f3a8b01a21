"""Equations in one offset field: what frames say of edges, vertices and landmarks, summed, and what it says itself."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.fit.bias import NormalBias
from expportrait.fit.solvers.conjugate_gradients import conjugate_gradients
from expportrait.fit.terms.depth import VertexDepths
from expportrait.fit.terms.landmarks import LandmarkPoints
from expportrait.fit.terms.normals import EdgeNormals
from expportrait.fit.terms.offsets import OffsetEnergy, OffsetWeights
from expportrait.fit.terms.outline import Outline
from expportrait.fit.terms.surface import SurfaceResiduals


class Embedded:
    """Sums of equations in the offsets of p points that lie on the mesh: 3x3 blocks. ``corners`` (p, 3) are vertices,
    ``barycentric`` (p, 3) their shares in a point."""

    def __init__(self, corners: Tensor, barycentric: Tensor):
        self.corners, self.barycentric = corners, barycentric
        p = len(corners)
        self.hessian, self.gradient = barycentric.new_zeros(p, 3, 3), barycentric.new_zeros(p, 3)

    def of(self, field: Tensor) -> Tensor:
        """What a field (n, k) has at the points, (p, k)."""
        return (self.barycentric[..., None] * field[self.corners]).sum(1)

    def spread(self, values: Tensor, n: int, power: int = 1) -> Tensor:
        """Values (p, k) given to n vertices by their shares, to a ``power``: (n, k). With 1 the transpose of ``of``."""
        shares = self.barycentric[..., None] ** power * values[:, None]
        return values.new_zeros(n, values.shape[1]).index_add(0, self.corners.flatten(), shares.flatten(0, 1))


class System:
    """Sums of equations in the offsets of ``n`` vertices: 6x6 blocks of ``edges`` (E, 2), 3x3 of vertices and, where
    landmarks tell something, of ``points``; and where a ``bias`` of the normals moves along, 2x2 blocks of edges in
    that. Of one frame, without a bias, each edge's block is the square of its one row (6,), which is kept instead."""

    def __init__(self, edges: Tensor, n: int, bias: NormalBias | None = None, points: Embedded | None = None):
        self.edges, self.n, self.bias, self.points = edges, n, bias, points
        zeros = torch.zeros((), device=edges.device)
        self.edge_gradient = zeros.new_zeros(len(edges), 6)
        self.vertex_hessian, self.vertex_gradient = zeros.new_zeros(n, 3, 3), zeros.new_zeros(n, 3)
        if bias is None:
            self.edge_row = zeros.new_zeros(len(edges), 6)
        else:
            self.edge_hessian = zeros.new_zeros(len(edges), 6, 6)
            self.bias_hessian, self.bias_gradient = zeros.new_zeros(len(edges), 2, 2), zeros.new_zeros(len(edges), 2)
            self.mixed_hessian = zeros.new_zeros(len(edges), 6, 2)
        # (n, 3) each: offsets that a frame's unknown scale and shift of depth would explain, so no residual
        self.nullspace: list[Tensor] = []
        self.key = edges[:, 0] * n + edges[:, 1]

    def add(self, seen: SurfaceResiduals, turn: Tensor, share: float, weights: Mapping[str, float]) -> None:
        """Add ``share`` times the terms of one frame that have a weight; ``turn`` (n, 3, 3) from the canonical pose to
        the camera."""
        self.add_edges(seen.normals, turn, share * weights["normal"])
        weighted = self.add_vertices(seen.depth, turn, share * weights["depth"])
        if "outline" in weights:
            self.add_vertices(seen.outline, turn, share * weights["outline"])
        # Scale and shift follow the offsets: what they can take up is no residual (that of ``depth`` is free of it).
        if len(seen.depth.vertices):
            for row in seen.depth.nullspace(share * weights["depth"]):
                at = seen.depth.vertices
                self.nullspace.append(weighted.new_zeros(self.n, 3).index_copy(0, at, row[:, None] * weighted))

    def add_edges(self, term: EdgeNormals, turn: Tensor, w: float) -> None:
        """Add ``w`` times the normals of one frame."""
        rows = torch.searchsorted(self.key, term.edges[:, 0] * self.n + term.edges[:, 1])
        jacobian, residual, by_bias = term.by_offsets(turn), term.residual[:, None], term.bias_jacobian
        weighted = w * term.weight[:, None] * jacobian
        self.edge_gradient[rows] += residual * weighted
        if self.bias is None:
            self.edge_row[rows] = (w * term.weight[:, None]).sqrt() * jacobian
        else:
            self.edge_hessian[rows] += weighted[:, :, None] * jacobian[:, None]
            self.mixed_hessian[rows] += weighted[:, :, None] * by_bias[:, None]
            weighted = w * term.weight[:, None] * by_bias
            self.bias_hessian[rows] += weighted[:, :, None] * by_bias[:, None]
            self.bias_gradient[rows] += residual * weighted

    def add_vertices(self, term: VertexDepths | Outline, turn: Tensor, w: float) -> Tensor:
        """Add ``w`` times a term of one frame's m vertices; its weighted derivatives, (m, 3)."""
        jacobian = term.by_offsets(turn)
        weighted = w * term.weight[:, None] * jacobian
        self.vertex_hessian[term.vertices] += weighted[:, :, None] * jacobian[:, None]
        self.vertex_gradient[term.vertices] += term.residual[:, None] * weighted
        return weighted

    def add_points(self, term: LandmarkPoints, turn: Tensor, w: float) -> None:
        """Add ``w`` times the landmarks of one frame."""
        points = self.points
        jacobian = term.by_offsets(points.of(turn.flatten(1)).view(-1, 3, 3))
        weighted = w * term.weight[:, None, None] * jacobian
        points.hessian += weighted.transpose(1, 2) @ jacobian
        points.gradient += (weighted * term.residual[..., None]).sum(1)

    def inside(self, vertices: Tensor) -> "System":
        """The part of one frame's that concerns the offsets of some vertices (sorted), the others held still."""
        number = torch.full((self.n,), len(vertices), device=vertices.device)
        number[vertices] = torch.arange(len(vertices), device=vertices.device)
        rows = ((number[self.edges] < len(vertices)).any(1) & self.edge_row.any(1)).nonzero()[:, 0]
        part = System(number[self.edges[rows]], len(vertices) + 1)
        part.edge_row, part.edge_gradient = self.edge_row[rows], self.edge_gradient[rows]
        part.vertex_hessian[:-1] = self.vertex_hessian[vertices]
        part.vertex_gradient[:-1] = self.vertex_gradient[vertices]
        part.nullspace = [torch.cat([field[vertices], field[:1] * 0]) for field in self.nullspace]
        return part

    def solve(
        self,
        offset: Tensor,
        rest: Tensor,
        mask: Tensor,
        energy: OffsetEnergy,
        w: OffsetWeights,
        iterations: int,
    ) -> Tensor:
        """(n, 3) m: the offset field after a step from ``offset`` (n, 3), by conjugate gradients.

        ``rest`` (n, 3): where all of the field's own terms but L_lap are zero; ``mask`` (n, 1): what of the field acts.
        The bias of the normals, where there is one, moves along.
        """
        hessian = Hessian(self, mask, energy, w)
        residual = hessian.residual(offset, rest)
        moved, *turned = conjugate_gradients(hessian.product, residual, hessian.diagonal(), iterations)
        if self.bias is not None:
            self.bias.turn = self.bias.turn + turned[0]
        return offset + moved


class Hessian:
    """Second derivatives of a system's data terms and of a field's own, by the field (n, 3) and the bias (b, 2)."""

    def __init__(self, system: System, mask: Tensor, energy: OffsetEnergy, w: OffsetWeights):
        # Vertices and edges last: several times as fast as a small product each.
        last = lambda x: x.permute(1, 2, 0).contiguous()  # noqa: E731
        self.system, self.bias, self.mask, self.energy, self.w = system, system.bias, mask, energy, w
        self.points = system.points
        self.ends = system.edges.t().reshape(-1)
        self.i, self.j = self.ends.view(2, len(system.edges)).unbind(0)
        self.of_vertex = last(system.vertex_hessian)
        none = self.of_vertex.new_zeros(0, 3 * system.n)
        self.nullspace = last(torch.stack(system.nullspace, 1)).flatten(1) if system.nullspace else none
        if self.bias is None:
            self.of_edge = system.edge_row.t().contiguous()
        else:
            self.of_edge = last(system.edge_hessian)
            self.mixed, self.of_bias = last(system.mixed_hessian), last(system.bias_hessian)
            self.prior = 2 * w.of["normal_bias"] / self.bias.turn.numel()

    def product(self, step: list[Tensor]) -> list[Tensor]:
        """Times a step of the field (n, 3) and, where it moves, of the bias (b, 2)."""
        field, bias = self.of_data(self.mask * step[0], step[1] if len(step) > 1 else None)
        field = torch.addcmul(self.energy.product(step[0], self.w), self.mask, field)
        return [field] if bias is None else [field, bias]

    def of_data(self, moved: Tensor, turn: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Times a step as far as it acts, for the data terms and the bias's prior."""
        bias, short = self.bias, self.system.n - self.energy.n
        moved = F.pad(moved.t(), (0, short)).contiguous()  # short: the vertex that stands for those held still
        first, second = self.at_ends(moved)
        ends = torch.cat([first, second])
        if bias is None:
            along = self.of_edge * (self.of_edge * ends).sum(0)
        else:
            along = (self.of_edge * ends).sum(1)
            swing = (bias.basis @ turn).t().contiguous()
            first, second = self.at_ends(swing)
            swing = (first + second) / 2
            along = along + (self.mixed * swing).sum(1)
            pushed = (self.mixed * ends[:, None]).sum(0) + (self.of_bias * swing).sum(1)
            turn = bias.basis.t() @ self.to_ends(pushed) + self.prior * turn
        out = (self.of_vertex * moved).sum(1).index_add_(1, self.i, along[:3]).index_add_(1, self.j, along[3:])
        if len(self.nullspace):
            flat = out.view(-1)
            out = torch.addmv(flat, self.nullspace.t(), self.nullspace @ moved.view(-1), alpha=-1).view_as(out)
        out = out.t()
        if self.points is not None:
            pulled = torch.einsum("pij,pj->pi", self.points.hessian, self.points.of(moved.t()))
            out = out + self.points.spread(pulled, len(out))
        return out[: self.energy.n], turn

    def at_ends(self, x: Tensor) -> tuple[Tensor, ...]:
        """(k, n) -> (k, E) at the first and at the second end of every edge."""
        return x.index_select(1, self.ends).view(len(x), 2, len(self.i)).unbind(1)

    def to_ends(self, x: Tensor) -> Tensor:
        """(2, E) -> (n, 2): half of each edge goes to either end."""
        x = x / 2
        return x.new_zeros(2, self.system.n).index_add_(1, self.i, x).index_add_(1, self.j, x).t()

    def residual(self, offset: Tensor, rest: Tensor) -> list[Tensor]:
        """The negative gradient at ``offset`` and at the bias as it is."""
        system, bias, n = self.system, self.bias, self.energy.n
        pull = system.vertex_gradient.index_add(0, self.i, system.edge_gradient[:, :3])
        pull = pull.index_add(0, self.j, system.edge_gradient[:, 3:])
        if self.points is not None:
            pull = pull + self.points.spread(self.points.gradient, len(pull))
        pull = pull[:n]
        of_field = -self.mask * pull - self.energy.gradient(offset, offset - rest, self.w)
        if bias is None:
            return [of_field]
        return [of_field, -bias.basis.t() @ self.to_ends(system.bias_gradient.t()) - self.prior * bias.turn]

    def diagonal(self) -> list[Tensor]:
        """About the diagonal, for preconditioning: one number a vertex, and the bias's own."""
        system, bias = self.system, self.bias
        trace = system.edge_row.square() if bias is None else system.edge_hessian.diagonal(dim1=1, dim2=2)
        found = system.vertex_hessian.diagonal(dim1=1, dim2=2).mean(1)
        found = found.index_add(0, self.i, trace[:, :3].mean(1)).index_add(0, self.j, trace[:, 3:].mean(1))
        if self.points is not None:
            trace = self.points.hessian.diagonal(dim1=1, dim2=2).mean(1)[:, None]
            found = found + self.points.spread(trace, len(found), power=2)[:, 0]
        found = found[: self.energy.n] * self.mask[:, 0].square() + self.energy.diagonal(self.w)
        of_field = (found + 1e-12).unsqueeze(-1)
        if bias is None:
            return [of_field]
        diagonal = self.to_ends(system.bias_hessian.diagonal(dim1=1, dim2=2).t())
        return [of_field, bias.basis.square().t() @ diagonal + self.prior + 1e-12]
