"""The pitch of a head near the front, told by the skin of its turned frames.

A landmark fit mistakes pitch near the front for the shape of the face, by 3 to 10 degrees on painted films, and hardly
where the head is turned by 40: there chin, nose and forehead show their slope in the picture (benchmarks/far_turns.py).
From frames beside a far turn the skin is followed to the front. How much pitch the fit lacks is a matter of the person
and the turn, so what a few frames tell holds for the clip.
"""

from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from expportrait.fit.evidence.points import project_landmarks
from expportrait.fit.evidence.skin import Skin
from expportrait.fit.evidence.turn_path import between, runs
from expportrait.fit.evidence.turn_search import Search, angle_about, forward, turned
from expportrait.fit.parameters import HeadParameters
from expportrait.head.rotation import matrix_to_sixd

TRIED = np.arange(-8.0, 9.0, 4.0).tolist()  # degrees of pitch about the one found last
FINE = np.arange(-8.0, 8.1, 0.25)
APART = 4.0  # degrees of turn from one frame that is looked at to the next
SIDE = 30.0  # degrees of turn from which on a landmark fit has the pitch
FRONT = 5.0  # degrees of turn, where there is no more to be followed
LIKE = 0.6  # correlation of the skin, below which it is not known again
TURNS = np.array([0.0, 10.0, 20.0, 30.0, 40.0])  # degrees between which the pitch is linear; at the last one it is 0
EVEN = 0.1  # weight of evenness over ``TURNS``, beside 1 of a frame
X, Y = torch.eye(3)[:2]


def follow(search: Search, p: HeadParameters, frames: list[int]) -> list[tuple[float, float]]:
    """Degrees of turn and of pitch lacking, of those of ``frames`` that are looked at, which go from a turned one to
    the front."""
    yaw = angle_about(Y.to(p.place), forward(p)).abs().cpu().numpy()
    if not frames or yaw[frames[0]] < SIDE:
        return []
    at, found = frames[0], [(float(yaw[frames[0]]), 0.0)]
    search.skin = Skin(search.head, p.camera(search.size), search.pictures, search.metre(p, frames))
    search.skin.learn(at, search.posed(p, at, p.matrices(slice(at, at + 1)))[0])
    for t in frames[1:]:
        if yaw[t] > yaw[at] + APART or yaw[at] < FRONT:
            break
        if yaw[t] > yaw[at] - APART:
            continue

        def stands(pitch: float, t: int = t) -> Tensor:
            return turned(p.matrices(slice(t, t + 1)), X.to(p.place), pitch)

        last = found[-1][1]
        like = {last + more: search.look(t, stands(last + more), p).likeness for more in TRIED}
        if max(like.values()) < LIKE:
            break
        pitch = float(last + FINE[between(like, last + FINE).argmax()])
        found.append((float(yaw[t]), pitch))
        search.skin.learn(t, search.posed(p, t, stands(pitch))[0], search.look(t, stands(pitch), p).shift)
        at = t
    return found


@torch.no_grad()
def lacking(search: Search, p: HeadParameters, aside: Tensor) -> np.ndarray:
    """(T,) degrees down by which the frames that are not set ``aside`` (T,) bool should be turned."""
    told: list[tuple[float, float]] = []
    believed = ~aside.numpy()
    for first, last in runs(~believed):
        for way in (range(first - 1, -1, -1), range(last + 1, len(believed))):
            told += follow(search, p, list(takewhile(believed.__getitem__, way)))
    if not told:
        return np.zeros(len(believed))
    turn, pitch = np.array(told).T
    hats = np.array([np.interp(turn, TURNS, row) for row in np.eye(len(TURNS))]).T[:, :-1]
    bend = EVEN * np.diff(np.eye(len(TURNS)), 2, axis=0)[:, :-1]
    knots = np.linalg.lstsq(np.r_[hats, bend], np.r_[pitch, np.zeros(len(bend))], rcond=None)[0]
    yaw = angle_about(Y.to(p.place), forward(p)).abs().cpu().numpy()
    return np.where(believed, np.interp(yaw, TURNS, np.r_[knots, 0.0]), 0.0)


@torch.no_grad()
def pitch_by_skin(search: Search, p: HeadParameters, points: Tensor, aside: Tensor) -> tuple[HeadParameters, Tensor]:
    """The parameters with neck and head turned down by what is lacking, about the middle of the landmarks in the
    picture, and the detector's ``points`` (T, 478, 3) px moved by as much as the head's own. What they say beyond the
    pitch stays: a face whose shape followed them would be as wrong."""
    if search.pictures is None:
        return p, points
    out, axis, degrees = p.copy(), X.to(p.place), lacking(search, p, aside)
    for t in np.flatnonzero(degrees).tolist():
        stands = turned(p.matrices(slice(t, t + 1)), axis, float(degrees[t]))
        out.rotation[t] = matrix_to_sixd(stands[0])[: p.rotation.shape[1]]
    before = project_landmarks(search.head, p)
    out.place = out.place - (project_landmarks(search.head, out) - before).mean(1) / p.size
    moved = points[..., :2] + project_landmarks(search.head, out) - before
    return out, torch.cat([moved, points[..., 2:]], -1)
