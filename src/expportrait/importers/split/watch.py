"""One pass over a video: its shots, dissolves, faces and light, section by section."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.estimators.recognition import Recogniser, around
from expportrait.settings.config import Config
from expportrait.video.dissolves import DissolveFinder
from expportrait.video.quality import seen_at
from expportrait.video.reader import Picture, VideoReader
from expportrait.video.shots import ShotFinder
from expportrait.video.tracks import away

LOOK_AT, CUTS_AT = 640, 256  # px, longer side of the frames in which faces are looked for, and cuts
SECTION = 30.0, 120.0  # s: a section ends with the first shot that ends after so many, at the latest after so many
OUTSIDE = 6  # column of a face, behind those that the detector gives
FACES_EVERY = 1.0  # s between looks at faces in their full size
LAG = 8  # frames by which cuts are known later, mostly


@dataclass
class Sample:
    """A face in its full size. ``aligned``: (112,112,3) u8, None where it is not recognised as one."""

    box: np.ndarray
    aligned: np.ndarray | None
    sharpness: float
    brightness: float


@dataclass
class Section:
    """A part of a video: the frames ``first`` <= t < ``end``, all numbers being those of the whole video."""

    first: int
    end: int
    times: list[float]  # s, of its frames; then when the last one ends
    cuts: list[int]
    blends: list[tuple[int, int]]
    # of the frames looked at: (n,7) px of the video, as ``LandmarkDetector.faces``, then the share beyond the picture
    faces: dict[int, np.ndarray]
    light: dict[int, float] = field(default_factory=dict)  # of these frames, mean of 255
    samples: dict[int, list[Sample]] = field(default_factory=dict)

    def time(self, number: int) -> float:
        """When a frame is shown, s; of ``end``: when the last one ends."""
        return self.times[number - self.first]


class Tools:
    """The networks, loaded once a process."""

    @cached_property
    def detector(self) -> LandmarkDetector:
        return LandmarkDetector()

    @cached_property
    def recogniser(self) -> Recogniser:
        return Recogniser()


class Watch:
    """``sections`` goes through a video once. What is held does not grow with its length: a section, and some frames.

    Faces are looked for in every ``split.look_every``-th frame, and where they are others than at the look before,
    though there is no cut between, in the frames between too, by halves: so tracks begin and end to the frame.
    """

    def __init__(self, source: VideoReader, tools: Tools, config: Config) -> None:
        self._source, self._tools, self._options = source, tools, config.split
        self._cuts, self._dissolves = ShotFinder(config.crop.cut), DissolveFinder(config.split.dissolve)
        self._held: deque[tuple[int, Picture]] = deque(maxlen=self._options.look_every + LAG)
        self._between: deque[tuple[int, int]] = deque()  # looks next to each other, whose faces are to be compared
        self._first = self._count = 0
        self._times: list[float] = []
        self._faces: dict[int, np.ndarray] = {}
        self._light: dict[int, float] = {}
        self._samples: dict[int, list[Sample]] = {}
        self._sampled = -np.inf

    def sections(self) -> Iterator[Section]:
        """Sections that follow each other and cover the video."""
        last = None
        for number, (time, picture) in enumerate(self._source.pictures()):
            small = picture(CUTS_AT)
            self._cuts.add(small)
            self._dissolves.add(small)
            self._times.append(time)
            self._held.append((number, picture))
            self._count = number + 1
            if number % self._options.look_every == 0:
                self._look(number, picture, self._faces.get(last))
                self._light[number] = float(small.mean())
                self._sample(number, time, picture)
                self._between.extend([(last, number)] * (last is not None))
                last = number
            while self._between and self._between[0][1] < self._cuts.settled:
                self._compare(*self._between.popleft())
            if (end := self._ends()) is not None:
                yield self._section(end)
        while self._between:
            self._compare(*self._between.popleft())
        if self._count > self._first:
            yield self._section(self._count)

    def _look(self, number: int, picture: Picture, known: np.ndarray | None = None) -> np.ndarray:
        """``known``: what a look shortly before has found."""
        frame, size = picture(LOOK_AT), self._source.size(number)
        scale = max(size) / max(frame.shape[:2])
        if known is not None:
            known = np.column_stack([known[:, :4] / scale, known[:, 4:6]])
        faces = self._tools.detector.faces(frame, known)
        faces[:, :4] *= scale
        inside = np.minimum(faces[:, 2:4], size[::-1]) - np.maximum(faces[:, :2], 0)
        outside = 1 - inside.clip(0).prod(1) / (faces[:, 2:4] - faces[:, :2]).prod(1)
        self._faces[number] = np.column_stack([faces, outside])
        return self._faces[number]

    def _large(self, faces: np.ndarray) -> np.ndarray:
        return faces[(faces[:, 2:4] - faces[:, :2]).max(1) >= self._options.min_face]

    def _sample(self, number: int, time: float, picture: Picture) -> None:
        """Faces as they are, once a second."""
        faces = self._large(self._faces[number])
        if not len(faces) or time - self._sampled < FACES_EVERY - 1e-6:
            return
        self._sampled, frame = time, picture()
        self._samples[number] = []
        for face in faces:
            box = face[:4].astype(np.float64)
            if seen := seen_at(frame, box):
                aligned = self._tools.recogniser.aligned(*around(frame, box))
                self._samples[number].append(Sample(box, aligned, *seen))

    def _compare(self, before: int, after: int) -> None:
        """Look between two looks where their faces differ, and there is no cut between."""
        if before < self._first or any(before < cut <= after for cut in self._cuts.cuts()):
            return
        held = dict(self._held)
        while after - before > 1 and not self._alike(self._faces[before], self._faces[after]):
            middle = (before + after) // 2
            if middle not in held:
                return
            found = self._look(middle, held[middle])
            before, after = (middle, after) if self._alike(self._faces[before], found) else (before, middle)

    def _alike(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether the larger faces of both looks can be the same."""
        return all(
            any(away(face, other) < 1 for other in others)
            for faces, others in ((a, b), (b, a))
            for face in self._large(faces)
        )

    def _ends(self) -> int | None:
        """Where the section may end now: at a cut that is certain, or anywhere where there is none for too long."""
        if self._times[-1] - self._times[0] < SECTION[0]:
            return None
        settled = min(self._cuts.settled, self._dissolves.settled, *(a for a, _ in self._between))
        blends = self._dissolves.dissolves()
        cuts = [cut for cut in self._cuts.cuts() if cut < settled and not any(a <= cut <= b for a, b in blends)]
        cuts = [
            cut for cut in cuts if cut > self._first and self._times[cut - self._first] - self._times[0] >= SECTION[0]
        ]
        if cuts:
            return cuts[0]
        return settled if self._times[-1] - self._times[0] >= SECTION[1] and settled > self._first else None

    def _section(self, end: int) -> Section:
        first, own = self._first, end - self._first
        ends = self._times[own] if own < len(self._times) else self._times[-1] + 1 / self._source.fps

        def taken(values: dict) -> dict:
            return {number: values.pop(number) for number in sorted(values) if number < end}

        cuts = [cut for cut in self._cuts.cuts() if first < cut < end]
        blends = [(max(a, first), min(b, end)) for a, b in self._dissolves.dissolves() if a < end and b > first]
        section = Section(first, end, [*self._times[:own], ends], cuts, blends, taken(self._faces), taken(self._light),
                          taken(self._samples))  # fmt: skip
        self._first, self._times = end, self._times[own:]
        self._cuts.forget(end)
        self._dissolves.forget(end)
        return section
