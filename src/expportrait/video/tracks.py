"""Which of the faces found in a shot are one person's."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

GROWTH = 1.6  # factor on a face's side from one look to the next, at most
DOUBT = 0.35  # of the side: where another continuation is farther off by less than this, either may be true
NEAR = 0.5  # of the side: two faces that came closer than this between two looks hid each other
LEAP = 5  # sides between two looks, or three where it is hidden in the second one: faster than anybody goes
JUMP = 0.5  # sides from one look to the next, more than which real faces hardly ever move: 0.4 was seen
GROWN = 1.3  # factor on the side; 1.1 was seen
PATIENCE = 5  # looks for which a face that is not found is expected to go on as it moved


class Doubt(NamedTuple):
    """Between two looks of a track, the person may have changed. ``before``, ``after``: places in ``Track.frames``."""

    before: int
    after: int


@dataclass(eq=False)
class Track:
    """One face through a shot. ``frames`` were looked at and have it; ``faces``: what was found there, rows that begin
    with the box x0 y0 x1 y1 px."""

    start: int
    end: int  # first and last frame + 1 in which it is taken to be there
    frames: list[int] = field(default_factory=list)
    faces: list[np.ndarray] = field(default_factory=list)
    looked: int = 0  # how many frames between start and end were looked at

    @property
    def boxes(self) -> np.ndarray:
        """(n,4) px."""
        return np.array(self.faces, np.float64)[:, :4]

    @property
    def size(self) -> float:
        """Median of the larger side of its boxes, px."""
        return float(np.median(_side(self.boxes)))

    @property
    def coverage(self) -> float:
        """In how many of the frames looked at it was found, 0..1."""
        return len(self.frames) / self.looked

    def doubts(self, faces: dict[int, np.ndarray]) -> list[Doubt]:
        """Where the person may have changed though nobody else was near: the face was not found for a look or more,
        jumped, or changed its size; or its box and another one's overlapped for some looks. In order, none of them
        within another. ``faces``: all that were found, (n,4+) by frame."""
        looked = [t for t in sorted(faces) if self.frames[0] <= t <= self.frames[-1]]
        place, own = {t: n for n, t in enumerate(looked)}, self.boxes
        alone = [k for k, t in enumerate(self.frames) if not _overlapped(own[k], faces[t])]
        found = [Doubt(a, b) for a, b in pairwise(alone) if b > a + 1]
        for k in range(1, len(own)):
            sides = _side(own[k - 1 : k + 1])
            step = np.linalg.norm(_centre(own[k]) - _centre(own[k - 1]))
            missed = place[self.frames[k]] > place[self.frames[k - 1]] + 1
            if missed or step > JUMP * sides.max() or sides.max() > GROWN * sides.min():
                found.append(Doubt(k - 1, k))
        apart: list[Doubt] = []
        for doubt in sorted(found):
            if apart and doubt.before < apart[-1].after:
                doubt = Doubt(apart[-1].before, max(apart.pop().after, doubt.after))
            apart.append(doubt)
        return apart

    def joined(self, later: "Track", faces: dict[int, np.ndarray]) -> "Track":
        """The same person's track through the meeting that ended this one, and after which ``later`` began."""
        between = [t for t in sorted(faces) if self.frames[-1] < t < later.frames[0]]
        frames, rows = [*self.frames], [*self.faces]
        for t, box in zip(between, self.way_to(later, between), strict=True):
            far = np.linalg.norm(_centre(faces[t]) - _centre(box), axis=1) / _side(box)
            if len(far) and far.min() < NEAR:
                frames.append(t)
                rows.append(faces[t][far.argmin()])
        whole = Track(self.start, later.end, frames + later.frames, rows + later.faces)
        whole.looked = self.looked + len(between) + later.looked
        return whole

    def way_to(self, later: "Track", frames: list[int]) -> np.ndarray:
        """Boxes (n,4) px in ``frames``, straight from this track's last one to the first one of ``later``."""
        ends = [self.frames[-1], later.frames[0]]
        boxes = np.stack([self.boxes[-1], later.boxes[0]])
        return np.stack([np.interp(frames, ends, side) for side in boxes.T], 1)

    def may_go_on_as(self, later: "Track", every: int) -> bool:
        """Whether ``later`` begins soon after this one ends, near by and of a like size: such are two because somebody
        came between. ``every``: frames from look to look."""
        looks = (later.frames[0] - self.frames[-1]) / every
        sides = _side(np.stack([self.boxes[-1], later.boxes[0]]))
        far = np.linalg.norm(_centre(later.boxes[0]) - _centre(self.boxes[-1])) / sides.max()
        return 0 < looks <= PATIENCE and far < 1 and sides.max() <= GROWTH * sides.min()

    def divided(self, doubts: list[Doubt], faces: dict[int, np.ndarray]) -> list["Track"]:
        """Its parts before, between and after these doubts."""
        looked = sorted(faces)
        cuts = [Doubt(-1, 0), *doubts, Doubt(len(self.frames) - 1, len(self.frames))]
        parts = []
        for last, following in pairwise(cuts):
            kept = slice(last.after, following.before + 1)
            part = Track(self.frames[kept][0], self.frames[kept][-1] + 1, self.frames[kept], self.faces[kept])
            part.looked = sum(part.start <= t < part.end for t in looked)
            parts.append(part)
        parts[0].start, parts[-1].end = self.start, self.end
        return parts


