"""What the landmark detector says: how far its points can be believed, and how far a fitted head is from them."""

import torch
from torch import Tensor

from expportrait.fit.parameters import HeadParameters
from expportrait.head import Head
from expportrait.points478 import EYELIDS, IRISES, LIPS, OUTER_EYES
from expportrait.settings.config import Proxy

LOST = 0.05  # of a frame's usual weight, where no face was found: its points go straight from neighbour to neighbour
OVAL_WEIGHT = 0.15  # the face oval slides along the cheek as the head turns


def interocular(points: Tensor) -> Tensor:
    """(T, 478, 2+) px -> (T,) px: distance of the outer eye corners, by the face's height where a turn shortens it."""
    eyes = (points[:, OUTER_EYES[0], :2] - points[:, OUTER_EYES[1], :2]).norm(dim=-1)
    face = (points[:, 10, :2] - points[:, 152, :2]).norm(dim=-1)
    return torch.maximum(eyes, 0.5 * face)


def point_weights(head: Head, points: Tensor, confidence: Tensor, s: Proxy) -> Tensor:
    """(T, 478) weights w_k of eq. (5): the detector's confidence; lids, irises and lips count more, the oval less, and
    points on the far side fade out. Without any, a frame's head would turn to where the priors have it."""
    weights = (confidence if confidence.dim() == 2 else confidence[:, None]).expand(len(points), 478).clone().float()
    lost = (weights == 0).all(1)
    if lost.any() and not lost.all():
        weights[lost] = LOST * weights[~lost].mean(0)
    weights[:, head.landmark_oval] *= OVAL_WEIGHT
    weights[:, IRISES] *= s.iris_weight
    weights[:, EYELIDS] *= s.lid_weight
    weights[:, LIPS] *= s.lip_weight
    left, right = points[:, 454, :2], points[:, 234, :2]  # the oval beside either ear
    nose = points[:, 1, :2]
    across = torch.nn.functional.normalize(left - right, dim=-1)
    width = (left - right).norm(dim=-1).clamp_min(1)
    turn = ((nose - (left + right) / 2) * across).sum(-1) / width  # > 0: turned to the subject's left
    side = head.landmarks.template[:, 0] / head.landmarks.template[:, 0].abs().max()
    hidden = (turn.unsqueeze(1) * side.unsqueeze(0)).clamp_min(0)
    return weights * torch.exp(-((hidden / 0.25) ** 2))


def frame_confidence(confidence: Tensor) -> Tensor:
    """(T,) mean confidence of each frame, from (T,) or (T, 478); points that a detector lacks in all frames do not
    count."""
    if confidence.dim() == 1:
        return confidence
    return confidence.mean(1) / confidence.any(0).float().mean().clamp_min(1e-3)


def project_landmarks(head: Head, parameters: HeadParameters) -> Tensor:
    """(T, 478, 2) px: the head's landmarks in every frame, as its camera sees them."""
    p = parameters
    return p.camera().project(head.pose(head.landmarks, p.shape, p.expression, p.matrices(), p.translation()))


@torch.no_grad()
def landmark_error(head: Head, projected: Tensor, points: Tensor) -> Tensor:
    """(T,) mean distance of fitted (T, 478, 2) and detected points inside the face oval, in inter-ocular distances."""
    distance = (projected - points[..., :2]).norm(dim=-1) / interocular(points).clamp_min(1)[:, None]
    inside = torch.ones(478, dtype=torch.bool, device=points.device)
    inside[list(head.landmark_oval)] = False
    return distance[:, inside].mean(1)
