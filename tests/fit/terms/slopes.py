"""Of every kind of step: the derivative that its solver takes, and what it records after the unknowns have moved."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from expportrait.fit import landmark_fit
from expportrait.fit.model import ClipModel
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.solvers.coarse_equations import CoarseEquations
from expportrait.fit.solvers.integrate import Integrator
from expportrait.fit.solvers.newton import CoarseStep
from expportrait.fit.solvers.offset_equations import Hessian
from expportrait.fit.solvers.polish import offset_terms
from expportrait.fit.terms import depth, normals, outline
from expportrait.fit.terms.depth import VertexDepths, taken_up
from expportrait.fit.terms.landmarks import LandmarkPoints
from expportrait.fit.terms.normals import EdgeNormals
from expportrait.fit.terms.outline import Outline
from expportrait.fit.terms.priors import of_bias, prior_energies
from expportrait.fit.terms.residuals import energies
from expportrait.fit.terms.table import StepTerms
from expportrait.fit.terms.temporal import temporal_energies
from tests.fit.terms.make import SIZE, stepped

Unknowns = dict[str, Tensor]  # by name: a derivative, or a step
SurfaceTerm = EdgeNormals | VertexDepths | Outline


def double(term: SurfaceTerm) -> SurfaceTerm:
    """The same in float64."""
    return replace(term, **{k: v.double() for k, v in vars(term).items() if v.is_floating_point()})


def again(term: SurfaceTerm, change: Tensor) -> Tensor:
    """The energy of a term (float64) whose residuals have changed by ``change`` (m,), with the same trust in what was
    seen."""

    def robust(x: Tensor) -> Tensor:
        if isinstance(term, EdgeNormals):
            return (x.square() + normals.ROBUST**2).rsqrt()
        return 1 / (1 + (x / (depth if isinstance(term, VertexDepths) else outline).ROBUST).square())

    residual = term.residual + change
    return replace(term, residual=residual, weight=term.weight / robust(term.residual) * robust(residual)).energy()


def refound(term: SurfaceTerm, change: Tensor) -> Tensor:
    """The change of the residuals once scale and shift of a depth are found again."""
    if not isinstance(term, VertexDepths):
        return change
    return change - taken_up(term.basis, term.weight, change[:, None])[:, 0]


def tilted(term: SurfaceTerm, moved: Tensor, swung: Tensor, turn: Tensor | None = None) -> Tensor:
    """(m,) by how much the residuals change as vertices move (n, 3) and the normals' bias does (n, 2); with ``turn``
    (n, 3, 3) they move by canonical offsets."""
    turn = torch.eye(3, dtype=moved.dtype).expand(len(moved), 3, 3) if turn is None else turn
    if isinstance(term, EdgeNormals):
        ends = (turn[term.edges] @ moved[term.edges][..., None])[..., 0]
        return (term.jacobian * ends).sum((1, 2)) + (term.bias_jacobian * swung[term.edges].mean(1)).sum(1)
    posed = (turn[term.vertices] @ moved[term.vertices][..., None])[..., 0]
    return -posed[:, 2] if isinstance(term, VertexDepths) else (term.jacobian * posed).sum(1)


def first_vertices(term: SurfaceTerm, n: int) -> SurfaceTerm:
    """The part of a term that the first n vertices have."""
    if isinstance(term, EdgeNormals):
        return term
    mine = term.vertices < n
    return replace(term, **{name: value[mine] for name, value in vars(term).items()})


def surface_terms(seen: object, w: Mapping[str, float]) -> dict[str, SurfaceTerm]:
    """Those that have a weight."""
    found = {"normal": seen.normals, "depth": seen.depth, "outline": seen.outline}
    return {name: double(term) for name, term in found.items() if w.get(name)}


class Coarse:
    """Steps of the coarse head, by Gauss-Newton."""

    def __init__(self, fitter: ClipModel, kind: StepTerms):
        self.fitter, self.kind, self.dense = fitter, kind, "bias" in kind.moves
        self.frames = [slice(t, t + 1) for t in range(fitter.frames)]

    def split(self, own: Tensor, shared: Tensor) -> Unknowns:
        """By unknown, of ``CoarseEquations``' vectors (T, n) and (c,)."""
        e, s = self.fitter.head.n_expression, self.fitter.head.n_shape
        names = ("expression", "rotation", "place", "log_scale")
        found = dict(zip(names, own.split([e, 18, 2, 1], 1), strict=True))
        bias = [len(shared) - s - 13] if self.dense else []
        names = ("shape", "shoulders", "log_focal", *(["bias"] if self.dense else []))
        return found | dict(zip(names, shared.split([s, 12, 1, *bias]), strict=True))

    def gradient(self) -> Unknowns:
        """J^T r of all rows, as the solver sums them up."""
        step = CoarseStep(self.fitter, SIZE, self.kind)
        n, frames = step.own, self.fitter.frames
        own = torch.zeros(frames, n, dtype=torch.float64)
        shared = torch.zeros(step.equations.shared + step.equations.bias_terms, dtype=torch.float64)
        if any(step.weights.get(name) for name in ("landmark", "normal", "depth", "outline")):
            for t in range(frames):
                transforms, change = step.equations.joints(torch.tensor([t]))
                column = step.equations.gram(t, transforms[0], change[0])[:-1, -1]
                own[t], shared = own[t] + column[:n], shared + column[n:]
        rows, moving, clip = step.priors(0, frames), step.motion(0, frames), step.clip_priors()
        own += torch.einsum("tkn,tk->tn", rows[:, :, :n], rows[..., -1])
        # The mean of the torso's rotations lies where the energy is least: nothing draws it.
        assert torch.einsum("tkn,tk->n", rows[:, :, n:-1], rows[..., -1]).abs().max() < 1e-6
        for t in range(1, frames - 1):
            change = moving[t - 1][:, -1] - 2 * moving[t][:, -1] + moving[t + 1][:, -1]
            for k, factor in ((t - 1, 1), (t, -2), (t + 1, 1)):
                own[k] += factor * moving[k][:, :-1].t() @ change
        return self.split(own, shared + clip[:, :-1].t() @ clip[:, -1])

    def curvature(self) -> float:
        """Of the logarithm of the focal length, which is held where it is: nothing draws it."""
        rows = CoarseStep(self.fitter, SIZE, self.kind).clip_priors()
        return float(rows[:, self.fitter.head.n_shape + 12].square().sum())

    def energy(self) -> Callable[[Unknowns], float]:
        """What is recorded of all frames after a step, with what was sampled in the pictures held still."""
        fitter, s = self.fitter, self.fitter.settings
        p, w = fitter.parameters, self.kind.weights(s.weights)
        zero = self.split(
            torch.zeros(p.frames, p.expression.shape[1] + 21).double(),
            torch.zeros(len(p.shape) + 13 + (fitter.unknowns.bias.turn.numel() if self.dense else 0)).double(),
        )
        seen = {}
        if any(w.get(name) for name in ("normal", "depth", "outline")):
            n = len(fitter.head.coarse.template)
            for one in self.frames:
                found = surface_terms(fitter.observed(one, SIZE, self.dense, fitter.problem.edges), w)
                terms = {name: first_vertices(term, n) for name, term in found.items()}
                seen[one.start] = terms, fitter.vertices(one, self.dense)[0, :n]

        def after(step: Unknowns) -> float:
            step = zero | step
            own = torch.cat([step[name] for name in ("expression", "rotation", "place", "log_scale")], 1)
            q = stepped(p, own, torch.cat([step[name] for name in ("shape", "shoulders", "log_focal")]))
            total = prior_energies(
                q, float(p.log_focal), w, fitter.head.bounded_units.double(), fitter.expected
            ) | temporal_energies(q, w)
            turn = step.get("bias", torch.zeros(0)).view(-1, 2)
            if self.dense:
                total |= energies(of_bias(fitter.unknowns.bias.turn.double() + turn, w))
            energy = p.frames * float(sum(total.values()))
            single = {name: value.float() for name, value in q.tensors().items()}
            fitter.unknowns.parameters = HeadParameters(**single, size=q.size)
            energy += self.landmarks(w) + sum(self.surface(seen[t], t, turn, w) for t in seen)
            fitter.unknowns.parameters = p
            return energy

        return after

    def landmarks(self, w: Mapping[str, float]) -> float:
        if not w["landmark"]:
            return 0.0
        equations = CoarseEquations(self.fitter, SIZE, self.kind)
        for one in self.frames:
            transforms, change = equations.joints(torch.tensor([one.start]))
            offset = self.fitter.displacement(one)[0] if self.dense else None
            equations.landmark_rows(one.start, transforms[0], change[0], offset)
        return float(equations.terms["landmark"])

    def surface(self, seen: tuple, t: int, turn: Tensor, w: Mapping[str, float]) -> float:
        terms, at = seen
        moved = (self.fitter.vertices(slice(t, t + 1), self.dense)[0, : len(at)] - at).double()
        basis = self.fitter.unknowns.bias.basis[: len(at)].double()
        swung = basis @ turn if self.dense else moved.new_zeros(len(at), 2)
        trust = float(self.fitter.judged.trust[t])
        changes = {name: refound(term, tilted(term, moved, swung)) for name, term in terms.items()}
        return sum(trust * w[name] * float(again(term, changes[name])) for name, term in terms.items())


