"""The personalised head of one clip from normals, depth, mask and landmarks (paper, section 3.1): the stages, in order.

    X_t = LBS( U S [template + B_S(beta) + B_E(psi_t) + B_P(theta_t)] + m_s D_s + m_d D_t )        eq. (3), (4)

All frames of a clip share beta, the camera, the shoulders and D_s; each has its psi, pose and D_t.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from expportrait.fit import judge
from expportrait.fit.displacement import Offsets
from expportrait.fit.evaluate import evaluate
from expportrait.fit.evidence.perspective import focal_length
from expportrait.fit.evidence.skin import Pictures
from expportrait.fit.evidence.targets import TargetSource
from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.fit.model import ClipModel
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.problem import Problem, detail_size
from expportrait.fit.result import ProxyFit
from expportrait.fit.solvers.exchange import recentre
from expportrait.fit.solvers.integrate import Integrator
from expportrait.fit.solvers.newton import BLOCK, Tell, coarse_step
from expportrait.fit.solvers.polish import polish, steps
from expportrait.fit.solvers.shrinkage import shrink
from expportrait.fit.terms.priors import of_bias
from expportrait.fit.terms.residuals import energies, numbers
from expportrait.fit.terms.table import BARE, DRESSED
from expportrait.fit.terms.temporal import temporal_energies
from expportrait.head import Head
from expportrait.settings.config import Proxy

VIEWS = 40  # frames, evenly spaced, that one step of D_s or a guard looks at

Track = Callable[[str, float], None]  # stage, loss; called at every step


@dataclass(frozen=True)
class Step:
    """A step of a linear solver. ``run`` takes it, tells how many frames are done, and returns the weighted terms that
    it knows, as before it; ``frames`` or blocks of them: how often it tells."""

    run: Callable[[Tell], dict[str, float]]
    frames: int


class ProxyFitter:
    """One clip's fit: the stages, in order, and what is recorded of them."""

    def __init__(
        self,
        head: Head,
        targets: TargetSource,
        points: Tensor,
        confidence: Tensor,
        settings: Proxy,
        backend: str = "auto",
        pictures: Pictures | None = None,
        units: Tensor | None = None,
    ):
        """See ``Problem.of``."""
        self.model = ClipModel(Problem.of(head, targets, points, confidence, settings, backend, pictures, units))
        self.settings, self.frames = settings, self.model.frames
        self.losses: list[tuple[str, dict[str, float]]] = []  # stage, and its terms before a step
        self.name = ""  # of the stage
        self.track: Track = lambda stage, loss: None

    def stages(self) -> dict[str, list[Step]]:
        """The steps of the linear solvers, which stand between the landmark fit and the final passes."""
        s, model, solver = self.settings, self.model, Integrator(self.model, self.settings.fine_size)
        closer = Integrator(model, detail_size(s, model.problem.size))
        blocks, views = math.ceil(self.frames / BLOCK), len(self.views(0))
        bare, head = (
            Step(lambda tell, terms=terms: coarse_step(model, s.fine_size, terms, tell), blocks)
            for terms in (BARE, DRESSED)
        )

        def static(turn: int) -> list[Step]:
            return [Step(lambda tell: solver.static_step(self.views(turn), tell), views)] if s.offsets == "both" else []

        def all_dynamic(tell: Tell, last: bool) -> dict[str, float]:
            judge.shade_faces(model)
            terms = closer.dynamic_step(tell)
            if last and s.disentangle and s.offsets == "both":
                shrink(model.unknowns.dynamic, model.judged.trust)
            recentre(model)
            return terms

        # D_s and the coarse head by turns, unless this is given; then D_t of each frame, and D_s beside them.
        moving = [head] if s.coarse_passes else []
        moves = s.dynamic_steps if s.offsets != "none" else 0
        dynamic = [Step(partial(all_dynamic, last=k == moves - 1), self.frames) for k in range(moves)]
        return {
            "coarse": [bare] * int(s.coarse_passes),
            "static": [step for k in range(int(s.static_passes)) if s.offsets == "both" for step in static(k) + moving],
            "dynamic": [step for k in range(int(s.dynamic_passes)) if dynamic for step in static(k + 1) + dynamic],
        }

    def planned_steps(self, start: HeadParameters | None = None) -> int:
        """How often ``track`` will be called in a run."""
        count = self.settings.rigid_steps + self.settings.landmark_steps if start is None else 0
        return count + sum(step.frames for stage in self.stages().values() for step in stage) + self.polishing()

    def polishing(self) -> int:
        """Steps of the final passes."""
        s = self.settings
        return steps(s.final_passes, self.frames, s.batch, s.min_steps) if s.offsets != "none" else 0

    def views(self, turn: int) -> Tensor:
        """(V,) at most ``VIEWS`` frames, others at every ``turn``."""
        stride = self.frames / min(VIEWS, self.frames)
        first = (turn * 0.618) % 1
        return ((torch.arange(min(VIEWS, self.frames)) + first) * stride).long().clamp_max(self.frames - 1)

    def tell(self, done: int = 0) -> None:
        """Move the progress bar by one step."""
        self.track(self.name, self.losses[-1][1]["total"] if self.losses else math.nan)

    def record(self, terms: dict[str, float]) -> None:
        """Keep the weighted terms before one step, as means over frames, and their sum."""
        self.losses.append((self.name, {"total": math.fsum(terms.values())} | terms))

    def take(self, stage: list[Step]) -> None:
        """Take the steps of a stage. Each tells the terms that it knows; the others are as they were before it."""
        for step in stage:
            still = self.still()
            self.record(still | step.run(self.tell))

    @torch.no_grad()
    def still(self) -> dict[str, float]:
        """Every weighted term that needs no look at the estimates; landmarks and D_t of some frames stand for all."""
        model, s, views = self.model, self.settings, self.views(0).to(self.model.device)
        p, u, dense = model.parameters, model.unknowns, self.name != "coarse"
        w = (DRESSED if dense else BARE).weights(s.weights)
        terms = model.prior_energies(w) | temporal_energies(p, w)
        found = model.landmark_energies(views, model.landmarks_alone(views, dense))
        share = model.judged.weights[views].sum(1)
        terms["landmark"] = w["landmark"] * (share * found).sum() / share.sum().clamp_min(1)
        if dense:
            terms |= energies(of_bias(u.bias.turn, w)) | (model.static_energies() if s.offsets == "both" else {})
        if u.dynamic.moved:
            terms |= model.dynamic_energies(u.dynamic[views])
        return numbers(terms)

    def guarded(self, name: str, dense: bool, stage: list[Step]) -> None:
        """Take the steps of a stage that moves the coarse head. All that they moved goes back where landmarks and
        normals both got worse."""
        if not stage:
            return
        self.name = name
        model, views, size = self.model, self.views(0)[::2], self.settings.coarse_size
        before, old = model.unknowns.copy(), evaluate(model, size, dense, views)
        self.take(stage)
        new, aside = evaluate(model, size, dense, views), model.judged.aside[views]
        told = ~aside if not aside.all() else slice(None)  # guesses say nothing of a stage
        worse = [not new[k][told].mean() <= 1.02 * old[k][told].mean() for k in ("landmark", "normal_deg")]
        if all(worse) or not model.unknowns.finite():
            model.unknowns = before

    def run(self, start: HeadParameters | None = None, track: Track | None = None) -> ProxyFit:
        """Run all stages. ``start`` replaces (a) and (b) by pre-tracked parameters (``proxy.init: file``)."""
        s, model, self.losses = self.settings, self.model, []
        self.track = track or self.track
        model.unknowns.parameters = self.landmark_fit() if start is None else start.copy()
        judge.settle_turns(model, move=start is None)
        judge.anchor_depth(model)
        judge.hide_hanging(model)
        stages = self.stages()
        self.guarded("coarse", False, stages["coarse"])
        if s.offsets == "both":
            judge.start_static(model, s.fine_size)
        self.guarded("static", True, stages["static"])
        if s.offsets != "none":
            self.name = "dynamic"
            self.take(stages["dynamic"])
            self.name = "final"
            self.polish()
        return self.result()

    def landmark_fit(self) -> HeadParameters:
        """Stages (a) and (b)."""

        def tell(step: int, terms: dict[str, float]) -> None:
            self.name = "rigid" if step < self.settings.rigid_steps else "landmarks"
            self.record(terms)
            self.tell()

        problem, s = self.model.problem, self.settings
        maps = problem.targets[s.fine_size]
        focal = focal_length(maps, self.views(0), s.focal * maps.size) * problem.size / maps.size
        points = problem.detected, problem.confidence
        return fit_landmarks(problem.head, *points, problem.size, s, tell, focal, problem.expected)

    def polish(self) -> None:
        """The final passes; the coarse head is done."""
        still = self.still()

        def tell(terms: dict[str, float]) -> None:
            self.record(still | terms)
            self.tell()

        polish(self.model, self.settings.fine_size, self.polishing(), self.settings.offsets == "both", tell)

    def result(self) -> ProxyFit:
        """The fit as it is."""
        problem, u, judged = self.model.problem, self.model.unknowns, self.model.judged
        errors = evaluate(self.model, self.settings.fine_size, dense=True)
        evidence, set_aside = errors.pop("evidence"), errors.pop("set_aside")
        return ProxyFit(
            u.parameters.copy(),
            problem.static_mask * u.static,
            Offsets(self.frames, lambda frames: problem.dynamic_mask * u.dynamic[frames]),
            problem.dynamic_vertices,
            self.losses,
            errors,
            judged.trust,
            set_aside,
            judged.aside,
            evidence,
            u.bias.degrees(),
        )


def fit_proxy(
    head: Head,
    targets: TargetSource,
    points: Tensor,
    confidence: Tensor,
    settings: Proxy | None = None,
    start: HeadParameters | None = None,
    track: Track | None = None,
    backend: str = "auto",
    pictures: Pictures | None = None,
    units: Tensor | None = None,
) -> ProxyFit:
    """Fit the personalised head of one clip (see the module's text); T = 1 is a single portrait."""
    fitter = ProxyFitter(head, targets, points, confidence, settings or Proxy(), backend, pictures, units)
    return fitter.run(start, track)
