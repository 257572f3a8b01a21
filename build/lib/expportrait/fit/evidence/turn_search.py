"""Where a head stands in the frames of a far turn whose landmarks are not believed.

They go on from their neighbours; how far the head turns beyond what lies between these is chosen, evenly over time, of
turns that are tried: by outlines, normals, the picture of the skin, and the yaw that the detector's depth stands for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from expportrait.fit.evidence.growth import grow
from expportrait.fit.evidence.skin import NEAREST, Pictures, Shift, Skin
from expportrait.fit.evidence.targets import distance, outline_distance
from expportrait.fit.parameters import HeadParameters
from expportrait.head import JOINTS, Head
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_sixd
from expportrait.points478 import head_turn
from expportrait.render import render
from expportrait.video.margins import Margins

TURNED = 25.0  # degrees, as fitted, from which on a frame is judged; nearer to the camera hands and faces explain more
EXTRA = np.arange(-24, 65, 8)  # degrees, tried beyond what lies between the neighbours
FINE = np.arange(-24, 65, 2)  # degrees, between them: what was tried is interpolated
FARTHEST, BEYOND = 85.0, 10.0  # degrees: a head turns further than the first rarely, by about the second
# What counts as one unit of cost: degrees, m, correlation, degrees a frame^2.
NORMALS, OUTLINE, SKIN, PACE = 2.0, 1e-3, 0.015, 6.0
REACH = 16  # part of the picture by which a head is shifted at most
CAP = 0.01  # m, largest distance of two outlines that is told from any other
# Yaw by the depth that the detector gives its points, degrees (quality.head_turn), at the true ones, as measured. It
# tells far turns better than the points' places do, and saturates; ``OFF`` degrees beside it cost one unit, at most
# MOST, and beyond one that has come to SATURATED twice as many; a jerk costs at most JERK: heads do turn fast.
READ, TRUE = (0.0, 16.0, 29.5, 41.0, 50.0, 59.5, 66.0, 71.0), (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0)
OFF, MOST, JERK, SATURATED = 8.0, 4.0, 12.0, 50.0
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
        metre = float((-p.log_scale[known]).mean().exp()) * self.size / p.size  # px
        skin = Skin(self.head, camera, self.pictures, metre)
        for t in map(int, known):
            skin.learn(t, self.posed(p, t, p.matrices(slice(t, t + 1)))[0])
        return skin

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
        costs = self.expected(angle[first : last + 1, None] + EXTRA, axis, first, share[first : last + 1, None])

        def at(t: int, extra: float) -> Tensor:
            return turned(p.matrices(slice(t, t + 1)), axis, float(extra))

        self.skin = None if self.pictures is None else self.skin_beside(first, last)
        # From both ends inwards: skin that has turned by a few degrees is known again, by 40 hardly.
        way = angle.copy()
        for t in sorted(range(first, last + 1), key=lambda t: min(t - first, last - t)):
            looks = [self.look(t, at(t, extra), p) for extra in EXTRA]
            row = costs[t - first]
            row += [look.gap / OUTLINE + look.degrees / NORMALS - look.likeness / SKIN for look in looks]
            if self.skin:
                way[t] += likeliest(row, ahead(way, t, first, last) - angle[t])
                found = self.look(t, at(t, way[t] - angle[t]), p)
                self.skin.learn(t, self.posed(p, t, at(t, way[t] - angle[t]))[0], found.shift)
        for t, degrees in zip(range(first, last + 1), smoothest(costs, angle, first, last), strict=True):
            stands = at(t, degrees)
            p.rotation[t] = matrix_to_sixd(stands[0])[: p.rotation.shape[1]]
            if self.skin:
                found = self.look(t, stands, p)
                p.place[t] += p.place.new_tensor(found.shift[::-1]) / self.size
                self.likeness[t] = found.likeness

    def expected(self, tried: np.ndarray, axis: Tensor, first: int, share: np.ndarray) -> np.ndarray:
        """(K, n) costs, before any look, of the angles ``tried`` (K, n) about an ``axis`` in the frames from ``first``
        on, whose landmarks have a ``share`` (K, 1) of their weight."""
        frames = slice(first, first + len(tried))
        costs = (np.maximum(tried - FARTHEST, 0) / BEYOND) ** 2 + share * (EXTRA / OFF) ** 2
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
        back = (-shift[0], -shift[1])
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


def best_shift(covered: np.ndarray, mask: np.ndarray) -> tuple[float, float, tuple[int, int]]:
    """Intersection over union of two (h, w) 0/1 images; the largest one when the first is shifted by up to a sixteenth
    of the picture; and that shift, rows and columns."""
    reach = len(mask) // REACH
    common = np.fft.irfft2(np.fft.rfft2(mask) * np.fft.rfft2(covered).conj(), s=mask.shape)
    common = np.roll(common, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    row, column = np.unravel_index(common.argmax(), common.shape)
    here, best = (
        float(both / max(covered.sum() + mask.sum() - both, 1)) for both in (common[reach, reach], common.max())
    )
    return here, best, (int(row) - reach, int(column) - reach)


def outline_gap(own: np.ndarray, mask: np.ndarray, above: np.ndarray, cap: float) -> float:
    """Mean px, at most ``cap``, from the outlines of two (h, w) 0/1 images to each other, where these lie ``above``
    (h, w) bool and not at its edge. Of a head that turns, the area hardly changes; nose, chin and nape do."""
    above = distance(above) > 2
    far = [np.abs(outline_distance(x)) for x in (own, mask)]
    mine, theirs = (above & (x < 1) for x in far)
    if not mine.any() or not theirs.any():
        return cap
    return float(np.minimum(far[1][mine], cap).mean() + np.minimum(far[0][theirs], cap).mean()) / 2


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and last frame of each run of True in (T,) bool."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(int)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def ahead(way: np.ndarray, t: int, first: int, last: int) -> float:
    """Where frame t of those from ``first`` to ``last`` would be if it went on as the two before it, coming from the
    nearer end; ``way`` (T,) degrees."""
    step = 1 if t - first <= last - t else -1
    a, b = t - 2 * step, t - step
    if not 0 <= b < len(way):
        return float("nan")
    return 2 * way[b] - way[a] if 0 <= a < len(way) else way[b]


def likeliest(costs: np.ndarray, expected: float) -> float:
    """The least cost of EXTRA (n,), and what lies between, with that of a jerk from where it is ``expected``."""
    between = PchipInterpolator(EXTRA, costs)(FINE)
    return float(FINE[(between + np.nan_to_num(np.minimum(((FINE - expected) / PACE) ** 2, JERK))).argmin()])


def smoothest(costs: np.ndarray, angle: np.ndarray, first: int, last: int) -> np.ndarray:
    """(K,) degrees beyond ``angle`` (T,) in the frames ``first`` to ``last``: the path through ``costs`` (K, n) of
    EXTRA, and what lies between, with the least sum of costs and squared second differences of the angle (dynamic
    programming over pairs)."""
    n = len(FINE)
    known = lambda t: np.full(n, angle[t]) if 0 <= t < len(angle) else None  # noqa: E731
    levels = [known(first - 2), known(first - 1)]
    levels += [angle[t] + FINE for t in range(first, last + 1)] + [known(last + 1), known(last + 2)]
    between = PchipInterpolator(EXTRA, costs, axis=1)(FINE)
    price = [np.zeros(n)] * 2 + list(between) + [np.zeros(n)] * 2
    inside = [k for k, level in enumerate(levels) if level is not None]
    a, b = inside[0], inside[1]
    total, steps = price[a][:, None] + price[b][None], []  # (n, n): of the last two
    for k in inside[2:]:
        bend = levels[k - 2][:, None, None] - 2 * levels[k - 1][:, None] + levels[k]
        every = total[..., None] + np.minimum((bend / PACE) ** 2, JERK)
        steps.append(every.argmin(0))
        total = every.min(0) + price[k]
    i, j = np.unravel_index(total.argmin(), total.shape)
    path = [j, i]
    for step in reversed(steps):
        path.append(step[path[-1], path[-2]])
    chosen = {k: levels[k][i] for k, i in zip(inside, reversed(path), strict=True)}
    return np.array([chosen[k] for k in range(2, 2 + len(costs))]) - angle[first : last + 1]
