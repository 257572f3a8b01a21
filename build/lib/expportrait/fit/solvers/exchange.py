"""What one unknown has that belongs to another: the mean of D_t goes to D_s, the joints' turns in D_s to the joints."""

import torch
from torch import Tensor

from expportrait.fit.model import ClipModel
from expportrait.fit.solvers.posture import turns_in

ROOM = 0.05  # least m_s at which D_s takes over the mean of D_t: below it, it would have to grow too much


@torch.no_grad()
def recentre(model: ClipModel) -> None:
    """Move the mean of m_d D_t into m_s D_s where m_s allows it (section 3.1.3: D_t is zero-mean)."""
    problem, dynamic, s = model.problem, model.unknowns.dynamic, model.settings
    if not s.disentangle or s.offsets != "both" or model.frames == 1:
        return
    mean = dynamic.mean() * (problem.static_mask[problem.dynamic_vertices] > ROOM)
    dynamic.shift -= mean
    add_static(model, mean * problem.dynamic_mask, problem.dynamic_vertices)


@torch.no_grad()
def straighten(model: ClipModel, seen: Tensor) -> None:
    """Give the joints what m_s D_s has of their turns over the vertices ``seen`` (n_d,) bool (see posture)."""
    offset = model.problem.static_mask * model.unknowns.static
    turns, part = turns_in(model.head, model.parameters.shape, offset, seen)
    add_static(model, -part)
    model.parameters.turn_body(turns)


def add_static(model: ClipModel, change: Tensor, rows: Tensor | slice = slice(None)) -> None:
    """Add ``change`` (k, 3) m to m_s D_s of the vertices ``rows``, where m_s leaves room for it."""
    mask = model.problem.static_mask[rows]
    model.unknowns.static[rows] += change * (mask > ROOM) / mask.clamp_min(ROOM)
