"""What a source of ``crop`` shows: its shots, the faces in them, which of these are one person's, which way up."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from expportrait.engine.stage import Clip
from expportrait.people.compare import LEAST, SAME, likeness_of
from expportrait.settings.config import Crop
from expportrait.video.reader import FolderReader, VideoReader
from expportrait.video.shots import ShotFinder
from expportrait.video.tracks import NEAR, Doubt, Track, away, by_prominence, link
from expportrait.video.turning import TURNS, Turned, turned, upright, wanted_turn

LOOK_AT = 640  # px, longer side of the frames in which faces are looked for; the models reduce them further
WAITING = 8  # frames read ahead
ASKED = 3  # looks on either side of a doubt


class Looked(NamedTuple):
    """What a source shows. ``faces``: of every so many frames (n,6), px of the source turned by ``turn``. ``tracks``:
    of each shot, the most prominent one first. ``third``, ``doubts``: what was asked beyond the usual, empty where
    nothing was."""

    times: np.ndarray  # s, of all frames
    shots: list[tuple[int, int]]
    faces: dict[int, np.ndarray]
    turn: int
    tracks: list[list[Track]]
    third: dict[str, Any]
    doubts: dict[str, Any]

    def which(self) -> str:
        """Of what a fault is told, as it stands behind the file's name."""
        told = [f"turned by {self.turn} degrees"] * bool(self.turn)
        told += [f"the longest of {len(self.shots)} shots"] * (len(self.shots) > 1)
        return f" ({', '.join(told)})" if told else ""

    def asked(self, track: Track) -> dict[str, Any]:
        """Attributes of a track's store: of the third detector, and of the track's own doubts."""
        own = [line for line in self.doubts.get("asked", ()) if {*line["frames"]} & {*track.frames}]
        return ({"third_detector": self.third} if self.third else {}) | (
            {"identity": self.doubts | {"asked": own}} if own else {}
        )


def look(clip: Clip, source: VideoReader | FolderReader) -> Looked:
    """What the source shows, in as many passes over it as that takes."""
    collected = _Look(clip, source)
    for _ in clip.progress(clip.computed(collected.passes()), desc="looking for faces"):
        pass
    return collected.looked()


@dataclass(eq=False)
class _Meeting:
    """Two tracks, of which the ``second`` one may go on where the ``first`` one ended; and rows of faces, (128,): of
    the last looks ``before``, of each frame ``between``, of the first looks ``after``."""

    first: Track
    second: Track
    before: list[np.ndarray] = field(default_factory=list)
    between: list[np.ndarray] = field(default_factory=list)
    after: list[np.ndarray] = field(default_factory=list)

    def asked(self) -> Iterator[tuple[list[np.ndarray], list[int], np.ndarray]]:
        """Where a row goes, and frames and boxes of which rows are wanted."""
        a, b = self.first, self.second
        between = [*range(a.frames[-1] + 1, b.frames[0])]
        yield self.before, a.frames[-ASKED:], a.boxes[-ASKED:]
        yield self.between, between, a.way_to(b, between)
        yield self.after, b.frames[:ASKED], b.boxes[:ASKED]

    @cached_property
    def likeness(self) -> float | None:
        """Of both sides, as ``likeness_of``."""
        return likeness_of(np.array(self.before), np.array(self.after))

    @property
    def one_person(self) -> bool:
        """Whether both sides, and the face in every frame between, are the same person's."""
        known = np.array([*self.before, *self.after])
        between = (likeness_of(row[None], known) or 0 for row in self.between)
        return (self.likeness or 0) >= SAME and all(like >= LEAST for like in between)


