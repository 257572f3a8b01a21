"""Offset fields by integrating the estimated normals and depths, a linear problem where the coarse head is held still.

Each frame says of each edge x_i - x_j that it sees how it should tilt and slide, and of each vertex how deep it lies.
Turned back to the canonical pose, these are equations in the offsets alone. For D_s their sums over the frames are one
block an edge (6x6, of both ends) and a vertex (3x3), however many frames there are; for D_t each frame is solved by
itself.
"""

import torch
from torch import Tensor

from expportrait.fit.bias import NormalBias
from expportrait.fit.evidence.targets import TargetFile
from expportrait.fit.model import ClipModel, singly
from expportrait.fit.solvers.exchange import straighten
from expportrait.fit.solvers.newton import Tell
from expportrait.fit.solvers.offset_equations import Embedded, System
from expportrait.fit.terms.priors import of_bias
from expportrait.fit.terms.residuals import add, energies, numbers
from expportrait.fit.terms.surface import SurfaceResiduals

STATIC_ITERATIONS, DYNAMIC_ITERATIONS = 60, 30  # of conjugate gradients


class Integrator:
    """Steps of the offset fields of one clip, at image size ``size``."""

    def __init__(self, model: ClipModel, size: int):
        self.model, self.size = model, size

    def frame(self, one: slice, maps: TargetFile | None = None) -> tuple[SurfaceResiduals, Tensor]:
        """What a frame says by ``maps`` or the problem's, and the turn (n, 3, 3) of its vertices from the canonical
        pose."""
        model = self.model
        seen = model.observed(one, self.size, True, model.problem.dense_edges, maps)
        turns = model.posed().transforms[one][0, :, :, :3]
        return seen, (model.head.dense.weights @ turns.flatten(1)).view(-1, 3, 3)

    def system(self, bias: NormalBias | None = None) -> System:
        """An empty one; with a ``bias``, that of D_s, which landmarks draw too."""
        model = self.model
        points = None if bias is None else Embedded(model.landmark_corners, model.head.landmark_barycentric)
        return System(model.problem.dense_edges, len(model.unknowns.static), bias, points)

    @torch.no_grad()
    def static_step(self, frames: Tensor, tell: Tell = lambda count: None) -> dict[str, float]:
        """Move D_s, and the bias of the normals, to what ``frames`` say, with D_t held still; the weighted terms
        before."""
        model, problem, u, weights = self.model, self.model.problem, self.model.unknowns, self.model.static_weights()
        system, terms, trust = self.system(u.bias), {}, model.judged.trust.tolist()
        for one in singly(frames):
            seen, turn = self.frame(one)
            share = trust[one.start] / len(frames)
            system.add(seen, turn, share, weights.of)
            add(terms, seen.energies(share, weights.of))
            points, scale = model.observed_points(one), weights.of["landmark"] / len(frames)
            system.add_points(points, turn, scale)
            add(terms, {"landmark": scale * points.energy()})
            tell(1)
        add(terms, model.static_energies() | energies(of_bias(u.bias.turn, weights.of)))
        told = numbers(terms)
        start, mask, energy = model.judged.static_start, problem.static_mask, problem.static_energy
        u.static = system.solve(u.static, start, mask, energy, weights, STATIC_ITERATIONS)
        if model.settings.coarse_passes:  # 0: the coarse head is given
            straighten(model, system.vertex_hessian.diagonal(dim1=1, dim2=2).sum(1) > 0)
        return told

    @torch.no_grad()
    def dynamic_step(self, tell: Tell = lambda count: None) -> dict[str, float]:
        """Move every frame's D_t to what the frame says of it, with D_s held still; the weighted terms before."""
        model, problem, dynamic = self.model, self.model.problem, self.model.unknowns.dynamic
        weights, terms, trusted = model.dynamic_weights(), {}, model.judged.trust.tolist()
        maps = model.maps_of_frames(self.size)
        for one in singly(torch.arange(model.frames)):
            seen, turn = self.frame(one, maps)
            trust = trusted[one.start]
            system = self.system()
            system.add(seen, turn, trust, weights.of)
            before = dynamic[one][0]
            add(terms, seen.energies(trust / model.frames, weights.of))
            add(terms, {name: value / model.frames for name, value in model.dynamic_energies(before[None]).items()})
            rest, mask, energy = torch.zeros_like(before), problem.dynamic_mask, problem.dynamic_energy
            inside = system.inside(problem.dynamic_vertices)
            after = inside.solve(before, rest, mask, energy, weights, DYNAMIC_ITERATIONS)
            dynamic.move(one, (after - before)[None])
            tell(1)
        return numbers(terms)
