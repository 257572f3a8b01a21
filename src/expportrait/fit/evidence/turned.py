"""Far turns: frames whose landmarks are guesses, and where the head stands in them.

Near profile the landmark detector flattens the head, loses it, or finds it elsewhere. How far its points are off is
told by its own confidence and by how badly a head can be fitted to them (benchmarks/far_turns.py); where a grown head
is at hand, by the silhouette too. Frames that are too far off are set aside: they go on from their neighbours, and how
far the head turns in between is chosen by normals and silhouette, evenly over time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import maximum_filter1d
from torch import Tensor

from expportrait.fit.evidence.growth import grow
from expportrait.fit.evidence.points import frame_confidence, landmark_error, project_landmarks
from expportrait.fit.evidence.targets import distance, outline_distance
from expportrait.fit.parameters import HeadParameters
from expportrait.head import JOINTS, Head
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_sixd
from expportrait.points478 import head_turn
from expportrait.render import render
from expportrait.video.margins import NONE, Margins

# Error of the detector's points as measured, % of the inter-ocular distance: what unsureness costs, what a residual as
# large as the clip's usual one does, and what is lost by one unit of overlap with the mask.
UNSURE, MISFIT, UNCOVERED = 8.0, 1.6, 100.0
USUAL = 3.3  # the same in frontal frames
GOOD, GUESS = 4.5, 9.0  # the error up to which points keep their weight, and from which they are not believed at all
CALM = 0.02  # inter-ocular distances, largest residual that passes for usual
TURNED = 25.0  # degrees, as fitted, from which on a frame is judged; nearer to the camera hands and faces explain more
NEAR = 12  # frames around a turn that are judged with it: points that have left the face say nothing of it
HALF = 0.5  # weight of a frame's landmarks from which on its mask tells the hair
FEW = 3  # frames that must be believed, for there is nothing else to go on from
EXTRA = np.arange(-24, 65, 8)  # degrees, tried beyond what lies between the neighbours
FINE = np.arange(-24, 65, 2)  # degrees, between them: what was tried is interpolated
FARTHEST, BEYOND = 85.0, 10.0  # degrees: a head turns further than the first rarely, by about the second
NORMALS, OUTLINE, PACE = 2.0, 1e-3, 6.0  # degrees, m, degrees a frame^2: what counts as one unit of cost
CAP = 0.01  # m, largest distance of two outlines that is told from any other
# Yaw by the depth that the detector gives its points, degrees (quality.head_turn), at the true ones, as measured. It
# tells far turns better than the points' places do, and saturates; ``OFF`` degrees beside it cost one unit, at most
# MOST, and beyond one that has come to SATURATED twice as many; a jerk costs at most JERK: heads do turn fast.
READ, TRUE = (0.0, 16.0, 29.5, 41.0, 50.0, 59.5, 66.0, 71.0), (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0)
OFF, MOST, JERK, SATURATED = 8.0, 4.0, 12.0, 50.0
SIDEWAYS = 0.8  # of a turn's axis, upright, from which on it is a yaw
LOST = 0.1  # confidence below which nothing was detected
COVERED = 0.05  # of the usual overlap that a head found again may lack
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


@dataclass
class Turns:
    """What is made of a clip's far turns. ``parameters``: with the frames set aside moved to where they are thought to
    be; ``share`` (T,) 0..1: weight of the frames' landmarks, 0 in those ``aside`` (T,) bool; ``found`` (T,) bool: of
    these, where the head then fits its silhouette."""

    parameters: HeadParameters
    share: Tensor
    aside: Tensor
    found: Tensor


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
) -> Turns:
    """Judge the frames of a landmark fit, and find the head again where its landmarks are not believed.

    points (T, 478, 3) px; confidence (T,) or (T, 478); ``maps`` give a frame's estimates at ``size`` px; where not
    ``move``, the parameters stay as they are.
    """
    near, nothing = judged(parameters), torch.zeros(len(points), dtype=torch.bool)
    if not near.any():
        return Turns(parameters, torch.ones(len(points)), nothing, nothing)
    sure = frame_confidence(confidence.cpu())
    residual = landmark_error(head, project_landmarks(head, parameters), points).cpu()
    front = ~near if int((~near).sum()) >= FEW else turn_of(parameters).cpu() < TURNED
    # Where all frames are turned, the usual one is a bad one.
    residual = residual / residual[front if front.any() else ~nothing].median().clamp_max(CALM)
    share, aside = shares(expected_error(residual, sure), near)
    chosen = (~aside).nonzero().squeeze(-1)
    if len(chosen) < FEW:
        return Turns(parameters, share, aside, nothing)
    search = Search(head, parameters, maps, margins.inside(size), yaw_read(points), sure)
    search.grow(chosen, max_growth, margins)
    overlap = search.overlap(parameters, range(len(points)))
    usual = overlap[front if front.any() else chosen].median(0).values
    share, aside = shares(expected_error(residual, sure, (overlap - usual)[:, 0]), near)
    believed = (~aside).nonzero().squeeze(-1)
    if aside.any() and move and len(believed) >= FEW:
        # Of a head that is turned too little, hair grows where there is none, and the search would follow it.
        plain = (share > HALF).nonzero().squeeze(-1)
        search.grow(plain if len(plain) >= FEW else believed, max_growth, margins)
        parameters = search.run(aside, share)
        overlap = search.overlap(parameters, range(len(points)))
        usual = overlap[front if front.any() else believed].median(0).values
    return Turns(parameters, share, aside, aside & ((overlap - usual)[:, 1] > -COVERED))


def yaw_read(points: Tensor) -> np.ndarray:
    """(T,) degrees to the subject's left: the yaw that the depth of points (T, 478, 3) px stands for."""
    read = head_turn(points.cpu().numpy())[:, 0]
    return np.sign(read) * np.interp(np.abs(read), READ, TRUE)


