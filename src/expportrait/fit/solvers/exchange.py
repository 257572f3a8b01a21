"""What one unknown has that belongs to another: the mean of D_t goes to D_s, the joints' turns in D_s to the joints."""

import torch
from torch import Tensor

from expportrait.fit.model import ClipModel
from expportrait.fit.solvers.posture import turns_in

ROOM = 0.05  # least m_s, over m_d where there is D_t, at which D_s takes over: below it, it would have to grow too much


@torch.no_grad()
def recentre(model: ClipModel) -> None:
    """Move the mean of m_d D_t into m_s D_s where m_s allows it (section 3.1.3: D_t is zero-mean)."""
    problem, dynamic, s = model.problem, model.unknowns.dynamic, model.settings
    if not s.disentangle or s.offsets != "both" or model.frames == 1:
        return
    rows = problem.dynamic_vertices
    growth = problem.dynamic_mask / problem.static_mask[rows].clamp_min(1e-9)
    mean = dynamic.mean() * (growth < 1 / ROOM)
    dynamic.shift -= mean
    model.unknowns.static[rows] += growth * mean


@torch.no_grad()
def straighten(model: ClipModel, seen: Tensor) -> None:
    """Give the joints what m_s D_s has of their turns over the vertices ``seen`` (n_d,) bool (see posture)."""
    mask = model.problem.static_mask
    turns, part = turns_in(model.head, model.parameters.shape, mask * model.unknowns.static, seen)
    model.unknowns.static -= part * (mask > ROOM) / mask.clamp_min(ROOM)
    model.parameters.turn_body(turns)
