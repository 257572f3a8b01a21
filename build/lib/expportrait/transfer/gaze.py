"""Eyes that look into the camera, whatever the head does, within what eyes can turn."""

import math

import torch
from torch import Tensor

from expportrait.fit.store import FittedHead
from expportrait.head import JOINTS
from expportrait.head.rotation import axis_angle_to_matrix
from expportrait.points478 import LEFT_IRIS, RIGHT_IRIS

EYES = {"left_eye": LEFT_IRIS[0], "right_eye": RIGHT_IRIS[0]}  # joint: the middle of its iris
# rad: up, down and to either side of straight ahead; 60, 123 and 86 prism dioptres, the mean supraduction, infraduction
# and adduction of 123 adults with healthy eyes (doi.org/10.1080/2576117X.2019.1711354)
UP, DOWN, ASIDE = (math.atan(dioptres / 100) for dioptres in (60, 123, 86))


def into_camera(fitted: FittedHead) -> Tensor:
    """(T, 2, 3) axis-angle of the left and the right eye, with which they look at the camera from where they are.

    An eye looks along the line from its joint to the middle of its iris. The camera is at the origin.
    """
    head, face = fitted.head, [JOINTS.index(name) for name in EYES]
    pose = axis_angle_to_matrix(fitted.pose)
    pose[:, face] = torch.eye(3, dtype=pose.dtype, device=pose.device)
    rest = head.joints(fitted.shape, fitted.expression)[:, face]
    bones = head.transforms(fitted.shape, fitted.expression, pose, fitted.translation)[:, face]
    centre = (bones[..., :3] @ rest[..., None] + bones[..., 3:])[..., 0]
    goal = -(bones[..., :3].transpose(-1, -2) @ centre[..., None])[..., 0]
    neutral = torch.zeros_like(fitted.expression[:1])
    iris = head.landmarks.canonical(fitted.shape, neutral)[:, list(EYES.values())]
    ahead = iris - head.joints(fitted.shape, neutral)[:, face]
    return within(_turn(ahead.expand_as(goal), goal))


def within(turns: Tensor) -> Tensor:
    """Turns (..., 3) axis-angle no larger than eyes can: in an ellipse of the limits up, down and aside."""
    limits = torch.stack([torch.where(turns[..., 0] > 0, DOWN, UP), torch.full_like(turns[..., 0], ASIDE)], -1)
    beyond = (turns[..., :2] / limits).norm(dim=-1, keepdim=True)
    return turns / beyond.clamp_min(1)


def _turn(start: Tensor, end: Tensor) -> Tensor:
    """(..., 3) axis-angle: the shortest turn from one direction (..., 3) to another."""
    across = torch.linalg.cross(start, end)
    sine = across.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, (start * end).sum(-1, keepdim=True))
    return angle * across / sine.clamp_min(1e-12)
