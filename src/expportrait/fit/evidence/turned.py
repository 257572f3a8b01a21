"""Far turns: frames whose landmarks are guesses, and where the head stands in them.

Near profile the landmark detector flattens the head, loses it, or finds it elsewhere. How far its points are off is
told by its own confidence and by how badly a head can be fitted to them (benchmarks/far_turns.py); where a grown head
is at hand, by the silhouette too. Frames that are too far off are set aside, and the head is searched for in them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d
from torch import Tensor

from expportrait.fit.evidence.front_pitch import pitch_by_skin
from expportrait.fit.evidence.points import frame_confidence, landmark_error, project_landmarks
from expportrait.fit.evidence.skin import Pictures
from expportrait.fit.evidence.turn_search import TURNED, Maps, Search, forward, turn_of, yaw_read
from expportrait.fit.parameters import HeadParameters
from expportrait.head import Head
from expportrait.video.margins import NONE, Margins

# Error of the detector's points as measured, % of the inter-ocular distance: what unsureness costs, what a residual as
# large as the clip's usual one does, and what is lost by one unit of overlap with the mask.
UNSURE, MISFIT, UNCOVERED = 8.0, 1.6, 100.0
USUAL = 3.3  # the same in frontal frames
GOOD, GUESS = 4.5, 9.0  # the error up to which points keep their weight, and from which they are not believed at all
CALM = 0.02  # inter-ocular distances, largest residual that passes for usual
NEAR = 12  # frames around a turn that are judged with it: points that have left the face say nothing of it
HALF = 0.5  # weight of a frame's landmarks from which on its mask tells the hair
FEW = 3  # frames that must be believed, for there is nothing else to go on from
APART = 4.0  # degrees, by which a frame found elsewhere than its landmarks have it is set aside too
COVERED = 0.05  # of the usual overlap that a head found again may lack


@dataclass
class Turns:
    """What is made of a clip's far turns. ``parameters``: with the frames set aside moved to where they are thought to
    be, and the others pitched as their skin has it; ``points`` (T, 478, 3) px: the detector's, moved with the pitch,
    and in frames set aside the head's own; ``share`` (T,) 0..1: weight of the frames' landmarks, 0 in those ``aside``
    (T,) bool; ``found`` (T,) bool: of these, where the head then fits its silhouette; ``likeness`` (T,)
    0..1 there: the correlation of its skin, as other frames show it, with the picture."""

    parameters: HeadParameters
    points: Tensor
    share: Tensor
    aside: Tensor
    found: Tensor
    likeness: Tensor


def expected_error(residual: Tensor, sure: Tensor, overlap: Tensor | None = None) -> Tensor:
    """(T,) % of the inter-ocular distance by which the detector's points are thought to be off, from a frame's own
    ``residual`` (T,) over the clip's usual one, its mean confidence ``sure`` (T,), and ``overlap`` (T,) of the fitted
    head with the mask, less the clip's usual one."""
    error = UNSURE * (1 - sure) + MISFIT * residual
    return error if overlap is None else torch.maximum(error, USUAL - UNCOVERED * overlap)


def judged(parameters: HeadParameters) -> Tensor:
    """(T,) bool: frames in or beside a turn."""
    turned = (turn_of(parameters) > TURNED).cpu().numpy()
    return torch.from_numpy(maximum_filter1d(turned.astype(np.uint8), 2 * NEAR + 1) > 0)


@torch.no_grad()
def settle_turns(
    head: Head,
    parameters: HeadParameters,
    points: Tensor,
    confidence: Tensor,
    maps: Maps,
    size: int,
    max_growth: float,
    margins: Margins = NONE,
    move: bool = True,
    pictures: Pictures | None = None,
) -> Turns:
    """Judge the frames of a landmark fit, and find the head again where its landmarks are not believed.

    points (T, 478, 3) px; confidence (T,) or (T, 478); ``maps`` give a frame's estimates at ``size`` px; where not
    ``move``, the parameters stay as they are. With ``pictures``, the skin tells how far a head turns too.
    """
    near, nothing = judged(parameters), torch.zeros(len(points), dtype=torch.bool)
    if not near.any():
        return Turns(parameters, points, torch.ones(len(points)), nothing, nothing, torch.zeros(len(points)))
    sure = frame_confidence(confidence.cpu())
    residual = landmark_error(head, project_landmarks(head, parameters), points).cpu()
    front = ~near if int((~near).sum()) >= FEW else turn_of(parameters).cpu() < TURNED
    # Where all frames are turned, the usual one is a bad one.
    residual = residual / residual[front if front.any() else ~nothing].median().clamp_max(CALM)
    share, aside = shares(expected_error(residual, sure), near)
    chosen = (~aside).nonzero().squeeze(-1)
    if len(chosen) < FEW:
        points = own_points(head, parameters, points, aside)
        return Turns(parameters, points, share, aside, nothing, torch.zeros(len(points)))
    search = Search(head, parameters, maps, margins.inside(size), yaw_read(points), sure, pictures)
    search.learn(chosen, max_growth, margins)
    overlap = search.overlap(parameters, range(len(points)))
    usual = overlap[front if front.any() else chosen].median(0).values
    share, aside = shares(expected_error(residual, sure, (overlap - usual)[:, 0]), near)
    believed = (~aside).nonzero().squeeze(-1)
    if aside.any() and move and len(believed) >= FEW:
        # Of a head that is turned too little, hair grows where there is none, and the search would follow it.
        plain = (share > HALF).nonzero().squeeze(-1)
        search.learn(plain if len(plain) >= FEW else believed, max_growth, margins)
        search.parameters, points = pitch_by_skin(search, parameters, points, aside)
        moved = search.run(aside, share)
        apart = torch.rad2deg((forward(search.parameters) * forward(moved)).sum(-1).clamp(-1, 1).acos()).cpu()
        # Their landmarks would draw the head back from where all else has it.
        aside = aside | (apart > APART)
        share = torch.where(aside, 0, share)
        # Once more, from frames beside the turn that the search has moved.
        parameters, points = pitch_by_skin(search, moved, points, aside)
        overlap = search.overlap(parameters, range(len(points)))
        usual = overlap[front if front.any() else believed].median(0).values
    found = aside & ((overlap - usual)[:, 1] > -COVERED)
    points = own_points(head, parameters, points, aside)
    return Turns(parameters, points, share, aside, found, search.likeness.clamp_min(0) * found)


def own_points(head: Head, parameters: HeadParameters, points: Tensor, aside: Tensor) -> Tensor:
    """(T, 478, 3) px: the detector's ``points``, in frames set ``aside`` (T,) bool the head's own."""
    if not aside.any():
        return points
    own = torch.cat([project_landmarks(head, parameters), points[..., 2:]], -1)
    return torch.where(aside.to(points.device)[:, None, None], own, points)


def shares(error: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Weight of the frames' landmarks by their error (T,), %, where it is judged (T,) bool; frames set aside."""
    aside = near & (error >= GUESS)
    share = torch.where(near, (GOOD / error.clamp_min(GOOD)).square(), torch.ones_like(error))
    return torch.where(aside, 0, share), aside
