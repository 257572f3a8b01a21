"""The personalised head of one clip from normals, depth, mask and landmarks (paper, section 3.1): the stages, in order.

    X_t = LBS( U S [template + B_S(beta) + B_E(psi_t) + B_P(theta_t)] + m_s D_s + m_d D_t )        eq. (3), (4)

All frames of a clip share beta, the camera, the shoulders and D_s; each has its psi, pose and D_t.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expportrait.fit.clip_model import ClipModel
from expportrait.fit.dynamic import DynamicField
from expportrait.fit.evidence.perspective import focal_length
from expportrait.fit.evidence.targets import TargetSource
from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.solvers.integrate import Integrator
from expportrait.fit.solvers.newton import BLOCK, coarse_step
from expportrait.fit.solvers.polish import polish, steps
from expportrait.fit.terms.priors import of_bias, prior_energies
from expportrait.fit.terms.residuals import energies, numbers
from expportrait.fit.terms.temporal import temporal_energies
from expportrait.head import Head
from expportrait.settings.config import Proxy

VIEWS = 40  # frames, evenly spaced, that one step of D_s or a guard looks at

Track = Callable[[str, float], None]  # stage, loss; called at every step


@dataclass
class MaskedField:
    """m_d D_t of a clip, (T, n_f, 3) m, read from disk when indexed."""

    field: DynamicField
    mask: Tensor  # (n_f, 1)

    def __len__(self) -> int:
        return len(self.field)

    def __getitem__(self, frames: Tensor | slice) -> Tensor:
        return self.mask * self.field[frames]

    def numpy(self) -> np.ndarray:
        """The whole clip in memory."""
        return self[:].cpu().numpy()


@dataclass
class ProxyFit:
    """The fit's unknowns and its records. Offsets are already masked: m_s D_s (n_d, 3) and m_d D_t (T, n_f, 3), m."""

    parameters: HeadParameters
    static: Tensor
    dynamic: Tensor | MaskedField
    dynamic_vertices: Tensor  # (n_f,) rows of the dense mesh where m_d > 0
    losses: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    errors: dict[str, Tensor] = field(default_factory=dict)
    frame_weight: Tensor | None = None  # (T,) 0..1, how much a frame's own estimates counted
    set_aside: Tensor | None = None  # (T,) share of a frame's mask that counted for nothing
    landmarks_aside: Tensor | None = None  # (T,) bool, frames whose landmarks were not believed
    evidence: Tensor | None = None  # (n_d,) 0..1, mean trust in what the estimates say of a vertex
    normal_bias: float | None = None  # degrees, root mean square of what the estimated normals were taken to lean

    def offset(self, frames: Tensor | slice) -> Tensor:
        """(B, n_d, 3) m: the two fields together."""
        dynamic = self.dynamic[frames]
        return self.static.expand(len(dynamic), -1, -1).index_add(1, self.dynamic_vertices, dynamic)