class _Way:
    """A person's way through the shot. Its ``track`` is ended, and the next face begins another one, wherever the way
    may have gone over to somebody else."""

    def __init__(self) -> None:
        self.frame, self.box, self.velocity = 0, np.zeros(4), np.zeros(2)  # where last found; px a frame
        self.missed = 0  # looks since then
        self.shared = False  # when last found, it and another one had a single face
        self.track: Track | None = None

    def expected(self, frame: int) -> np.ndarray:
        """Its centre in a frame, if it went on as it moved; it stops where it has not been found for too long."""
        moved = self.velocity * (frame - self.frame) if self.missed < PATIENCE else 0
        return _centre(self.box) + moved

    def end(self, since: int) -> None:
        """From the frame ``since`` on, its faces may be another's."""
        track, self.track = self.track, None
        while track and track.frames and track.frames[-1] >= since:
            track.frames.pop(), track.faces.pop()

    def follow(self, face: np.ndarray, frame: int) -> None:
        """The way's face in a frame. What moved from one person to another has no velocity."""
        box = face[:4].astype(np.float64)
        self.velocity = (_centre(box) - _centre(self.box)) / (frame - self.frame) if self.track else np.zeros(2)
        self.frame, self.box, self.missed = frame, box, 0
        if self.track is None:
            self.track = Track(frame, frame)
        self.track.frames.append(frame)
        self.track.faces.append(face)


def link(shot: tuple[int, int], faces: dict[int, np.ndarray]) -> list[Track]:
    """Tracks of one shot, from the faces (n,4+) x0 y0 x1 y1 px of the frames looked at; the most prominent one first.

    All faces of a look are given to all ways at once, so that they lie least far from where each was expected: at
    most a side away, and at most 1.6 times as large or small. Where two people meet and either could be the one that
    goes on, the tracks of both are ended, so that none has faces of two. Most prominent: number of frames times side.
    """
    looked = sorted(t for t in faces if shot[0] <= t < shot[1])
    ways: list[_Way] = []
    tracks: list[Track] = []
    for before, t in zip([shot[0], *looked], looked, strict=False):
        misfits = _misfits(ways, faces[t], t)
        found = _assigned(ways, misfits)
        for i in _either(ways, misfits, found) | _met(ways, faces[t], found, before, t):
            ways[i].end(t)
        for i, since in _passed(ways, faces[t], found).items():
            ways[i].end(since + 1)
        for way in ways:
            way.missed += 1
        new = [_Way() for _ in range(len(faces[t]) - len(found))]
        free = [face for face in range(len(faces[t])) if face not in found.values()]
        for way, face in [*((ways[i], face) for i, face in found.items()), *zip(new, free, strict=True)]:
            way.follow(faces[t][face], t)
            if len(way.track.frames) == 1:
                tracks.append(way.track)
        ways += new
    return _spanned([track for track in tracks if track.frames], shot, looked)


def away(a: np.ndarray, b: np.ndarray) -> float:
    """How far two boxes (4+,) lie apart, by the larger one's side; infinite where their sizes are not two looks' at one
    face."""
    sides = _side(np.stack([a[:4], b[:4]]))
    apart = float(np.linalg.norm(_centre(a) - _centre(b)) / sides.max())
    return apart if sides.max() <= GROWTH * sides.min() else float("inf")


def by_prominence(tracks: list[Track]) -> list[Track]:
    """The most prominent one first, by number of frames times side."""
    return sorted(tracks, key=lambda track: -len(track.frames) * track.size)


def _centre(boxes: np.ndarray) -> np.ndarray:
    """(...,4+) -> (...,2)"""
    return (boxes[..., :2] + boxes[..., 2:4]) / 2


def _side(boxes: np.ndarray) -> np.ndarray:
    """(...,4+) -> the larger one, (...)"""
    return (boxes[..., 2:4] - boxes[..., :2]).max(-1)


def _misfits(ways: list[_Way], faces: np.ndarray, frame: int) -> np.ndarray:
    """(ways, faces): how far a face lies from where a way would go on, or stand still, in the larger side of the two
    boxes; infinite where the sizes differ too much."""
    if not ways:
        return np.empty((0, len(faces)))
    boxes = np.array([way.box for way in ways])
    places = np.stack([[way.expected(frame) for way in ways], _centre(boxes)])
    gaps = np.linalg.norm(places[:, :, None] - _centre(faces), axis=-1).min(0)
    sides = _side(boxes)[:, None], _side(faces)[None]
    larger, smaller = np.maximum(*sides), np.minimum(*sides)
    return np.where(larger <= GROWTH * smaller, gaps / np.maximum(larger, 1e-9), np.inf)


