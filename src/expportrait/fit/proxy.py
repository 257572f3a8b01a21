"""The personalised head of one clip from normals, depth, mask and landmarks (paper, section 3.1): the stages, in order.

    X_t = LBS( U S [template + B_S(beta) + B_E(psi_t) + B_P(theta_t)] + m_s D_s + m_d D_t )        eq. (3), (4)

All frames of a clip share beta, the camera, the shoulders and D_s; each has its psi, pose and D_t.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from expportrait.config import Proxy
from expportrait.fit.clip_model import ClipModel
from expportrait.fit.dynamic import DynamicField
from expportrait.fit.integrate import Integrator
from expportrait.fit.landmarks import fit_landmarks
from expportrait.fit.newton import BLOCK, coarse_step
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.perspective import focal_length
from expportrait.fit.polish import polish, steps
from expportrait.fit.targets import TargetSource
from expportrait.head import Head

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

    def record(self, losses: dict[str, float], coarse: bool) -> None:
        """Losses of one pass, as means over frames."""
        s = self.s
        weights = {
            "landmark": s.w_landmark_coarse,
            "normal": s.w_normal,
            "depth": s.w_depth_coarse if coarse else s.w_depth,
            "silhouette": s.w_outline,
        }
        total = sum(weights[name] * value for name, value in losses.items())
        self.losses.append((self.name, {"total": total} | losses))

    def guarded(self, name: str, dense: bool, run: Callable[[], None]) -> None:
        """A stage that moves the coarse head; taken back where landmarks and normals both got worse."""
        self.name = name
        before, views = (self.parameters.copy(), self.static_raw.clone(), self.bias.turn.clone()), self.views(0)[::2]
        old = self.evaluate(self.s.coarse_size, dense, views)
        run()
        new = self.evaluate(self.s.coarse_size, dense, views)
        worse = [not new[k].mean() <= 1.02 * old[k].mean() for k in ("landmark", "normal_deg")]
        if all(worse) or not self.parameters.finite() or not torch.isfinite(self.static_raw).all():
            self.parameters, self.static_raw, self.bias.turn = before

    def run(self, start: HeadParameters | None = None, track: Track | None = None) -> ProxyFit:
        """All stages. ``start`` replaces (a) and (b) by pre-tracked parameters (``proxy.init: file``)."""
        s, self.track = self.s, track or (lambda stage, loss: None)
        self.losses: list[tuple[str, dict[str, float]]] = []
        self.parameters = self.landmark_fit() if start is None else start.copy()
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
            polish(self, s.fine_size, self.polishing(), s.offsets == "both", self.polished)
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
            evidence,
            self.bias.degrees(),
        )

    def landmark_fit(self) -> HeadParameters:
        def tell(step: int, value: float) -> None:
            stage = "rigid" if step < self.s.rigid_steps else "landmarks"
            self.losses.append((stage, {"total": value}))
            self.track(stage, value)

        maps = self.targets[self.s.fine_size]
        focal = focal_length(maps, self.views(0), self.s.focal * maps.size) * self.size / maps.size
        return fit_landmarks(self.head, self.points, self.confidence, self.size, self.s, tell, focal)

    def coarse(self) -> None:
        for _ in range(self.s.coarse_passes):
            self.record(coarse_step(self, self.s.fine_size, False, self.tell), True)

    def static(self) -> None:
        """D_s and the coarse head by turns."""
        solver = Integrator(self, self.s.fine_size)
        for turn in range(self.s.static_passes):
            self.record(solver.static_step(self.views(turn), self.tell), False)
            moves = self.s.coarse_passes > 0  # 0: the coarse head is given
            self.record(coarse_step(self, self.s.fine_size, True, self.tell), True) if moves else None

    def both_fields(self) -> None:
        """D_t of each frame, and D_s beside them, by turns."""
        solver = Integrator(self, self.s.fine_size)
        for turn in range(self.s.dynamic_passes):
            if self.s.offsets == "both":
                self.record(solver.static_step(self.views(turn + 1), self.tell), False)
            self.record(solver.dynamic_step(self.tell), False)
            self.recentre()

    def polished(self, losses: dict[str, float]) -> None:
        self.losses.append((self.name, losses))
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