class _Look:
    """Passes over a source that collect what ``Looked`` has; each yields once a frame."""

    def __init__(self, clip: Clip, source: VideoReader | FolderReader):
        self.clip, self.source, self.options = clip, source, clip.settings.crop
        self.times: list[float] = []
        self.shots: list[tuple[int, int]] = []
        self.faces: dict[int, np.ndarray] = {}
        self.turn = 0
        self.tracks: list[list[Track]] = []
        self.third: dict[str, Any] = {}
        self.doubts: dict[str, Any] = {}
        self.asked: list[Track] = []  # tracks whose doubts are settled

    def looked(self) -> Looked:
        """What the passes have found."""
        times = np.array(self.times)
        return Looked(times, self.shots, self.faces, self.turn, self._wanted(), self.third, self.doubts)

    def passes(self) -> Iterator[None]:
        """All that are needed: mostly the first one alone, two where faces are not surely upright."""
        yield from self._first()
        first = self._leading()[:1]
        if not (first and self._usable(first[0]) and upright(first[0])):
            yield from self._turned()
        if not any(map(self._usable, self._leading())):
            yield from self._missed()
        if meetings := self._meetings():
            yield from self._met(meetings)
        while doubtful := [track for track in self._leading() if self._usable(track) and track not in self.asked
                           and track.doubts(self.faces)]:  # fmt: skip
            yield from self._doubted(doubtful)

    def _link(self) -> None:
        faces, box = self.faces, self.clip.row.box
        if box:
            source = Turned(self.source, self.turn)
            faces = {t: found[_inside(found, source.place(box, t))] for t, found in faces.items()}
        self.tracks = [link(shot, faces) for shot in self.shots]

    def _leading(self) -> list[Track]:
        return leading(self._wanted(), len(self.times), self.options)

    def _wanted(self) -> list[list[Track]]:
        """The tracks, or where the row names a face, the one of that face alone."""
        place = self.clip.row.face
        if place is None or not self.times:
            return self.tracks
        found = at_the_start(self.tracks, Turned(self.source, self.turn).place(place, 0))
        return [[track for track in of_shot if track is found] for of_shot in self.tracks]

    def _usable(self, track: Track) -> bool:
        return not fault(track, len(self.times), self.options)

    def _found(self, number: int, frame: np.ndarray) -> np.ndarray:
        return self._in_source(number, frame, self.clip.tools.detector.faces(frame))

    def _in_source(self, number: int, frame: np.ndarray, faces: np.ndarray) -> np.ndarray:
        faces[:, :4] *= max(self.source.size(number)) / max(frame.shape[:2])
        return faces

    def _first(self) -> Iterator[None]:
        """Times, shots, and the faces of every so many frames."""
        finder = ShotFinder(self.options.cut)

        def read() -> Iterator[tuple[float, np.ndarray]]:
            for time, frame in self.source.frames(LOOK_AT):
                finder.add(frame)
                yield time, frame

        for number, (time, frame) in enumerate(self.clip.ahead(read(), WAITING)):
            if number % self.options.detect_every == 0:
                self.faces[number] = self._found(number, frame)
            self.times.append(time)
            yield
        self.shots = finder.shots(np.array(self.times))
        self._link()

    def _turned(self) -> Iterator[None]:
        """The same faces in turned frames as well; of the turn at which they are upright, they are kept."""
        looks: list[dict[int, np.ndarray]] = []
        for number, (_, frame) in enumerate(self.clip.ahead(self.source.frames(LOOK_AT), WAITING)):
            if number in self.faces:
                looks.append({turn: self._found(number, turned(frame, turn)) if turn else self.faces[number]
                              for turn in TURNS})  # fmt: skip
            yield
        self.turn = wanted_turn(looks)
        if self.turn:
            self.faces = {number: look[self.turn] for number, look in zip(self.faces, looks, strict=True)}
            self._link()

    def _missed(self) -> Iterator[None]:
        """A third detector's faces, where the first two have found none."""
        before = dict(self.faces)
        for number, (_, frame) in enumerate(self.clip.ahead(self.source.frames(LOOK_AT), WAITING)):
            if number in before and not len(before[number]):
                frame = turned(frame, self.turn)
                found = self.clip.tools.detector.agreed(frame, self.clip.tools.third.detect(frame)[:, :9])
                self.faces[number] = self._in_source(number, frame, found)
            yield
        new = sum(len(found) > len(before[number]) for number, found in self.faces.items())
        if new:
            self.third = self.clip.tools.third.about() | {"looks": new}
            self._link()

    def _meetings(self) -> list[_Meeting]:
        every, least = self.options.detect_every, self.options.min_face
        return [
            _Meeting(a, b) for of_shot in self.tracks for a in of_shot for b in of_shot
            if min(len(a.frames), len(b.frames)) > 1 and min(a.size, b.size) >= least and a.may_go_on_as(b, every)
        ]  # fmt: skip

    def _met(self, meetings: list[_Meeting]) -> Iterator[None]:
        """Which of these pairs are one person's, seen in each frame between too; they are joined, the surest first."""
        wanted: dict[int, list[tuple[list[np.ndarray], np.ndarray]]] = {}
        for meeting in meetings:
            for rows, frames, boxes in meeting.asked():
                for t, box in zip(frames, boxes, strict=True):
                    wanted.setdefault(t, []).append((rows, box))
        for t, frame in self._frames(wanted):
            for rows, box in wanted.get(t, ()):
                rows.append(self._recognised(frame, box))
            yield
        for meeting in meetings:
            self._note([meeting.first.frames[-1], meeting.second.frames[0]], meeting.likeness)
        left = sorted((meeting for meeting in meetings if meeting.one_person), key=lambda one: -one.likeness)
        while left:
            a, b = left[0].first, left[0].second
            whole = a.joined(b, self.faces)
            of_shot = next(tracks for tracks in self.tracks if a in tracks)
            of_shot[:] = by_prominence([*(one for one in of_shot if one not in (a, b)), whole])
            left = [meeting for meeting in left[1:] if meeting.first is not a and meeting.second is not b]
            for meeting in left:
                meeting.first = whole if meeting.first is b else meeting.first
                meeting.second = whole if meeting.second is a else meeting.second

    def _frames(self, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Whole frames by their number, up to the last one wanted."""
        source = Turned(self.source, self.turn)
        for number, (_, frame) in enumerate(self.clip.ahead(islice(source.frames(), max(wanted) + 1), WAITING)):
            yield number, frame

    def _doubted(self, tracks: list[Track]) -> Iterator[None]:
        """Whether these tracks are one person's on both sides of each doubt; where they are not, they are divided."""
        doubts = {track: track.doubts(self.faces) for track in tracks}
        wanted: dict[int, dict[Track, np.ndarray]] = {}
        for track in tracks:
            for side in _sides(track, doubts[track]):
                for k in side:
                    wanted.setdefault(track.frames[k], {})[track] = track.boxes[k]
        rows: dict[tuple[Track, int], np.ndarray] = {}
        for number, frame in self._frames(wanted):
            for track, face in wanted.get(number, {}).items():
                rows[track, number] = self._recognised(frame, face)
            yield
        for track in tracks:
            sides = [np.array([rows[track, track.frames[k]] for k in side]) for side in _sides(track, doubts[track])]
            apart = []
            for doubt, before, after in zip(doubts[track], sides[::2], sides[1::2], strict=True):
                likeness = likeness_of(before, after)
                self._note([track.frames[doubt.before], track.frames[doubt.after]], likeness)
                if likeness is not None and likeness < LEAST:
                    apart.append(doubt)
            parts = track.divided(apart, self.faces) if apart else [track]
            self.asked += parts
            of_shot = next(tracks for tracks in self.tracks if track in tracks)
            of_shot[:] = by_prominence([*(one for one in of_shot if one is not track), *parts])

    def _recognised(self, frame: np.ndarray, face: np.ndarray) -> np.ndarray:
        """The row (128,) of a face (4,) px of a whole frame, NaN where it is not found again."""
        from expportrait.estimators.recognition import around  # loads torch

        picture, place = around(frame, face)
        return self.clip.tools.recogniser.embed([picture], place[None])[0]

    def _note(self, frames: list[int], likeness: float | None) -> None:
        self.doubts = self.doubts or self.clip.tools.recogniser.about() | {
            "asked": [], "unit": "cosine, 1 is equal", "least": LEAST,
            "reduction": f"mean between {ASKED} looks before and {ASKED} after a doubt of the tracking"}  # fmt: skip
        self.doubts["asked"].append({"frames": frames, "likeness": likeness})


def _sides(track: Track, doubts: list[Doubt]) -> list[range]:
    """The looks before and after each doubt, in turn, as places in the track's frames; none beyond another doubt."""
    ends = [Doubt(-1, 0), *doubts, Doubt(len(track.frames) - 1, len(track.frames))]
    sides = []
    for last, doubt, following in zip(ends, doubts, ends[2:], strict=False):
        sides.append(range(max(last.after, doubt.before - ASKED + 1), doubt.before + 1))
        sides.append(range(doubt.after, min(following.before, doubt.after + ASKED - 1) + 1))
    return sides


def at_the_start(tracks: list[list[Track]], place: tuple[float, float, float, float]) -> Track | None:
    """Of the tracks of all shots the one that first is where a row has its face, x0 y0 x1 y1 px; None where none is."""
    near = [(track.frames[0], apart, n, track) for n, track in enumerate(chain(*tracks))
            if (apart := away(track.boxes[0], np.array(place))) < NEAR]  # fmt: skip
    return min(near)[-1] if near else None


def leading(tracks: list[list[Track]], count: int, options: Crop) -> list[Track]:
    """Of each shot the most prominent face of the usable ones, if there is one, else of all; usable ones first, then
    longest first. ``count``: frames of the source."""

    def useless(track: Track) -> bool:
        return bool(fault(track, count, options))

    found = [min(of_shot, key=useless) for of_shot in tracks if of_shot]
    return sorted(found, key=lambda track: (useless(track), track.start - track.end))


def fault(track: Track, count: int, options: Crop) -> str:
    """Why the face cannot be used, with value and threshold; empty where it can."""
    if track.size < options.min_face:
        return f"the face is too small, {track.size:.0f} px (crop.min_face: {options.min_face:g})"
    if track.coverage < options.min_coverage:
        return (f"the face is found in only {track.coverage:.0%} of the frames looked at "
                f"(crop.min_coverage: {options.min_coverage:.0%})")  # fmt: skip
    frames = track.end - track.start
    if frames < options.min_frames and count > 1:
        return f"the face is there for only {frames} frames (crop.min_frames: {options.min_frames})"
    return ""


def _inside(faces: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Which of the faces (n,5) have their centre inside the box."""
    centre = (faces[:, :2] + faces[:, 2:4]) / 2
    return ((centre >= box[:2]) & (centre <= box[2:])).all(1)