class Offsets:
    """Steps of D_s with the bias of the normals, or of one frame's D_t, by integration."""

    def __init__(self, fitter: ClipModel, kind: StepTerms):
        self.fitter, self.kind, self.static = fitter, kind, "static" in kind.moves
        self.solver, self.frames = Integrator(fitter, SIZE), [1, 2] if self.static else [2]
        problem, u = fitter.problem, fitter.unknowns
        self.weights = fitter.static_weights() if self.static else fitter.dynamic_weights()
        self.own = problem.static_energy if self.static else problem.dynamic_energy
        self.mask = problem.static_mask if self.static else problem.dynamic_mask
        self.field = u.static if self.static else u.dynamic[slice(2, 3)][0]
        self.rest = fitter.judged.static_start if self.static else torch.zeros_like(self.field)
        self.rows = torch.arange(len(u.static)) if self.static else problem.dynamic_vertices

    def seen(self, t: int) -> tuple:
        return self.solver.frame(slice(t, t + 1))

    def points(self, t: int) -> LandmarkPoints:
        return self.fitter.observed_points(slice(t, t + 1))

    def share(self, t: int) -> float:
        return float(self.fitter.judged.trust[t]) / len(self.frames)

    def gradient(self) -> Unknowns:
        """What conjugate gradients start from, turned round."""
        system = self.solver.system(self.fitter.unknowns.bias if self.static else None)
        for t in self.frames:
            system.add(*self.seen(t), self.share(t), self.weights.of)
            if self.static:
                system.add_points(self.points(t), self.seen(t)[1], self.weights.of["landmark"] / len(self.frames))
        system = system if self.static else system.inside(self.rows)
        found = Hessian(system, self.mask, self.own, self.weights).residual(self.field, self.rest)
        return {name: -part for name, part in zip(self.kind.moves, found, strict=True)}

    def energy(self) -> Callable[[Unknowns], float]:
        fitter, w = self.fitter, self.weights.of
        # Scale and shift of a depth keep still: they are where the energy is least, so nothing changes at first.
        seen = [(surface_terms(found, w), turn.double(), self.share(t)) for t in self.frames
                for found, turn in [self.seen(t)]]  # fmt: skip
        n, bias = len(fitter.unknowns.static), fitter.unknowns.bias

        def after(step: Unknowns) -> float:
            change = step.get(self.kind.moves[0], torch.zeros_like(self.field))
            turn = step.get("bias", torch.zeros_like(bias.turn))
            field = self.own.terms(self.field + change, self.rest, self.weights)
            if self.static:
                field |= energies(of_bias(bias.turn + turn, w))
            moved = torch.zeros(n, 3).index_add(0, self.rows, self.mask * change).double()
            swung = (bias.basis @ turn).double()
            energy = float(sum(field.values()))
            for terms, turned, share in seen:
                told = {name: again(term, tilted(term, moved, swung, turned)) for name, term in terms.items()}
                energy += sum(share * w[name] * float(value) for name, value in told.items())
            return energy + (self.landmarks(self.mask * change) if self.static else 0.0)

        return after

    def landmarks(self, moved: Tensor) -> float:
        """The energy of the points once the field has ``moved`` (n, 3) as the mesh does."""
        u, before = self.fitter.unknowns, self.fitter.unknowns.static
        u.static = before + moved / self.fitter.problem.static_mask.clamp_min(1e-9)
        energy = sum(self.points(t).energy() for t in self.frames)
        u.static = before
        return float(self.weights.of["landmark"] / len(self.frames) * energy)


