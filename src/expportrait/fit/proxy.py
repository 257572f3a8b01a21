"""Stages (c) to (e): the personalised head of one clip from normals, depth, mask and landmarks (paper, section 3.1).

    X_t = LBS( U S [template + B_S(beta) + B_E(psi_t) + B_P(theta_t)] + m_s D_s + m_d D_t )        eq. (3), (4)

All frames of a clip share beta, the camera, the shoulders and D_s; each has its psi, pose and D_t.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from expportrait.config import Proxy
from expportrait.fit.adam import ClipAdam, Slot
from expportrait.fit.clip_model import ClipModel
from expportrait.fit.growth import ears, grow
from expportrait.fit.landmarks import fit_landmarks, priors, temporal
from expportrait.fit.losses import weighted_terms
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.targets import Targets
from expportrait.head import Head

# Rates of the offsets, m a step of the vertex that is pulled hardest: D_s alone, then D_s beside D_t, and D_t.
STATIC_RATE, STATIC_LATE_RATE, DYNAMIC_RATE = 1e-3, 1e-4, 5e-5
STATIC_ROUNDS, DYNAMIC_ROUNDS = 6, 3  # smoothing of the offsets' gradients: a landmark pulls on three vertices only
FACE_PACE, EAR_PACE = 0.15, 0.1  # of D_s's rate there: hair has centimetres to go, a lip half a millimetre
# Rates of the coarse head once landmarks have placed it. Adam's first steps have the full rate whatever the gradient,
# and a frame sees some ten steps a stage: larger rates leave every frame somewhere else.
REFINE = {"shape": 0.01, "expression": 0.01, "rotation": 0.002, "place": 3e-4, "log_scale": 3e-4, "shoulders": 0.003}
SETTLE = {name: 0.3 * rate for name, rate in REFINE.items()}
RECENTRE_EVERY = 5  # steps between projections of D_t to zero mean

Track = Callable[[str, float], None]  # stage, loss; called at every step


@dataclass
class ProxyFit:
    """The fit's unknowns and its records. Offsets are already masked: m_s D_s (n_d, 3) and m_d D_t (T, n_f, 3), m."""

    parameters: HeadParameters
    static: Tensor
    dynamic: Tensor
    dynamic_vertices: Tensor  # (n_f,) rows of the dense mesh where m_d > 0
    losses: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    errors: dict[str, Tensor] = field(default_factory=dict)

    def offset(self, frames: Tensor | slice) -> Tensor:
        """(B, n_d, 3) m: the two fields together."""
        dynamic = self.dynamic[frames]
        return self.static.expand(len(dynamic), -1, -1).index_add(1, self.dynamic_vertices, dynamic)


