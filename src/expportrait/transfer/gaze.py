"""Eyes that look into the camera, whatever the head does, within what eyes can turn."""

import math

import torch
from torch import Tensor

from expportrait.fit.store import FittedHead
from expportrait.head import JOINTS
from expportrait.head.rotation import axis_angle_to_matrix

EYES = [JOINTS.index(name) for name in ("left_eye", "right_eye")]
AHEAD = (0.0, 0.0, 1.0)  # where eyes at rest look: the middle of the iris as detected lies lower, half under the lid
# rad: up, down and to either side of straight ahead; 60, 123 and 86 prism dioptres, the mean supraduction, infraduction
# and adduction of 123 adults with healthy eyes (doi.org/10.1080/2576117X.2019.1711354)
UP, DOWN, ASIDE = (math.atan(dioptres / 100) for dioptres in (60, 123, 86))


def into_camera(fitted: FittedHead) -> Tensor:
    """(T, 2, 3) axis-angle of the left and the right eye, with which they look at the camera from where they are.

    The camera is at the origin.
    """
    head, pose = fitted.head, axis_angle_to_matrix(fitted.pose)
    pose[:, EYES] = torch.eye(3, dtype=pose.dtype, device=pose.device)
    rest = head.joints(fitted.shape, fitted.expression)[:, EYES]
    bones = head.transforms(fitted.shape, fitted.expression, pose, fitted.translation)[:, EYES]
    centre = (bones[..., :3] @ rest[..., None] + bones[..., 3:])[..., 0]
    goal = -(bones[..., :3].transpose(-1, -2) @ centre[..., None])[..., 0]
    return within(_turn(goal.new_tensor(AHEAD).expand_as(goal), goal))


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