def _assigned(ways: list[_Way], misfits: np.ndarray) -> dict[int, int]:
    """Way -> face. Those that were lost long ago may have what nobody else goes on with."""
    found: dict[int, int] = {}
    recent = np.array([way.missed < PATIENCE for way in ways], bool)
    for group in (recent, ~recent):
        rows = np.flatnonzero(group)
        columns = np.setdiff1d(np.arange(misfits.shape[1]), list(found.values()))
        costs = misfits[np.ix_(rows, columns)]
        costs = np.where(costs < 1, costs, 2)
        # a face that nobody goes on with costs as much as one a side away
        costs = np.vstack([costs, np.ones((len(columns), len(columns)))])
        for row, column in zip(*linear_sum_assignment(costs), strict=True):
            if row < len(rows):
                found[int(rows[row])] = int(columns[column])
    return found


def _either(ways: list[_Way], misfits: np.ndarray, found: dict[int, int]) -> set[int]:
    """The ways that may have gone on otherwise than ``found`` says."""
    doubtful = {i for i in found if ways[i].shared}
    free = np.isin(np.arange(misfits.shape[1]), list(found.values()), invert=True)
    for way in ways:
        way.shared = False
    for i, face in found.items():
        better = misfits[:, face] - misfits[i, face]
        if (misfits[i, free] - misfits[i, face] < DOUBT).any():
            doubtful.add(i)
        for j in range(len(ways)):
            if j == i or ways[j].missed >= PATIENCE:
                continue
            if j in found:
                if better[j] + misfits[i, found[j]] - misfits[j, found[j]] < 2 * DOUBT:
                    doubtful |= {i, j}
            elif misfits[j, face] < 1:
                doubtful.add(j)  # hidden there, so that whoever comes forth may be the other one
                if better[j] < DOUBT:
                    doubtful.add(i)
                    ways[i].shared = True
    return doubtful


def _met(ways: list[_Way], faces: np.ndarray, found: dict[int, int], before: int, now: int) -> set[int]:
    """The ways that led past each other between two looks, as near as one hides the other."""
    recent = [i for i, way in enumerate(ways) if way.missed < PATIENCE]
    first = {i: ways[i].expected(before) for i in recent}
    then = {i: _centre(faces[found[i]]) if i in found else ways[i].expected(now) for i in recent}
    met = set()
    for i in recent:
        for j in recent:
            sides = _side(ways[i].box), _side(ways[j].box)
            if j <= i or max(sides) > GROWTH * min(sides):
                continue
            a, b = first[i] - first[j], then[i] - then[j]
            if a @ b < 0 and _nearest(a, b) < NEAR * max(sides):
                met |= {i, j}
    return met


def _passed(ways: list[_Way], faces: np.ndarray, found: dict[int, int]) -> dict[int, int]:
    """The ways that somebody came past, too fast to be followed: lost on one side, in the frame that is given, and new
    on the other one."""
    new = [face for face in range(len(faces)) if face not in found.values()]
    lost = [way for j, way in enumerate(ways) if j not in found and way.missed < 2]
    passed: dict[int, int] = {}
    for i, face in found.items():
        own = faces[face]
        for way in lost:
            for other in faces[new]:
                a, b = _centre(way.box) - _centre(own), _centre(other) - _centre(own)
                sides = _side(np.stack([own[:4], way.box, other[:4]]))
                near = np.linalg.norm(b - a) < LEAP * sides.max() and _nearest(a, b) < NEAR * sides.max()
                if a @ b < 0 and near and sides.max() <= GROWTH * sides.min():
                    passed[i] = min(way.frame, passed.get(i, way.frame))
    return passed


def _overlapped(box: np.ndarray, faces: np.ndarray) -> bool:
    """Whether a face other than that of the box (4,) px lies over it."""
    others = faces[~np.isclose(faces[:, :4], box).all(1)]
    return bool((np.minimum(box[2:], others[:, 2:4]) > np.maximum(box[:2], others[:, :2])).all(1).any())


def _nearest(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of the straight line from a to b to the origin."""
    way = b - a
    share = np.clip(-(a @ way) / (way @ way), 0, 1)
    return float(np.linalg.norm(a + share * way))


def _spanned(tracks: list[Track], shot: tuple[int, int], looked: list[int]) -> list[Track]:
    place = {t: n for n, t in enumerate(looked)}
    for track in tracks:
        first, last = place[track.frames[0]], place[track.frames[-1]]
        track.looked = last - first + 1
        track.start = shot[0] if first == 0 else track.frames[0]
        track.end = shot[1] if last == len(looked) - 1 else track.frames[-1] + 1
    return by_prominence(tracks)
