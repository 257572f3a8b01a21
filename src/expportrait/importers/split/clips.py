"""From a section of a video to clips of one person each, and to what is left out and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from expportrait.estimators.recognition import WIDTH
from expportrait.importers.split.runs import parts, pieces, ranges, runs
from expportrait.importers.split.watch import OUTSIDE, Sample, Section
from expportrait.people.compare import LEAST, likeness_of
from expportrait.settings.config import Config
from expportrait.video.shots import GAP, gaps
from expportrait.video.tracks import Doubt, Track, away, link
from expportrait.video.turning import ROLL

BLACK = 16.0  # mean of 255, below which a picture shows nothing
SHRINKS = 0.8  # of the smallest face: down to this at times, where the clip's median is large enough
ASKED = 3  # faces on either side of a place where the person may have changed, and of a clip

NO_FACE, BLACK_PICTURE, BLEND = "no face", "a black picture", "a dissolve or fade"
SMALL, ROLLED, LOST = "the face is too small", "the face is rolled too far", "the face is not found"
CUT_OFF = "the face is cut off by the picture's edge"
SHORT, RARELY, CHANGED = "the face is there too briefly", "the face is found too rarely", "another person takes over"
BLURRED, DARK, BRIGHT = "the face is blurred", "the face is too dark", "the face is too bright"
UNSURE = "what the detectors take for a face is not recognised as one"
NO_PICTURES = "a gap in the times"
ALONE = {NO_FACE, BLACK_PICTURE, BLEND, NO_PICTURES}  # reasons that are nobody's


@dataclass
class Clip:
    """Frames of one person. Times in s; ``face`` x0 y0 x1 y1 px where it is first seen; ``row``: (128,), the mean of
    its faces' rows, of length 1, None where none is recognised; ``likeness``: ``_least`` of these."""

    start: float
    end: float
    frames: int
    face: list[float]
    face_size: float
    coverage: float
    roll: float
    sharpness: float | None
    brightness: float | None
    likeness: float | None
    row: np.ndarray | None


@dataclass
class Left:
    """From ``start`` to ``end``, s, ``count`` faces, or none, make no clip; ``size``: px, of the largest of them."""

    start: float
    end: float
    reason: str
    count: int = 0
    size: float = 0.0


Embed = Callable[[Sequence[np.ndarray]], np.ndarray]  # faces (n,112,112,3) u8 -> unit rows (n,128)


def clips_of(section: Section, config: Config, embed: Embed) -> tuple[list[Clip], list[Left]]:
    """Clips in the order of their starts, from left to right; together with what is left out they cover all frames."""
    cuts = [*section.cuts, *(section.first + n for n in gaps(section.times[:-1]))]
    shots, blends = pieces(section.first, section.end, cuts, section.blends)
    clips: list[Clip] = []
    left = [Left(section.time(a), _until(section, b), BLEND) for a, b in blends]
    left += [Left(_until(section, b), section.time(b), NO_PICTURES) for _, b in shots
             if _until(section, b) < section.time(b)]  # fmt: skip
    for shot in shots:
        judge = _Shot(section, shot, config, embed)
        judge.look()
        clips += judge.clips
        left += judge.left
    return sorted(clips, key=lambda clip: (clip.start, clip.face)), left


def _until(section: Section, end: int) -> float:
    """When the frames before ``end`` end, s: before a gap in the times, one usual step after the last one."""
    last, ends = section.time(end - 1), section.time(end)
    if ends - last <= GAP:
        return ends
    return last + float(np.median(np.diff(section.times)))


