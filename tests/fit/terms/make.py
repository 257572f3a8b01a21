"""A clip whose every unknown is away from where any term would have it, and steps from there."""

import torch
from benchmarks.made_heads import Truth

from expportrait.fit.judge import start_static
from expportrait.fit.model import ClipModel
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.problem import Problem
from expportrait.head import Head
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_sixd, sixd_to_matrix
from expportrait.settings.config import Proxy

FRAMES, SIZE = 6, 128


def weighing(s: Proxy, **weights: float) -> Proxy:
    """The settings with other weights of these terms."""
    return s.model_copy(update={"weights": s.weights.model_copy(update=weights)})


def alone(*names: str, **others: float) -> Proxy:
    """Settings whose weights are zero but for these."""
    plain = Proxy(coarse_size=64, fine_size=SIZE)
    kept = {name: getattr(plain.weights, name) for name in names}
    return weighing(plain, **dict.fromkeys(type(plain.weights).model_fields, 0.0) | kept | others)


def model(head: Head, truth: Truth, settings: Proxy, frames: int = FRAMES) -> ClipModel:
    """A clip whose every unknown is away from where anything would have it, the jaw closed too far."""
    g = torch.Generator().manual_seed(1)
    targets, points = truth.targets.block(slice(0, frames)), truth.points[:frames]
    units = torch.rand(frames, len(head.unit_names), generator=g)
    units[-1] = torch.nan  # a frame without a face
    found = ClipModel(Problem.of(head, targets, points, torch.ones(frames), settings, units=units))
    p = truth.parameters.copy()
    turns = p.pose()[:frames] + 0.08 * torch.randn(frames, 10, 3, generator=g)
    turns[:, 3, 0] = -0.2
    turns[:, 6:] = turns[0, 6:].clone()
    place, p.expression = p.translation()[:frames], p.expression[:frames]
    place = place + torch.tensor([0.01, 0.01, 0.03]) * torch.randn(frames, 3, generator=g)
    p.set_pose(turns, place)
    p.expression += 0.2 * torch.randn(p.expression.shape, generator=g)
    found.unknowns.parameters, u = p, found.unknowns
    start_static(found, SIZE)
    u.static = u.static + 0.002 * torch.randn(u.static.shape, generator=g)
    u.bias.turn = 0.02 * torch.randn(u.bias.turn.shape, generator=g)
    return found


def stepped(p: HeadParameters, own: torch.Tensor, shared: torch.Tensor) -> HeadParameters:
    """The parameters after steps of the frames (T, n) and of the clip (c,), as ``CoarseEquations`` numbers them."""
    e, frames = p.expression.shape[1], p.frames
    double = {name: value.double() for name, value in p.tensors().items()}
    q = HeadParameters(**double, size=p.size)
    shape, shoulders, focal = shared.split([len(p.shape), 12, 1])
    q.shape, q.log_focal = q.shape + shape, q.log_focal + focal[0]
    turned = sixd_to_matrix(q.rotation) @ axis_angle_to_matrix(own[:, e : e + 18].view(frames, 6, 3))
    q.rotation = matrix_to_sixd(turned)
    q.shoulders = matrix_to_sixd(sixd_to_matrix(q.shoulders) @ axis_angle_to_matrix(shoulders.view(4, 3)))
    q.expression, q.place = q.expression + own[:, :e], q.place + own[:, -3:-1]
    q.log_scale = q.log_scale + own[:, -1]
    return q
