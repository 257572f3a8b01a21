"""Offset fields by integrating the estimated normals and depths, a linear problem where the coarse head is held still.

Each frame says of each edge x_i - x_j that it sees how it should tilt, and of each vertex how deep it lies. Turned
back to the canonical pose, these are equations in the offsets alone. For D_s their sums over the frames are one 3x3
system an edge and a vertex, however many frames there are; for D_t each frame is solved by itself.
"""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from expportrait.fit.bias import NormalBias
from expportrait.fit.clip_model import ClipModel
from expportrait.fit.evidence.seen import Seen, look
from expportrait.fit.solvers.newton import Tell
from expportrait.fit.terms.offsets import OffsetEnergy, OffsetWeights
from expportrait.fit.terms.priors import energies, numbers, of_bias

STATIC_ITERATIONS, DYNAMIC_ITERATIONS = 60, 30  # of conjugate gradients


class System:
    """Sums of equations in the offsets of ``n`` vertices: 3x3 blocks of ``edges`` (E, 2) and of vertices; and where a
    ``bias`` of the normals moves along, 2x2 blocks of edges in that."""

    def __init__(self, edges: Tensor, n: int, bias: NormalBias | None = None):
        self.edges, self.n, self.bias = edges, n, bias
        self.of_edge, self.pull_edge = edges.new_zeros(len(edges), 3, 3).float(), edges.new_zeros(len(edges), 3).float()
        self.of_vertex, self.pull_vertex = edges.new_zeros(n, 3, 3).float(), edges.new_zeros(n, 3).float()
        if bias is not None:
            self.of_swing, self.pull_swing = self.of_edge[:, :2, :2].clone(), self.pull_edge[:, :2].clone()
            self.between = self.of_edge[:, :, :2].clone()
        self.free: list[Tensor] = []  # (n, 3) fields each, of unit weight, that a frame's scale and shift of depth take
        self.key = edges[:, 0] * n + edges[:, 1]

    def add(self, seen: Seen, turn: Tensor, w_normal: float, w_depth: float, w_outline: float) -> None:
        """One frame; ``turn`` (n, 3, 3) from the canonical pose to the camera."""
        rows = torch.searchsorted(self.key, seen.edges[:, 0] * self.n + seen.edges[:, 1])
        across = (turn[seen.edges].mean(1).transpose(1, 2) @ seen.across[..., None])[..., 0]
        weighted = w_normal * seen.edge_weight[:, None] * across
        self.of_edge[rows] += weighted[:, :, None] * across[:, None]
        self.pull_edge[rows] += seen.tilt[:, None] * weighted
        if self.bias is not None:
            self.between[rows] += weighted[:, :, None] * seen.swing[:, None]
            weighted = w_normal * seen.edge_weight[:, None] * seen.swing
            self.of_swing[rows] += weighted[:, :, None] * seen.swing[:, None]
            self.pull_swing[rows] += seen.tilt[:, None] * weighted
        away = -turn[seen.points, 2]
        weighted = w_depth * seen.depth_weight[:, None] * away
        self.of_vertex[seen.points] += weighted[:, :, None] * away[:, None]
        self.pull_vertex[seen.points] += seen.gap[:, None] * weighted
        outward = (turn[seen.rim].transpose(1, 2) @ seen.outward[..., None])[..., 0]
        push = w_outline * seen.rim_weight[:, None] * outward
        self.of_vertex[seen.rim] += push[:, :, None] * outward[:, None]
        self.pull_vertex[seen.rim] += seen.excess[:, None] * push
        # Scale and shift follow the offsets: what they can take up is no residual (``gap`` is already free of it).
        if len(seen.points):
            basis = seen.basis / seen.basis.abs().amax(0)
            gram = w_depth * basis.t() @ (seen.depth_weight[:, None] * basis)
            gram = gram + 1e-6 * gram.diagonal().amax() * torch.eye(len(gram), device=gram.device)
            taken = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), basis.t(), upper=False)
            for row in taken:
                self.free.append(weighted.new_zeros(self.n, 3).index_copy(0, seen.points, row[:, None] * weighted))

    def inside(self, vertices: Tensor) -> "System":
        """The part that concerns the offsets of some vertices (sorted), the others held still."""
        number = torch.full((self.n,), len(vertices), device=vertices.device)
        number[vertices] = torch.arange(len(vertices), device=vertices.device)
        rows = (
            (number[self.edges] < len(vertices)).any(1) & (self.of_edge.diagonal(dim1=1, dim2=2).sum(1) > 0)
        ).nonzero()
        part = System(number[self.edges[rows[:, 0]]], len(vertices) + 1)
        part.of_edge, part.pull_edge = self.of_edge[rows[:, 0]], self.pull_edge[rows[:, 0]]
        part.of_vertex[:-1], part.pull_vertex[:-1] = self.of_vertex[vertices], self.pull_vertex[vertices]
        part.free = [torch.cat([field[vertices], field[:1] * 0]) for field in self.free]
        return part

    def solve(
        self,
        offset: Tensor,
        rest: Tensor,
        mask: Tensor,
        energy: OffsetEnergy,
        w: OffsetWeights,
        iterations: int,
        w_bias: float = 0.0,
    ) -> Tensor:
        """(n, 3) m: the offset field after a step from ``offset`` (n, 3), by conjugate gradients.

        ``rest`` (n, 3): where all of the field's own terms but L_lap are zero; ``mask`` (n, 1): what of the field acts.
        The bias of the normals moves, held by ``w_bias``.
        """
        i, j = self.edges.t().contiguous()
        short = self.n - energy.n  # the vertex that stands for those held still
        pad = lambda x: torch.cat([x, x.new_zeros(short, x.shape[1])]) if short else x  # noqa: E731
        # Vertices and edges last: several times as fast as a small product each.
        last = lambda x: x.permute(1, 2, 0).contiguous()  # noqa: E731
        of_edge, of_vertex = last(self.of_edge), last(self.of_vertex)
        free = last(torch.stack(self.free, 1)).flatten(1) if self.free else of_vertex.new_zeros(0, 3 * self.n)
        bias = self.bias
        if bias is not None:
            between, of_swing, prior = last(self.between), last(self.of_swing), 2 * w_bias / bias.turn.numel()

            def total(x: Tensor) -> Tensor:
                """(2, E) -> (n, 2): of each edge, half goes to either end."""
                return x.new_zeros(2, self.n).index_add(1, i, x / 2).index_add(1, j, x / 2).t()

        def data(moved: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
            moved = pad(moved).t().contiguous()
            stretch = moved.index_select(1, i) - moved.index_select(1, j)
            along = (of_edge * stretch).sum(1)
            if bias is not None:
                swing = (bias.basis @ turn).t().contiguous()
                swing = (swing.index_select(1, i) + swing.index_select(1, j)) / 2
                along = along + (between * swing).sum(1)
                pushed = (between * stretch[:, None]).sum(0) + (of_swing * swing).sum(1)
                turn = bias.basis.t() @ total(pushed) + prior * turn
            out = (of_vertex * moved).sum(1).index_add(1, i, along).index_add(1, j, -along)
            out = out - (free.t() @ (free @ moved.flatten())).view_as(out)
            return out.t()[: energy.n], turn

        def product(step: list[Tensor]) -> list[Tensor]:
            pushed, turned = data(mask * step[0], step[1])
            return [mask * pushed + energy.gradient(step[0], step[0], w), turned]

        pull = self.pull_vertex.index_add(0, i, self.pull_edge).index_add(0, j, -self.pull_edge)[: energy.n]
        residual = [-mask * pull - energy.gradient(offset, offset - rest, w)]
        trace = self.of_edge.diagonal(dim1=1, dim2=2).mean(1)
        stiffness = self.of_vertex.diagonal(dim1=1, dim2=2).mean(1).index_add(0, i, trace).index_add(0, j, trace)
        stiffness = stiffness[: energy.n] * mask[:, 0].square() + energy.diagonal(w)
        stiffness = [(stiffness + 1e-12).unsqueeze(-1)]
        if bias is None:
            residual.append(offset.new_zeros(0, 2))
            stiffness.append(offset.new_ones(0, 2))
        else:
            residual.append(-bias.basis.t() @ total(self.pull_swing.t()) - prior * bias.turn)
            diagonal = total(self.of_swing.diagonal(dim1=1, dim2=2).t())
            stiffness.append(bias.basis.square().t() @ diagonal + prior + 1e-12)
        moved, turned = conjugate_gradients(product, residual, stiffness, iterations)
        if bias is not None:
            bias.turn = bias.turn + turned
        return offset + moved


def conjugate_gradients(
    product: Callable[[list[Tensor]], list[Tensor]], residual: list[Tensor], stiffness: list[Tensor], iterations: int
) -> list[Tensor]:
    """The solution of a positive definite system in several tensors of unknowns; ``stiffness``: near its diagonal."""

    def dot(x: list[Tensor], y: list[Tensor]) -> Tensor:
        return sum((a * b).sum() for a, b in zip(x, y, strict=True))

    def plus(x: list[Tensor], factor: Tensor, y: list[Tensor]) -> list[Tensor]:
        return [a + factor * b for a, b in zip(x, y, strict=True)]

    solution = [torch.zeros_like(x) for x in residual]
    ready = [a / b for a, b in zip(residual, stiffness, strict=True)]
    direction, size = ready, dot(residual, ready)
    for _ in range(iterations):
        change = product(direction)
        along = size / dot(direction, change).clamp_min(1e-30)
        solution, residual = plus(solution, along, direction), plus(residual, -along, change)
        ready = [a / b for a, b in zip(residual, stiffness, strict=True)]
        size, old = dot(residual, ready), size
        direction = plus(ready, size / old.clamp_min(1e-30), direction)
    return solution


class Integrator:
    """Steps of the offset fields of one clip, at image size ``size``."""

    def __init__(self, model: ClipModel, size: int):
        self.model, self.size = model, size
        self.edges = model.dense_edges

    def frame(self, one: Tensor) -> tuple[Seen, Tensor]:
        """What a frame says, and the turn (n, 3, 3) of its vertices from the canonical pose."""
        model, p, head = self.model, self.model.parameters, self.model.head
        vertices = model.vertices(one, dense=True)
        rendered = model.rendered(vertices, self.size, dense=True)
        camera, targets = p.camera(self.size), model.targets[self.size][one]
        valid = model.valid(one, vertices, self.size)[0]
        trust, bias = model.reliable, model.bias.at(vertices.shape[1])
        seen = look(vertices[0], head.dense_faces, self.edges, rendered, targets, camera, trust, valid, bias)
        transforms = head.transforms(p.shape, p.expression[one], p.matrices(one), p.translation(one))[0]
        return seen, (head.dense.weights @ transforms[:, :, :3].flatten(1)).view(-1, 3, 3)

    @torch.no_grad()
    def static_step(self, frames: Tensor, tell: Tell = lambda count: None) -> dict[str, float]:
        """Move D_s, and the bias of the normals, to what ``frames`` say, with D_t held still; the weighted terms
        before."""
        model, s = self.model, self.model.s
        system, losses = System(self.edges, len(model.static_raw), model.bias), Counter[str]()
        data = {"normal": s.w_normal, "depth": s.w_depth, "outline": s.w_outline}
        for one in frames.to(model.device).split(1):
            seen, turn = self.frame(one)
            share = float(model.trust[one]) / len(frames)
            system.add(seen, turn, *(share * weight for weight in data.values()))
            losses.update(seen.energies(share, data))
            tell(1)
        losses.update(numbers(model.static_terms() | energies(of_bias(model.bias.turn, s))))
        start, mask, energy = model.static_start, model.static_mask, model.static_energy
        model.static_raw = system.solve(
            model.static_raw, start, mask, energy, model.static_weights(), STATIC_ITERATIONS, s.w_normal_bias
        )
        if s.coarse_passes:  # 0: the coarse head is given
            model.straighten(system.of_vertex.diagonal(dim1=1, dim2=2).sum(1) > 0)
        return dict(losses)

    @torch.no_grad()
    def dynamic_step(self, tell: Tell = lambda count: None) -> dict[str, float]:
        """Move every frame's D_t to what the frame says of it, with D_s held still; the weighted terms before."""
        model, s = self.model, self.model.s
        weights, losses = model.dynamic_weights(), Counter[str]()
        data = {"normal": s.w_normal, "depth": s.w_depth, "outline": 0.0}  # D_t is not drawn to the outline
        for one in torch.arange(model.frames, device=model.device).split(1):
            seen, turn = self.frame(one)
            trust = float(model.trust[one])
            system = System(self.edges, len(model.static_raw))
            system.add(seen, turn, *(trust * weight for weight in data.values()))
            before = model.dynamic[one][0]
            losses.update(seen.energies(trust / model.frames, data))
            own = numbers(model.dynamic_terms(before[None]))
            losses.update({name: value / model.frames for name, value in own.items()})
            after = system.inside(model.face).solve(
                before, torch.zeros_like(before), model.dynamic_mask, model.dynamic_energy, weights, DYNAMIC_ITERATIONS
            )
            model.dynamic.move(one, (after - before)[None])
            tell(1)
        return dict(losses)