class _Shot:
    """The people of one shot. ``look`` fills ``clips`` and ``left``."""

    def __init__(self, section: Section, shot: tuple[int, int], config: Config, embed: Embed) -> None:
        self._section, self._shot, self._embed = section, shot, embed
        self._options, self._crop, self._most_outside = config.split, config.crop, config.landmarks.max_outside
        self._looked = [t for t in sorted(section.faces) if shot[0] <= t < shot[1]]
        self._rows: dict[int, np.ndarray] = {}  # of samples, by their id
        self.clips: list[Clip] = []
        self.left: list[Left] = []
        self._kept: list[tuple[int, int]] = []

    def look(self) -> None:
        """All tracks; then what no track covers."""
        first, end = self._shot
        tracks: list[Track] = []
        found: list[tuple[int, int, str, float]] = []
        for track in link(self._shot, self._section.faces):
            of_one = self._one_person(track)
            found += [(a.end, b.start, CHANGED, track.size) for a, b in pairwise(of_one) if a.end < b.start]
            tracks += of_one
        for track in sorted(tracks, key=lambda track: (track.start, track.faces[0].tolist())):
            found += self._judged(track)
        covered = np.zeros(end - first, bool)
        for a, b in [*self._kept, *((a, b) for a, b, _, _ in found)]:
            covered[a - first : b - first] = True
        self._note(found)
        light = [self._section.light.get(t) for t in self._looked]
        known = [(t, value) for t, value in zip(self._looked, light, strict=True) if value is not None]
        for a, b, free in ranges((~covered).tolist(), first):
            near = min((abs(t - (a + b) / 2), value) for t, value in known)[1] if known else BLACK
            if free:
                self.left.append(Left(self._time(a), self._until(b), BLACK_PICTURE if near < BLACK else NO_FACE))

    def _note(self, found: list[tuple[int, int, str, float]]) -> None:
        """What faces left out have in common is one line: the same reason, at times that overlap."""
        for reason, same in groupby(sorted(found, key=lambda one: (one[2], one[0])), key=lambda one: one[2]):
            lines: list[tuple[int, int, int, float]] = []
            for a, b, _, size in same:
                if lines and a < lines[-1][1]:
                    before = lines.pop()
                    lines.append((before[0], max(b, before[1]), before[2] + 1, max(size, before[3])))
                else:
                    lines.append((a, b, 1, size))
            self.left += [Left(self._time(a), self._until(b), reason, n, size) for a, b, n, size in lines]

    def _time(self, frame: int) -> float:
        return self._section.time(frame)

    def _until(self, frame: int) -> float:
        return _until(self._section, frame)

    def _seconds(self, first: int, end: int) -> float:
        return self._until(end) - self._time(first)

    # whose face it is

    def _one_person(self, track: Track) -> list[Track]:
        """The track, divided where the person changes: at its doubts, and wherever its faces are not alike."""
        if track.size < self._options.min_face or self._seconds(track.start, track.end) < self._options.min_seconds:
            return [track]
        samples = self._samples(track)
        doubts = [doubt for doubt in track.doubts(self._section.faces) if self._differ(track, samples, doubt)]
        if not doubts:
            rows = self._embedded([sample for _, sample in _spread(samples)])
            if (least := _least(rows)) is not None and least < LEAST:
                doubts = self._changes(track, samples)
        return track.divided(doubts, self._section.faces) if doubts else [track]

    def _samples(self, track: Track) -> list[tuple[int, Sample]]:
        """The track's faces that can be recognised: place in its frames, and sample."""
        return [(k, sample) for k, t in enumerate(track.frames) for sample in self._section.samples.get(t, ())
                if sample.aligned is not None and away(sample.box, track.boxes[k]) < 0.1]  # fmt: skip

    def _differ(self, track: Track, samples: list[tuple[int, Sample]], doubt: Doubt) -> bool:
        before = [sample for k, sample in samples if k <= doubt.before][-ASKED:]
        after = [sample for k, sample in samples if k >= doubt.after][:ASKED]
        likeness = likeness_of(self._embedded(before), self._embedded(after))
        return likeness is not None and likeness < LEAST

    def _changes(self, track: Track, samples: list[tuple[int, Sample]]) -> list[Doubt]:
        """Between which of its samples another person takes over."""
        rows = self._embedded([sample for _, sample in samples])
        found: list[tuple[float, int]] = []  # the least like of neighbouring places
        for n in range(1, len(rows)):
            likeness = likeness_of(rows[max(0, n - ASKED) : n], rows[n : n + ASKED])
            if likeness is not None and likeness < LEAST:
                if found and n - found[-1][1] < ASKED:
                    found[-1] = min(found[-1], (likeness, n))
                else:
                    found.append((likeness, n))
        return [Doubt(samples[n - 1][0], samples[n][0]) for _, n in found]

    def _embedded(self, samples: list[Sample]) -> np.ndarray:
        new = [sample for sample in samples if id(sample) not in self._rows]
        self._rows |= zip(map(id, new), self._embed([sample.aligned for sample in new]), strict=True)
        return np.array([self._rows[id(sample)] for sample in samples]) if samples else np.empty((0, WIDTH))

    # which of its frames are usable

    def _judged(self, track: Track) -> list[tuple[int, int, str, float]]:
        """Adds the track's clips; returns where else it is, with reasons and the face's size."""
        looked = [t for t in self._looked if track.start <= t < track.end]
        own = dict(zip(track.frames, track.faces, strict=True))
        why = [self._why(own.get(t)) for t in looked]
        times = [self._time(t) for t in looked]
        reasons = self._by_frame(track, looked, why)
        for a, b in runs([not reason for reason in why], times, self._options.max_gap):
            first = track.start if a == 0 else looked[a]
            end = track.end if b == len(looked) else looked[b - 1] + 1
            for start, stop in self._parts(first, end):
                reason = self._clip(track, start, stop)
                reasons[start - track.start : stop - track.start] = [reason] * (stop - start)
        return [(a, b, reason, track.size) for a, b, reason in ranges(reasons, track.start) if reason]

    def _by_frame(self, track: Track, looked: list[int], why: list[str]) -> list[str]:
        """Of each of the track's frames the reason of the look nearest to it."""
        frames = np.arange(track.start, track.end)
        nearest = np.abs(frames[:, None] - np.array(looked)[None]).argmin(1)
        return [why[n] or LOST for n in nearest]

    def _why(self, face: np.ndarray | None) -> str:
        """Why a look at the track is not usable; empty where it is."""
        if face is None:
            return LOST
        if (face[2:4] - face[:2]).max() < SHRINKS * self._options.min_face:
            return SMALL
        if face[OUTSIDE] > self._most_outside:
            return CUT_OFF
        return ROLLED if abs(face[ROLL]) > self._options.max_roll else ""

    def _parts(self, first: int, end: int) -> list[tuple[int, int]]:
        offset = self._section.first
        found = parts(first - offset, end - offset, self._section.times, self._options.max_seconds)
        return [(a + offset, b + offset) for a, b in found]

    def _clip(self, track: Track, first: int, end: int) -> str:
        """Adds the clip of these frames of a track, or says why there is none."""
        options, crop = self._options, self._crop
        seconds = self._seconds(first, end)
        at = [k for k, t in enumerate(track.frames) if first <= t < end]
        if seconds < options.min_seconds - 1e-6 or end - first < crop.min_frames or not at:
            return SHORT
        coverage = len(at) / max(1, sum(first <= t < end for t in self._looked))
        if coverage < crop.min_coverage:
            return RARELY
        boxes, faces = track.boxes[at], np.array([track.faces[k] for k in at])
        size = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
        if size < options.min_face:
            return SMALL
        samples = [sample for t in self._looked if first <= t < end for sample in self._section.samples.get(t, ())
                   if any(away(sample.box, track.boxes[k]) < 0.1 for k in at if track.frames[k] == t)]  # fmt: skip
        if samples and all(sample.aligned is None for sample in samples):
            return UNSURE  # patterns are taken for faces now and then; the recogniser has another detector
        sharpness, brightness = (_median([getattr(sample, name) for sample in samples])
                                 for name in ("sharpness", "brightness"))  # fmt: skip
        if sharpness is not None and sharpness < crop.min_sharpness:
            return BLURRED
        if brightness is not None and not crop.min_brightness <= brightness <= crop.max_brightness:
            return DARK if brightness < crop.min_brightness else BRIGHT
        rows = self._embedded([one for _, one in _spread([(0, one) for one in samples if one.aligned is not None])])
        alike = _least(rows)
        if alike is not None and alike < LEAST:
            return CHANGED
        mean = rows.mean(0) / np.linalg.norm(rows.mean(0)) if len(rows) else None
        self.clips.append(Clip(
            self._time(first), self._until(end), end - first, boxes[0].round(1).tolist(),
            size, coverage, float(np.median(faces[:, ROLL])),
            sharpness, brightness, alike, mean,
        ))  # fmt: skip
        self._kept.append((first, end))
        return ""


def _spread(samples: list[tuple[int, Sample]]) -> list[tuple[int, Sample]]:
    """At most ``ASKED`` of them, the middles of equal parts."""
    chosen = np.unique(((np.arange(ASKED) + 0.5) / ASKED * len(samples)).astype(int))
    return [samples[n] for n in chosen] if samples else []


def _least(rows: np.ndarray) -> float | None:
    """Of rows (n,128) in order of time: the mean cosine of those before and after the place where it is least."""
    return min((likeness_of(rows[:n], rows[n:]) for n in range(1, len(rows))), default=None)


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None
