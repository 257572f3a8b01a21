"""Where a head stands in the frames of a far turn whose landmarks are not believed.

They go on from their neighbours; how far the head turns beyond what lies between these is chosen, evenly over time,
by outlines, normals, the picture of the skin, and the yaw that the detector's depth stands for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import convolve1d
from torch import Tensor

from expportrait.fit.evidence.growth import grow
from expportrait.fit.evidence.overlap import REACH, best_shift, outline_gap
from expportrait.fit.evidence.skin import NEAREST, Pictures, Shift, Skin
from expportrait.fit.evidence.turn_path import ANGLES, ahead, between, jerk, runs, smoothest
from expportrait.fit.parameters import HeadParameters
from expportrait.head import JOINTS, Head
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_sixd
from expportrait.points478 import head_turn
from expportrait.render import render
from expportrait.video.margins import Margins

TURNED = 25.0  # degrees, as fitted, from which on a frame is judged; nearer to the camera hands and faces explain more
TRIED = ANGLES[::8].tolist()  # degrees that are looked at: further apart, the skin's best correlation is missed
BESIDE = 4.0  # degrees on either side of the likeliest angle that are looked at too
FARTHEST, BEYOND = 85.0, 10.0  # degrees: a head turns further than the first rarely, by about the second
# Log distances beyond what lies between the neighbours that are looked at, those one of which is chosen, what costs one
# unit, and the shares that the frames beside have in a frame's.
LOOKED, CHOSEN, NEARER = np.linspace(-0.08, 0.08, 5).tolist(), np.linspace(-0.08, 0.08, 33), 0.05
TOGETHER = np.array([1, 2, 3, 2, 1]) / 3
NORMALS, OUTLINE, SKIN = 2.0, 1e-3, 0.015  # what counts as one unit of cost: degrees, m, correlation
CAP = 0.01  # m, largest distance of two outlines that is told from any other
# Yaw by the depth that the detector gives its points, degrees (quality.head_turn), at the true ones, as measured. It
# tells far turns better than the points' places do, and saturates; ``OFF`` degrees beside it cost one unit, at most
# MOST, and beyond one that has come to SATURATED twice as many.
READ, TRUE = (0.0, 16.0, 29.5, 41.0, 50.0, 59.5, 66.0, 71.0), (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0)
OFF, MOST, SATURATED = 8.0, 4.0, 50.0
SIDEWAYS = 0.8  # of a turn's axis, upright, from which on it is a yaw
FACING = 0.2  # cosine to the view from which on a vertex's normal is compared

Maps = Callable[[int], tuple[Tensor, Tensor | None, Tensor | None]]  # frame -> mask (h, w), normals (h, w, 3), trust


@dataclass
class Masks:
    """The masks of some ``frames`` of a clip, as ``growth.grow`` reads them."""

    maps: Maps
    chosen: Tensor
    size: int
    margins: Margins

    @property
    def frames(self) -> int:
        return len(self.chosen)

    def masks(self, frames: slice) -> Tensor:
        return torch.stack([self.maps(t)[0] for t in self.chosen[frames].tolist()])


def forward(parameters: HeadParameters) -> Tensor:
    """(T, 3): where the face looks, in camera space."""
    m = parameters.matrices()
    return (m[:, 0] @ m[:, 1] @ m[:, 2])[..., 2]


def turn_of(parameters: HeadParameters) -> Tensor:
    """(T,) degrees between where the face looks and the camera's axis."""
    return torch.rad2deg(forward(parameters)[:, 2].clamp(-1, 1).acos())


def angle_about(axis: Tensor, looks: Tensor) -> Tensor:
    """(T,) degrees by which directions (T, 3) are turned about an axis (3,) from the camera's."""
    camera = looks.new_tensor([0.0, 0.0, 1.0])
    front = F.normalize(camera - (camera @ axis) * axis, dim=0)
    return torch.rad2deg(torch.atan2(looks @ torch.linalg.cross(axis, front), looks @ front))


def yaw_read(points: Tensor) -> np.ndarray:
    """(T,) degrees to the subject's left: the yaw that the depth of points (T, 478, 3) px stands for."""
    read = head_turn(points.cpu().numpy())[:, 0]
    return np.sign(read) * np.interp(np.abs(read), READ, TRUE)