class Landmarks:
    """Steps on the landmarks alone, by Adam: its gradient is recorded, and nothing moves."""

    def __init__(self, fitter: ClipModel, kind: StepTerms):
        self.fitter, self.kind = fitter, kind

    def run(self, p: HeadParameters) -> tuple[float, Unknowns]:
        """The sum of all terms at ``p``, and its derivative."""
        gradients: list[Unknowns] = []

        class Recorder(landmark_fit.ClipAdam):
            def step(self, frames: Tensor | None, rate_factor: float = 1.0) -> None:
                none = {name: torch.zeros_like(slot.value) for name, slot in self.slots.items()}
                found = {name: slot.value.grad for name, slot in self.slots.items() if slot.value.grad is not None}
                gradients.append(none | found)

        told: list[float] = []
        problem, s = (
            self.fitter.problem,
            self.fitter.settings.model_copy(update={"rigid_steps": 1, "landmark_steps": 1}),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(landmark_fit, "ClipAdam", Recorder)
            patch.setattr(landmark_fit, "rigid_start", lambda *_: p.copy())
            arguments = problem.head, problem.detected, problem.confidence, problem.size
            tell = lambda step, terms: told.append(sum(terms.values()))  # noqa: E731
            landmark_fit.fit_landmarks(*arguments, s, tell, expected=problem.expected)
        k = ("rigid", "landmarks").index(self.kind.stages[0])
        return told[k], gradients[k]

    def gradient(self) -> Unknowns:
        return self.run(self.fitter.parameters)[1]

    def energy(self) -> Callable[[Unknowns], float]:
        def after(step: Unknowns) -> float:
            p = self.fitter.parameters.copy()
            for name, change in step.items():
                setattr(p, name, getattr(p, name) + change)
            return self.run(p)[0]

        return after


class Pixels:
    """Steps of both offset fields through the renderer, by Adam. For terms by pixels the unknowns are what is drawn, as
    what a vertex's move uncovers has no derivative."""

    def __init__(self, fitter: ClipModel, kind: StepTerms):
        self.fitter, self.kind, self.frames = fitter, kind, torch.tensor([0, 2])
        self.weights = kind.weights(fitter.settings.weights)
        self.drawn = next((name for name in ("normal", "depth", "silhouette") if self.weights[name]), "")
        if self.drawn:
            vertices = fitter.vertices(self.frames, True)
            self.rendered = fitter.rendered(vertices, SIZE, True, edges=True)
            self.targets = fitter.problem.targets[SIZE][self.frames]
            self.valid = fitter.valid(self.frames, vertices, self.targets)
        self.scale_and_shift = None  # of the depth, as first found: they are detached, so they keep still

    def by_fields(self, static: Tensor, dynamic: Tensor) -> Tensor:
        self.fitter.unknowns.static = static
        terms = self.fitter.pixel_energies(self.frames, SIZE, dynamic)
        return sum((terms | offset_terms(self.fitter, self.frames, True, dynamic)).values())

    def by_pixels(self, values: Tensor) -> Tensor:
        share = (self.targets.confidence * self.targets.mask).flatten()[self.rendered.index]
        if self.drawn == "normal":
            bias = self.fitter.unknowns.bias.at(len(self.fitter.unknowns.static))
            found = normals.pixel_energy(replace(self.rendered, normals=values), self.targets, share, bias)
        elif self.drawn == "depth":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(depth, "scale_and_shift", self.still)
                found = depth.pixel_energy(replace(self.rendered, depth=values), self.targets, share)
        else:
            found = outline.pixel_energy(values, self.targets.mask, self.valid)
        return self.weights[self.drawn] * found

    def still(self, *arguments: object, find: Callable = depth.scale_and_shift) -> tuple[Tensor, Tensor]:
        self.scale_and_shift = self.scale_and_shift or find(*arguments)
        return self.scale_and_shift

    def start(self) -> Unknowns:
        if self.drawn == "silhouette":
            return {"drawn": torch.rand(2, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double()}
        if self.drawn:
            return {"drawn": self.rendered.normals if self.drawn == "normal" else self.rendered.depth}
        u = self.fitter.unknowns
        return {"static": u.static, "dynamic": u.dynamic[self.frames]}

    def of(self, values: Unknowns) -> Tensor:
        before = self.fitter.unknowns.static
        total = self.by_pixels(*values.values()) if self.drawn else self.by_fields(*values.values())
        self.fitter.unknowns.static = before
        return total

    def gradient(self) -> Unknowns:
        leaves = {name: value.detach().clone().requires_grad_() for name, value in self.start().items()}
        found = torch.autograd.grad(self.of(leaves), [*leaves.values()], materialize_grads=True)
        return dict(zip(leaves, found, strict=True))

    def energy(self) -> Callable[[Unknowns], float]:
        start = self.start()
        return lambda step: float(self.of({name: value + step.get(name, 0) for name, value in start.items()}))


SOLVERS = {
    "rigid": Landmarks,
    "landmarks": Landmarks,
    "bare": Coarse,
    "dressed": Coarse,
    "static": Offsets,
    "dynamic": Offsets,
    "final": Pixels,
}