class ProxyFitter(ClipModel):
    """One clip's fit: the stages, in order."""

    def __init__(
        self,
        head: Head,
        targets: Targets,
        points: Tensor,
        confidence: Tensor,
        settings: Proxy,
        backend: str = "auto",
    ):
        super().__init__(head, targets, points, confidence, settings, backend)
        self.track: Track = lambda stage, loss: None
        self.pace = ((1 - (1 - FACE_PACE) * head.facial) * (1 - (1 - EAR_PACE) * ears(head))).unsqueeze(-1)
        self.generator = torch.Generator().manual_seed(0)
        self.losses: list[tuple[str, dict[str, float]]] = []

    def steps(self, passes: float) -> int:
        batch = min(self.s.batch, self.frames)
        return max(math.ceil(passes * self.frames / batch), self.s.min_steps) if passes else 0

    def batches(self, passes: float) -> Iterator[Tensor]:
        """Shuffled mini-batches for ``passes`` over the frames, at least ``min_steps`` of them."""
        batch = min(self.s.batch, self.frames)
        order = torch.empty(0, dtype=torch.long)
        for _ in range(self.steps(passes)):
            if len(order) < batch:
                order = torch.cat([order, torch.randperm(self.frames, generator=self.generator)])
            yield order[:batch].unique().to(self.device)
            order = order[batch:]

    def stage(self, name: str, passes: float, size: int, rates: dict[str, float], static: bool, dynamic: bool) -> None:
        """Run one stage; it stops early when the loss over a pass has stalled for ``patience`` passes."""
        s, p = self.s, self.parameters
        dense = static or dynamic
        slots = {key: Slot(getattr(p, key), rate, key not in ("shape", "shoulders")) for key, rate in rates.items()}
        if static:
            rate = STATIC_LATE_RATE if dynamic else STATIC_RATE
            slots["static"] = Slot(self.static_raw, rate, False, shared_moment=True)
        if dynamic:
            rate = DYNAMIC_RATE if s.offsets == "both" else STATIC_RATE
            slots["dynamic"] = Slot(self.dynamic_raw, rate, True, shared_moment=True)
            self.has_dynamic = True
        adam = ClipAdam(slots)
        batches = list(self.batches(passes))
        window = max(self.frames // min(s.batch, self.frames), 10)
        best, stalled, recent = math.inf, 0, []
        for step, frames in enumerate(batches):
            adam.zero_grad()
            matrices = p.matrices(frames)
            terms = self.terms(frames, size, dense, matrices)
            loss = weighted_terms(terms, s, coarse=not dense) + self.offset_terms(frames, static, dynamic)
            if rates:
                loss = loss + priors(p, matrices, s, frames) + temporal(p, s)
            loss.backward()
            self.smooth_gradients(frames)
            adam.step(frames, 0.05 + 0.475 * (1 + math.cos(math.pi * step / len(batches))))
            if dynamic and self.frames > 1 and (step + 1) % RECENTRE_EVERY == 0:
                self.recentre()
            value = float(loss.detach())
            self.losses.append((name, {"total": value} | {k: float(v.detach()) for k, v in terms.items()}))
            self.track(name, value)
            recent.append(value)
            if len(recent) == window:
                mean = sum(recent) / window
                stalled = 0 if mean < best * (1 - s.tolerance) else stalled + 1
                best, recent = min(best, mean), []
                if stalled >= s.patience:
                    break
        for slot in slots.values():
            slot.value.requires_grad_(False)
            slot.value.grad = None
        if dynamic and self.frames > 1:
            self.recentre()

    def offset_terms(self, frames: Tensor, static: bool, dynamic: bool) -> Tensor:
        """L_mag, L_lap and L_tmp of the offset fields."""
        s = self.s
        loss = torch.zeros((), device=self.device)
        if static:
            grown = self.static_raw - self.static_start
            loss = loss + self.static_energy(grown, s.w_static_magnitude, 0.0, s.w_strain)
            loss = loss + self.static_energy(self.static_raw, 0.0, s.w_static_laplacian)
        if dynamic:
            rows = self.dynamic_raw[frames]
            loss = loss + self.dynamic_energy(
                rows.transpose(0, 1), s.w_dynamic_magnitude, s.w_dynamic_laplacian, s.w_strain
            )
            if self.frames > 2:
                before = self.dynamic_raw[(frames - 1).clamp_min(0)].detach()
                after = self.dynamic_raw[(frames + 1).clamp_max(self.frames - 1)].detach()
                loss = loss + s.w_temporal_offset * 1e6 * (before - 2 * rows + after).square().sum(-1).mean()
        return loss

    @torch.no_grad()
    def smooth_gradients(self, frames: Tensor) -> None:
        """Precondition the offsets' gradients (see the constants' comments)."""
        if self.static_raw.grad is not None:
            self.static_raw.grad = self.pace * self.static_energy.smooth(self.static_raw.grad, STATIC_ROUNDS)
        if self.dynamic_raw.grad is not None:
            rows = self.dynamic_raw.grad[frames].transpose(0, 1).contiguous()
            self.dynamic_raw.grad[frames] = self.dynamic_energy.smooth(rows, DYNAMIC_ROUNDS).transpose(0, 1)

    @torch.no_grad()
    def recentre(self) -> None:
        """Move the mean of m_d D_t into m_s D_s where m_s allows it (section 3.1.3: D_t is zero-mean)."""
        if not self.s.disentangle or self.s.offsets != "both":
            return
        room = self.static_mask[self.face]
        share = torch.where(room > 0.05, torch.ones_like(room), torch.zeros_like(room))
        mean = self.dynamic_raw.mean(0) * share
        self.dynamic_raw -= mean
        self.static_raw[self.face] += mean * self.dynamic_mask / room.clamp_min(0.05)

    def guarded(
        self, name: str, passes: float, size: int, rates: dict[str, float], static: bool, dynamic: bool
    ) -> None:
        """A stage that may move the coarse head; taken back where landmarks and normals both got worse."""
        before = self.parameters.copy(), self.static_raw.clone(), self.dynamic_raw.clone(), self.has_dynamic
        dense = static or dynamic
        old = self.evaluate(self.s.coarse_size, dense)
        self.stage(name, passes, size, rates, static, dynamic)
        new = self.evaluate(self.s.coarse_size, dense)
        worse = [new[k].mean() > 1.02 * old[k].mean() for k in ("landmark", "normal_deg")]
        if all(worse):
            self.parameters, self.static_raw, self.dynamic_raw, self.has_dynamic = before

    def planned_steps(self, start: HeadParameters | None = None) -> int:
        """Steps of a run that never stops early."""
        s = self.s
        passes = (s.coarse_passes, s.static_passes, s.dynamic_passes, s.final_passes)
        return sum(map(self.steps, passes)) + (s.rigid_steps + s.landmark_steps if start is None else 0)

    def run(self, start: HeadParameters | None = None, track: Track | None = None) -> ProxyFit:
        """All stages. ``start`` replaces (a) and (b) by pre-tracked parameters (``proxy.init: file``)."""
        s, self.track = self.s, track or self.track
        if start is None:

            def tell(step: int, value: float) -> None:
                stage = "rigid" if step < s.rigid_steps else "landmarks"
                self.losses.append((stage, {"total": value}))
                self.track(stage, value)

            self.parameters = fit_landmarks(self.head, self.points, self.confidence, self.size, s, tell)
        else:
            self.parameters = start
        if s.coarse_passes:
            self.guarded("coarse", s.coarse_passes, s.coarse_size, SETTLE, False, False)
        static, dynamic = s.offsets == "both", s.offsets != "none"
        if dynamic:
            self.start_static()
        if not static:  # D_t alone starts where D_s would, and learns as fast
            self.dynamic_raw += self.static_raw[self.face]
            self.static_raw.zero_()
            self.has_dynamic = dynamic
        if s.static_passes and dynamic:
            self.guarded("static", s.static_passes, s.coarse_size, REFINE, static, not static)
        if s.dynamic_passes and dynamic:
            self.guarded("dynamic", s.dynamic_passes, s.fine_size, SETTLE, static, True)
        if s.final_passes and dynamic:
            self.stage("final", s.final_passes, s.fine_size, {}, static, True)
        fit = ProxyFit(
            self.parameters.copy(),
            (self.static_mask * self.static_raw).detach(),
            (self.dynamic_mask * self.dynamic_raw).detach(),
            self.face,
            self.losses,
            self.evaluate(s.fine_size, dense=True),
        )
        return fit

    def start_static(self) -> None:
        """D_s starts as hair and clothes grown to the outline; from there the magnitude term measures."""
        targets = self.targets[self.s.fine_size]
        self.static_start = grow(self.head, self.parameters, targets, self.s.max_growth)
        self.static_raw = self.static_start.clone()
        self.mark_unexplained(targets)


def fit_proxy(
    head: Head,
    targets: Targets,
    points: Tensor,
    confidence: Tensor,
    settings: Proxy | None = None,
    start: HeadParameters | None = None,
    track: Track | None = None,
    backend: str = "auto",
) -> ProxyFit:
    """Fit the personalised head of one clip (see the module's text); T = 1 is a single portrait."""
    return ProxyFitter(head, targets, points, confidence, settings or Proxy(), backend).run(start, track)