def some(parameters: HeadParameters, frames: Tensor) -> HeadParameters:
    """The parameters of some frames alone."""
    own = {name: getattr(parameters, name)[frames] for name in ("expression", "rotation", "place", "log_scale")}
    return HeadParameters(**(parameters.tensors() | own), size=parameters.size)


@dataclass(frozen=True)
class Look:
    """How a frame agrees with a head: its overlap (intersection over union) with the mask above the neck, ``here`` and
    after the shift in the picture that suits the mask best; after this shift the outlines' mean distance ``gap``, m;
    the ``likeness`` of its skin (Skin.likeness), 0 where no picture is known; after the ``shift`` that suits the skin,
    or the mask where there is none, the mean ``degrees`` to the normals times their trust, 0 where there are none."""

    here: float
    overlap: float
    gap: float
    degrees: float
    likeness: float
    shift: Shift


class Search:
    """How far a head turns in the frames set aside, of all that were tried."""

    def __init__(
        self,
        head: Head,
        parameters: HeadParameters,
        maps: Maps,
        inside: np.ndarray,
        yaw: np.ndarray,
        sure: Tensor,
        pictures: Pictures | None,
    ):
        """``inside`` (h, w) bool: the picture, without padding; ``yaw`` (T,) degrees, as the points' depth has it;
        ``sure`` (T,) confidence."""
        self.head, self.parameters, self.maps = head, parameters, maps
        self.grown = torch.zeros_like(head.coarse.template)  # m
        self.size, self.inside = len(inside), torch.from_numpy(inside).to(self.grown)
        self.yaw, self.sure = yaw, sure.numpy()
        self.pictures, self.known = pictures, np.arange(0)
        self.skin: Skin | None = None
        self.likeness = torch.zeros(len(yaw))

    def skin_beside(self, first: int, last: int) -> Skin:
        """The skin in the known frames on either side of ``first`` to ``last``."""
        p, camera = self.parameters, self.parameters.camera(self.size)
        known = [*self.known[self.known < first][-NEAREST:], *self.known[self.known > last][:NEAREST]]
        skin = Skin(self.head, camera, self.pictures, self.metre(p, known))
        for t in map(int, known):
            skin.learn(t, self.posed(p, t, p.matrices(slice(t, t + 1)))[0])
        return skin

    def metre(self, p: HeadParameters, frames: list[int]) -> float:
        """px at the head in these frames."""
        return float((-p.log_scale[frames]).mean().exp()) * self.size / p.size

    def posed(self, p: HeadParameters, t: int, matrices: Tensor) -> Tensor:
        """(1, n_c, 3): the grown head ``p`` of frame t with joints ``matrices`` (1, 10, 3, 3)."""
        place = p.translation(slice(t, t + 1))
        return self.head.pose(self.head.coarse, p.shape, p.expression[t : t + 1], matrices, place, self.grown[None])

    def learn(self, frames: Tensor, max_growth: float, margins: Margins) -> None:
        """Give the head the hair that the masks of these ``frames`` show, and take its skin from them."""
        self.known = frames.numpy()
        masks = Masks(self.maps, frames, self.size, margins)
        self.grown = grow(self.head, some(self.parameters, frames), masks, max_growth)[: len(self.grown)]

    def overlap(self, p: HeadParameters, frames: Iterable[int]) -> Tensor:
        """(B, 2) of the heads ``p`` with the masks of these frames: where they are, and where they suit best."""
        looks = (self.look(t, p.matrices(slice(t, t + 1)), p) for t in frames)
        return torch.tensor([(look.here, look.overlap) for look in looks])

    def run(self, aside: Tensor, share: Tensor) -> HeadParameters:
        """The parameters with the frames ``aside`` (T,) bool moved; and those turned frames beside them whose landmarks
        have but a ``share`` (T,) of their weight: a fit to these does not turn far enough, and would hold back the
        frames between."""
        out, share = self.parameters.copy(), share.cpu().numpy()
        doubtful = (share < 1) & (turn_of(out) > TURNED).cpu().numpy()
        for first, last in runs(aside.numpy()):
            self.bridge(out, first, last)
        for first, last in runs(aside.numpy() | doubtful):
            if aside[first : last + 1].any():
                self.turn(out, first, last, share)
        return out

    def bridge(self, p: HeadParameters, first: int, last: int) -> None:
        """Frames ``first`` to ``last`` go straight from the frame before to the one after, or stand still at an end."""
        before, after = first - 1, last + 1
        if before < 0 or after >= p.frames:
            before = after = after if before < 0 else before
        for t in range(first, last + 1):
            w = (t - before) / (after - before) if after > before else 0.0
            for x in (p.expression, p.place, p.log_scale):
                x[t] = (1 - w) * x[before] + w * x[after]
            mixed = (1 - w) * p.matrices(slice(before, before + 1)) + w * p.matrices(slice(after, after + 1))
            u, _, vh = torch.linalg.svd(mixed[0])
            p.rotation[t] = matrix_to_sixd(u @ vh)[: p.rotation.shape[1]]

    def turn(self, p: HeadParameters, first: int, last: int, share: np.ndarray) -> None:
        """Turn neck and head further in the frames ``first`` to ``last``, which lie between their neighbours; those
        whose landmarks have a ``share`` (T,) of their weight go on from where these have them."""
        turn = turn_of(p)
        if float(turn[first : last + 1].mean()) < TURNED:
            return  # which way, nothing tells
        axis = self.axis(p, first, last)
        angle = angle_about(axis, forward(p)).cpu().numpy()
        costs = self.expected(angle[first : last + 1, None] + ANGLES, axis, first, share[first : last + 1, None])

        def at(t: int, extra: float) -> Tensor:
            return turned(p.matrices(slice(t, t + 1)), axis, float(extra))

        self.skin = None if self.pictures is None else self.skin_beside(first, last)
        # From both ends inwards: skin that has turned by a few degrees is known again, by 40 hardly.
        way = angle.copy()
        for t in sorted(range(first, last + 1), key=lambda t: min(t - first, last - t)):
            expected = jerk(angle[t] + ANGLES - ahead(way, t, first, last))
            costs[t - first] += self.told(p, t, partial(at, t), costs[t - first] + expected)
            if self.skin:
                way[t] += ANGLES[(costs[t - first] + expected).argmin()]
                stands = at(t, way[t] - angle[t])
                self.skin.learn(t, self.posed(p, t, stands)[0], self.look(t, stands, p).shift)
        for t, degrees in zip(range(first, last + 1), smoothest(costs, angle, first, last), strict=True):
            p.rotation[t] = matrix_to_sixd(at(t, degrees)[0])[: p.rotation.shape[1]]
        aside = [t for t in range(first, last + 1) if share[t] == 0]
        p.log_scale[aside] += p.log_scale.new_tensor(self.distances(p, aside))
        for t in range(first, last + 1):
            if self.skin:
                found = self.look(t, p.matrices(slice(t, t + 1)), p)
                p.place[t] += p.place.new_tensor(found.shift[::-1]) / self.size
                self.likeness[t] = found.likeness

    def distances(self, p: HeadParameters, frames: list[int]) -> np.ndarray:
        """(K,) log distance beyond the one they have that makes the outlines of ``frames`` suit best, evenly over time.
        The skin says nothing of it: it is known from frame to frame in the size that it has there."""
        known, skin, self.skin = [], self.skin, None
        for t in frames:
            stands, there = p.matrices(slice(t, t + 1)), p.log_scale[t].clone()
            cost = {}
            for more in LOOKED:
                p.log_scale[t] = there + more
                cost[more] = self.look(t, stands, p).gap / OUTLINE
            p.log_scale[t] = there
            known.append(between(cost, CHOSEN))
        self.skin = skin
        price = convolve1d(np.array(known), TOGETHER, 0, mode="constant") + (CHOSEN / NEARER) ** 2
        return CHOSEN[price.argmin(1)]

    def told(self, p: HeadParameters, t: int, at: Callable[[float], Tensor], price: np.ndarray) -> np.ndarray:
        """(n,) costs of ANGLES in frame t, by looks at the head ``p`` with the joints ``at`` some of them: evenly, and
        again beside the likeliest, whose ``price`` (n,) and looks cost least."""

        def cost(angle: float) -> float:
            look = self.look(t, at(angle), p)
            return look.gap / OUTLINE + look.degrees / NORMALS - look.likeness / SKIN

        known = {angle: cost(angle) for angle in TRIED}
        best = float(ANGLES[(price + between(known, ANGLES)).argmin()])
        known |= {angle: cost(angle) for angle in (best - BESIDE, best + BESIDE) if angle not in known}
        return between(known, ANGLES)

    def expected(self, tried: np.ndarray, axis: Tensor, first: int, share: np.ndarray) -> np.ndarray:
        """(K, n) costs, before any look, of the angles ``tried`` (K, n) about an ``axis`` in the frames from ``first``
        on, whose landmarks have a ``share`` (K, 1) of their weight."""
        frames = slice(first, first + len(tried))
        costs = (np.maximum(tried - FARTHEST, 0) / BEYOND) ** 2 + share * (ANGLES / OFF) ** 2
        if abs(float(axis[1])) > SIDEWAYS:
            read = np.sign(float(axis[1])) * self.yaw[frames, None]
            wide = np.where((read > SATURATED) & (tried > read), 2 * OFF, OFF)
            costs += self.sure[frames, None] * np.minimum(((tried - read) / wide) ** 2, MOST)
        return costs

    def axis(self, p: HeadParameters, first: int, last: int) -> Tensor:
        """(3,) about which the head has turned in the frames ``first`` to ``last`` since it looked at the camera, or
        about which it would have to."""
        matrices = p.matrices()
        stand = matrices[:, 0] @ matrices[:, 1] @ matrices[:, 2]
        turn = turn_of(p)
        if float(turn.min()) > TURNED:
            looks = forward(p)[first : last + 1].mean(0)
            return F.normalize(torch.linalg.cross(looks.new_tensor([0.0, 0.0, 1.0]), looks), dim=0)
        # Not from the camera's axis: a fit to points looks up or down by some degrees in all frames.
        since = stand[first : last + 1] @ stand[turn.argmin()].t()
        axis = F.normalize(matrix_to_axis_angle(since).sum(0), dim=0)
        # Fits to points of a turn tilt it; the silhouettes of films agreed better with an upright one.
        upright = axis.new_tensor([0.0, 1.0, 0.0]) * axis[1].sign()
        return upright if abs(float(axis[1])) > SIDEWAYS else axis

    def look(self, t: int, matrices: Tensor, p: HeadParameters) -> Look:
        """At the head ``p`` of frame t with joints ``matrices`` (1, 10, 3, 3)."""
        place = p.translation(slice(t, t + 1))
        vertices, camera = self.posed(p, t, matrices), p.camera(self.size)
        skin = {"skin": self.skin.near(t)} if self.skin else {}
        drawn = render(vertices, self.head.faces, camera, skin, cull=True)
        mask, normals, trust = self.maps(t)
        rows = int(camera.project(place)[0, 1].clamp(1, self.size))
        covered = (drawn.coverage[0] > 0.5).float()
        above = self.inside.clone()
        above[rows:] = 0
        own, theirs = (covered * above).cpu().numpy(), ((mask > 0.5) * above).cpu().numpy()
        here, overlap, shift = best_shift(own, theirs)
        metre = float(camera.focal / -place[0, 2])  # px at the neck
        gap = outline_gap(np.roll(own, shift, (0, 1)), theirs, above.cpu().numpy() > 0, CAP * metre) / metre
        likeness = 0.0
        if self.skin:
            likeness, shift = self.skin.likeness(t, drawn, self.size // REACH) or (0.0, shift)
        if normals is None:
            return Look(here, overlap, gap, 0.0, likeness, shift)
        back = (-round(shift[0]), -round(shift[1]))
        shown = covered * above * (drawn.normals[0, ..., 2] > FACING)
        weight = trust.roll(back, (0, 1)) * mask.roll(back, (0, 1)) * shown
        cosine = (drawn.normals[0] * normals.roll(back, (0, 1))).sum(-1).clamp(-1, 1)
        degrees = float(torch.rad2deg((weight * cosine.acos()).sum())) / max(float(shown.sum()), 1)
        return Look(here, overlap, gap, degrees, likeness, shift)


def turned(matrices: Tensor, axis: Tensor, degrees: float) -> Tensor:
    """(1, 10, 3, 3): neck and head together turned by ``degrees`` about an axis (3,) in camera space."""
    half = axis_angle_to_matrix((axis * np.radians(degrees / 2))[None].float())[0]
    out = matrices.clone()
    root, neck, top = (JOINTS.index(name) for name in ("global", "neck", "head"))
    out[0, neck] = out[0, root].t() @ half @ out[0, root] @ out[0, neck]
    above = out[0, root] @ out[0, neck]
    out[0, top] = above.t() @ half @ above @ out[0, top]
    return out