class ProxyFitter(ClipModel):
    """One clip's fit: the stages, in order."""

    track: Track
    name = ""

    def planned_steps(self, start: HeadParameters | None = None) -> int:
        """Steps of a run."""
        s, blocks, views = self.s, math.ceil(self.frames / BLOCK), len(self.views(0))
        count = s.rigid_steps + s.landmark_steps if start is None else 0
        count += s.coarse_passes * blocks
        if s.offsets == "both":
            count += s.static_passes * (views + blocks)
        if s.offsets != "none":
            count += s.dynamic_passes * (self.frames + (views if s.offsets == "both" else 0)) + self.polishing()
        return count

    def polishing(self) -> int:
        return steps(self.s.final_passes, self.frames, self.s.batch, self.s.min_steps)

    def views(self, turn: int) -> Tensor:
        """(V,) at most ``VIEWS`` frames, others at every ``turn``."""
        stride = self.frames / min(VIEWS, self.frames)
        first = (turn * 0.618) % 1
        return ((torch.arange(min(VIEWS, self.frames)) + first) * stride).long().clamp_max(self.frames - 1)

    def tell(self, done: int = 0) -> None:
        """One step for the progress bar."""
        self.track(self.name, self.losses[-1][1]["total"] if self.losses else math.nan)

    def record(self, terms: dict[str, float]) -> None:
        """The weighted terms before one step, as means over frames, and their sum."""
        self.losses.append((self.name, {"total": math.fsum(terms.values())} | terms))

    def step(self, run: Callable[..., dict[str, float]], *arguments: Any) -> None:
        """One step of a linear solver, which tells the terms that it knows; the others are as they were before it."""
        still = self.still()
        self.record(still | run(*arguments, self.tell))

    @torch.no_grad()
    def still(self) -> dict[str, float]:
        """Every weighted term that needs no look at the estimates; landmarks and D_t of some frames stand for all."""
        p, s, views = self.parameters, self.s, self.views(0).to(self.device)
        terms = prior_energies(p, float(p.log_focal), s) | temporal_energies(p, s)
        found = [self.landmark_loss(one, self.vertices(one, self.name != "coarse")) for one in views.split(1)]
        share = self.weights[views].sum(1)
        terms["landmark"] = s.w_landmark_coarse * (share * torch.stack(found)).sum() / share.sum().clamp_min(1)
        if self.name != "coarse":
            terms |= energies(of_bias(self.bias.turn, s)) | (self.static_terms() if s.offsets == "both" else {})
        if self.dynamic.moved:
            terms |= self.dynamic_terms(self.dynamic[views])
        return numbers(terms)

    def guarded(self, name: str, dense: bool, run: Callable[[], None]) -> None:
        """A stage that moves the coarse head; taken back where landmarks and normals both got worse."""
        self.name = name
        before, views = (self.parameters.copy(), self.static_raw.clone(), self.bias.turn.clone()), self.views(0)[::2]
        old = self.evaluate(self.s.coarse_size, dense, views)
        run()
        new = self.evaluate(self.s.coarse_size, dense, views)
        told = ~self.aside[views] if not self.aside[views].all() else slice(None)  # guesses say nothing of a stage
        worse = [not new[k][told].mean() <= 1.02 * old[k][told].mean() for k in ("landmark", "normal_deg")]
        if all(worse) or not self.parameters.finite() or not torch.isfinite(self.static_raw).all():
            self.parameters, self.static_raw, self.bias.turn = before

    def run(self, start: HeadParameters | None = None, track: Track | None = None) -> ProxyFit:
        """All stages. ``start`` replaces (a) and (b) by pre-tracked parameters (``proxy.init: file``)."""
        s, self.track = self.s, track or (lambda stage, loss: None)
        self.losses: list[tuple[str, dict[str, float]]] = []
        self.parameters = self.landmark_fit() if start is None else start.copy()
        self.settle_turns(move=start is None)
        self.anchor_depth()
        self.hide_hanging()
        if s.coarse_passes:
            self.guarded("coarse", False, self.coarse)
        if s.offsets == "both":
            self.start_static(s.fine_size)
            if s.static_passes:
                self.guarded("static", True, self.static)
        if s.offsets != "none":
            self.name = "dynamic"
            self.both_fields()
            self.name = "final"
            still = self.still()  # of the coarse head, which is done
            polish(self, s.fine_size, self.polishing(), s.offsets == "both", lambda terms: self.polished(still | terms))
        errors = self.evaluate(s.fine_size, dense=True)
        evidence, set_aside = errors.pop("evidence"), errors.pop("set_aside")
        return ProxyFit(
            self.parameters.copy(),
            self.static_mask * self.static_raw,
            MaskedField(self.dynamic, self.dynamic_mask),
            self.face,
            self.losses,
            errors,
            self.trust,
            set_aside,
            self.aside,
            evidence,
            self.bias.degrees(),
        )

    def landmark_fit(self) -> HeadParameters:
        def tell(step: int, terms: dict[str, float]) -> None:
            self.name = "rigid" if step < self.s.rigid_steps else "landmarks"
            self.record(terms)
            self.tell()

        maps = self.targets[self.s.fine_size]
        focal = focal_length(maps, self.views(0), self.s.focal * maps.size) * self.size / maps.size
        return fit_landmarks(self.head, self.points, self.confidence, self.size, self.s, tell, focal)

    def coarse(self) -> None:
        for _ in range(self.s.coarse_passes):
            self.step(coarse_step, self, self.s.fine_size, False)

    def static(self) -> None:
        """D_s and the coarse head by turns."""
        solver = Integrator(self, self.s.fine_size)
        for turn in range(self.s.static_passes):
            self.step(solver.static_step, self.views(turn))
            if self.s.coarse_passes > 0:  # 0: the coarse head is given
                self.step(coarse_step, self, self.s.fine_size, True)

    def both_fields(self) -> None:
        """D_t of each frame, and D_s beside them, by turns."""
        solver = Integrator(self, self.s.fine_size)
        for turn in range(self.s.dynamic_passes):
            if self.s.offsets == "both":
                self.step(solver.static_step, self.views(turn + 1))
            self.step(solver.dynamic_step)
            self.recentre()

    def polished(self, losses: dict[str, float]) -> None:
        self.record(losses)
        self.tell()


def fit_proxy(
    head: Head,
    targets: TargetSource,
    points: Tensor,
    confidence: Tensor,
    settings: Proxy | None = None,
    start: HeadParameters | None = None,
    track: Track | None = None,
    backend: str = "auto",
) -> ProxyFit:
    """Fit the personalised head of one clip (see the module's text); T = 1 is a single portrait."""
    return ProxyFitter(head, targets, points, confidence, settings or Proxy(), backend).run(start, track)
