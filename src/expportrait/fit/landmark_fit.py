"""Stages (a) and (b): the coarse head and the camera from 2D landmarks, all frames of a clip at once (eq. 5, 7)."""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from expportrait.fit.evidence.points import interocular, point_weights
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.solvers.adam import ClipAdam, Slot
from expportrait.fit.terms import landmarks
from expportrait.fit.terms.priors import prior_energies
from expportrait.fit.terms.residuals import numbers
from expportrait.fit.terms.table import LANDMARKS, RIGID, StepTerms
from expportrait.fit.terms.temporal import temporal_energies
from expportrait.head import Head
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_sixd
from expportrait.settings.config import Proxy

BLOCK = 256  # frames whose gradients are in memory at a time
RATES = {  # of Adam, by what a step moves
    RIGID: {"place": 0.005, "log_scale": 0.01, "rotation": 0.01},
    LANDMARKS: {
        "place": 0.002, "log_scale": 0.004, "rotation": 0.01, "shape": 0.05, "expression": 0.05, "log_focal": 0.005,
    },
}  # fmt: skip
OF_CLIP = ("shape", "log_focal")  # all else is a frame's
TORSO_SHARE = 0.4  # of a head turn that the torso takes at the start; neck and head share the rest

Progress = Callable[[int, dict[str, float]], None]  # number of a step, the weighted terms before it, by name


def rigid_start(head: Head, points: Tensor, weights: Tensor, size: int, focal: float) -> HeadParameters:
    """Weak-perspective Procrustes of the template's landmarks to the detected 3D points, frame by frame."""
    parameters = HeadParameters.neutral(head, len(points), size, focal)
    template = head.landmarks.template
    target = points * points.new_tensor([1.0, -1.0, -1.0])
    w = (weights / weights.sum(1, keepdim=True).clamp_min(1e-6)).unsqueeze(-1)
    centre, mean = (w * target).sum(1, keepdim=True), (w * template).sum(1, keepdim=True)
    a, b = template - mean, target - centre
    u, singular, vh = torch.linalg.svd((b * w).transpose(1, 2) @ a)
    sign = points.new_ones(len(points), 3)
    sign[:, 2] = torch.det(u @ vh).sign()
    rotation = u @ torch.diag_embed(sign) @ vh
    scale = (singular * sign).sum(1) / (w * a.square()).sum((1, 2))  # px per metre
    turn = matrix_to_axis_angle(rotation)
    pose = points.new_zeros(len(points), 10, 3)
    pose[:, 0], pose[:, 1], pose[:, 2] = TORSO_SHARE * turn, (1 - TORSO_SHARE) / 2 * turn, (1 - TORSO_SHARE) / 2 * turn
    parameters.rotation = matrix_to_sixd(axis_angle_to_matrix(pose[:, :6]))
    # The neck's place: where the posed landmarks' mean lands on the detected one, in the weak-perspective camera.
    posed = head.pose(
        head.landmarks, parameters.shape, parameters.expression, parameters.matrices(), points.new_zeros(len(points), 3)
    )
    offset = (w * posed).sum(1)[:, :2] * scale.unsqueeze(-1)
    neck_px = centre[:, 0, :2] - offset
    parameters.place = (neck_px * points.new_tensor([1.0, -1.0]) - size / 2) / size
    # The face is nearer to the camera than the neck; at the neck a metre spans fewer pixels.
    depth = focal / scale + (w * posed).sum(1)[:, 2]
    parameters.log_scale = torch.log(depth / focal)
    return parameters


def descend(slots: dict[str, Slot], steps: int, parts: list[Callable[[], dict[str, Tensor]]], tell: Progress) -> None:
    """Take Adam's steps down the sum of all terms of ``parts``, of which one at a time is in memory."""
    adam = ClipAdam(slots)
    for step in range(steps):
        adam.zero_grad()
        told: Counter[str] = Counter()
        for part in parts:
            terms = part()
            loss = sum(terms.values())
            if loss.requires_grad:  # not the temporal terms of one frame
                loss.backward()
            told.update(numbers(terms))
        adam.step(None, 0.3 if step > 0.7 * steps else 1.0)
        tell(step, dict(told))


def fit_landmarks(
    head: Head,
    points: Tensor,
    confidence: Tensor,
    size: int,
    settings: Proxy | None = None,
    progress: Progress | None = None,
    focal: float | None = None,
    expected: Tensor | None = None,
    robust: float = landmarks.ROBUST,
) -> HeadParameters:
    """Fit pose, focal length, shape and expression to detected landmarks.

    points (T, 478, 3) px in a ``size`` x ``size`` image, z in px as MediaPipe gives it; confidence (T,) or (T, 478),
    0 where a frame has no detection: such frames follow their neighbours. ``progress`` is called after every step;
    ``focal`` px, expected: without it that of the settings; ``expected`` (T, E): an expression, NaN where unknown;
    ``robust``: scale of the loss of the points, in inter-ocular distances.
    """
    s = settings or Proxy()
    focal = focal or s.focal * size
    weights = point_weights(head, points, confidence, s)
    unit = interocular(points).clamp_min(1)[:, None, None]
    parameters = rigid_start(head, points, weights + 1e-3, size, focal)

    norm = weights.sum().clamp_min(1)
    blocks = [slice(first, first + BLOCK) for first in range(0, len(points), BLOCK)]

    def data(frames: slice, w: dict[str, float]) -> dict[str, Tensor]:
        matrices, place = parameters.matrices(frames), parameters.translation(frames)
        posed = head.pose(head.landmarks, parameters.shape, parameters.expression[frames], matrices, place)
        off = landmarks.residuals(parameters.camera().project(posed), points[frames], unit[frames])
        return {"landmark": w["landmark"] * landmarks.energy(off, weights[frames], robust) / norm}

    units = head.bounded_units

    def priors(w: dict[str, float]) -> dict[str, Tensor]:
        return temporal_energies(parameters, w) | prior_energies(parameters, math.log(focal), w, units, expected)

    def run(kind: StepTerms, steps: int, offset: int) -> None:
        w, rates = kind.weights(s.weights), RATES[kind]
        slots = {name: Slot(getattr(parameters, name), rates[name], name not in OF_CLIP) for name in kind.moves}
        parts = [partial(priors, w), *(partial(data, frames, w) for frames in blocks)]
        descend(slots, steps, parts, lambda step, terms: progress(offset + step, terms) if progress else None)

    run(RIGID, s.rigid_steps, 0)
    run(LANDMARKS, s.landmark_steps, s.rigid_steps)
    return parameters.copy()