def shares(error: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Weight of the frames' landmarks by their error (T,), %, where it is judged (T,) bool; frames set aside."""
    aside = near & (error >= GUESS)
    share = torch.where(near, (GOOD / error.clamp_min(GOOD)).square(), torch.ones_like(error))
    return torch.where(aside, 0, share), aside


def some(parameters: HeadParameters, frames: Tensor) -> HeadParameters:
    """The parameters of some frames alone."""
    own = {name: getattr(parameters, name)[frames] for name in ("expression", "rotation", "place", "log_scale")}
    return HeadParameters(**(parameters.tensors() | own), size=parameters.size)


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
    ):
        """``inside`` (h, w) bool: the picture, without padding; ``yaw`` (T,) degrees, as the points' depth has it;
        ``sure`` (T,) confidence."""
        self.head, self.parameters, self.maps = head, parameters, maps
        self.grown = torch.zeros_like(head.coarse.template)  # m
        self.size, self.inside = len(inside), torch.from_numpy(inside).to(self.grown)
        self.yaw, self.sure = yaw, sure.numpy()

    def grow(self, frames: Tensor, max_growth: float, margins: Margins) -> None:
        """Give the head the hair that the masks of these ``frames`` show."""
        masks = Masks(self.maps, frames, self.size, margins)
        self.grown = grow(self.head, some(self.parameters, frames), masks, max_growth)[: len(self.grown)]

    def overlap(self, p: HeadParameters, frames: Iterable[int]) -> Tensor:
        """(B, 2) of the heads ``p`` with the masks of these frames: where they are, and where they suit best."""
        return torch.tensor([self.look(t, p.matrices(slice(t, t + 1)), p)[:2] for t in frames])

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
        costs = np.zeros((last - first + 1, len(EXTRA)))
        for k, t in enumerate(range(first, last + 1)):
            for i, extra in enumerate(EXTRA):
                *_, gap, degrees = self.look(t, turned(p.matrices(slice(t, t + 1)), axis, float(extra)), p)
                costs[k, i] = gap / OUTLINE + degrees / NORMALS
        costs -= costs.min(1, keepdims=True)
        tried = angle[first : last + 1, None] + EXTRA
        costs += (np.maximum(tried - FARTHEST, 0) / BEYOND) ** 2
        costs += share[first : last + 1, None] * (EXTRA / OFF) ** 2
        if abs(float(axis[1])) > SIDEWAYS:
            seen = self.sure[first : last + 1, None] > LOST
            read = np.sign(float(axis[1])) * self.yaw[first : last + 1, None]
            wide = np.where((read > SATURATED) & (tried > read), 2 * OFF, OFF)
            costs += seen * np.minimum(((tried - read) / wide) ** 2, MOST)
        extra = smoothest(costs, angle, first, last)
        for t, degrees in zip(range(first, last + 1), extra, strict=True):
            p.rotation[t] = matrix_to_sixd(turned(p.matrices(slice(t, t + 1)), axis, degrees)[0])[: p.rotation.shape[1]]

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

    def look(self, t: int, matrices: Tensor, p: HeadParameters) -> tuple[float, float, float, float]:
        """Of the head ``p`` of frame t with joints ``matrices`` (1, 10, 3, 3): overlap (intersection over union) with
        the mask above the neck; the same, the outlines' mean distance, m, and degrees to the normals (0: there are
        none), after the shift in the picture that suits the mask best."""
        head, place = self.head, p.translation(slice(t, t + 1))
        vertices = head.pose(head.coarse, p.shape, p.expression[t : t + 1], matrices, place, self.grown[None])
        camera = p.camera(self.size)
        drawn = render(vertices, head.faces, camera, cull=True)
        mask, normals, trust = self.maps(t)
        rows = int(camera.project(place)[0, 1].clamp(1, self.size))
        covered = (drawn.coverage[0] > 0.5).float()
        above = self.inside.clone()
        above[rows:] = 0
        own, theirs = (covered * above).cpu().numpy(), ((mask > 0.5) * above).cpu().numpy()
        here, overlap, shift = best_shift(own, theirs)
        metre = float(camera.focal / -place[0, 2])  # px at the neck
        gap = outline_gap(np.roll(own, shift, (0, 1)), theirs, above.cpu().numpy() > 0, CAP * metre) / metre
        if normals is None:
            return here, overlap, gap, 0.0
        back = (-shift[0], -shift[1])
        weight = (
            trust.roll(back, (0, 1)) * mask.roll(back, (0, 1)) * covered * above * (drawn.normals[0, ..., 2] > FACING)
        )
        cosine = (drawn.normals[0] * normals.roll(back, (0, 1))).sum(-1).clamp(-1, 1)
        total = float(weight.sum())
        degrees = float(torch.rad2deg((weight * cosine.acos()).sum())) / total if total > 1 else 0.0
        return here, overlap, gap, degrees


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
    reach = len(mask) // 16
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
