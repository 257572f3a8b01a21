"""Films put together by a seed out of short clips, with all that a long video has, and the truth about each frame."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from benchmarks.real_films import CLIPS

from expportrait.demo.clip import draw, prepare
from expportrait.demo.motion import FPS, LOOP
from expportrait.video.reader import open_source

from ...video import make

HEIGHT, WIDTH = 540, 960  # px
SIDE = 480  # px, of a portrait at scale 1; its face has some 45 % of that
REAL = {"outdoors": "landscape_1280x720.mp4", "grimaces": "expressive_512.mp4"}


class Shown(NamedTuple):
    """A person in a frame: the box of the face, x0 y0 x1 y1 px, and whether the frame is of use for that person."""

    person: str
    box: np.ndarray
    usable: bool


@dataclass
class Film:
    """``cuts``: first frames of shots after a hard cut. ``shots``: of each frame, the shot it belongs to; -1 in a
    dissolve. ``shown``: who is in each frame."""

    frames: list[np.ndarray] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    shots: list[int] = field(default_factory=list)
    shown: list[list[Shown]] = field(default_factory=list)

    def write(self, path: Path) -> Path:
        return make.video(path, self.frames, FPS)


@cache
def portrait(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T,480,480,3) u8 of a demo clip's loop, and the face's box in each, (T,4) px, hairline to chin."""
    frames, points = draw(prepare(name, np.arange(0, LOOP, 1 / FPS)))
    scale = SIDE / frames.shape[1]
    boxes = np.concatenate([points.min(1), points.max(1)], 1) * scale
    return np.stack([cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames]), boxes


@cache
def real(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The same of one of the shared clips; the box is the one that a detector finds."""
    from expportrait.estimators.landmarks.mediapipe import LandmarkDetector

    frames = []
    for _, frame in open_source(CLIPS / REAL[name]).frames():
        side = min(frame.shape[:2])
        left = (frame.shape[1] - side) // 2
        frames.append(cv2.resize(frame[:side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        if len(frames) == 150:
            break
    detector = LandmarkDetector()
    boxes = [detector.faces(frame)[:1, :4] for frame in frames]
    known = [n for n, box in enumerate(boxes) if len(box)]
    nearest = [min(known, key=lambda k: abs(k - n)) for n in range(len(boxes))]
    return np.stack(frames), np.concatenate([boxes[n] for n in nearest])


PEOPLE = {"astronaut": "astronaut-turn", "hopper": "hopper-talk"}


def of(person: str) -> tuple[np.ndarray, np.ndarray]:
    return portrait(PEOPLE[person]) if person in PEOPLE else real(person)


Way = Callable[[int], tuple[float, float]]  # frame -> x y of a portrait's corner, px


def scene(
    count: int, wall: int, people: list[tuple[str, Way, float, int]]
) -> tuple[list[np.ndarray], list[list[Shown]]]:
    """``count`` frames of people before a wall: who, where, at which scale, from which of their frames on."""
    frames, shown = [], []
    for t in range(count):
        image, row = make.wall(HEIGHT, WIDTH, wall).copy(), []
        for person, way, scale, first in people:
            pictures, boxes = of(person)
            x, y = way(t)
            n = pingpong(first + t, len(pictures))
            matrix = np.array([[scale, 0, x + scale / 2 - 0.5], [0, scale, y + scale / 2 - 0.5]])
            area = {"dsize": (WIDTH, HEIGHT), "borderMode": cv2.BORDER_TRANSPARENT, "dst": image}
            cv2.warpAffine(pictures[n], matrix, flags=cv2.INTER_AREA, **area)
            box = boxes[n] * scale + [x, y, x, y]
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= WIDTH and box[3] <= HEIGHT
            if box[2] > 0 and box[0] < WIDTH:
                row.append(Shown(person, box, bool(inside)))
        frames.append(image)
        shown.append(row)
    return frames, shown


def pingpong(n: int, count: int) -> int:
    """There and back again, so that no frame leaps."""
    n %= 2 * count - 2
    return n if n < count else 2 * count - 2 - n


def title(count: int, text: str, bright: bool) -> list[np.ndarray]:
    image = np.full((HEIGHT, WIDTH, 3), 225 if bright else 25, np.uint8)
    cv2.putText(image, text, (150, 300), cv2.FONT_HERSHEY_SIMPLEX, 2.2, (30,) * 3 if bright else (240,) * 3, 5)
    return [image] * count


def film(seed: int, people: tuple[str, ...] = tuple(PEOPLE), short: bool = False) -> Film:
    """A film in an order of its own: titles, black, one person, two side by side, somebody who leaves and returns,
    hard cuts and dissolves between them. ``short``: without the last few."""
    dice, made = np.random.default_rng(seed), Film()
    order = ["title", "one", "two", "black", "leaves", "one", "dissolve", "one", "two", "dissolve"]
    order = order[:7] if short else [order[n] for n in dice.permutation(len(order))]
    for number, kind in enumerate(order):
        _add(made, dice, kind, people, number + 10 * seed)
    _add(made, dice, "title", people, 99)
    return made


def _add(made: Film, dice: np.random.Generator, kind: str, people: tuple[str, ...], wall: int) -> None:
    first, second = (people[n] for n in dice.permutation(len(people))[:2])
    count, scale = int(dice.integers(70, 110)), float(dice.uniform(0.85, 1.1))
    x, y = float(dice.uniform(150, 400)), float(dice.uniform(20, 50))
    since = int(dice.integers(0, 50))
    if kind == "title":
        _shot(made, title(int(dice.integers(20, 40)), f"Part {wall}", bool(dice.integers(2))), None)
    elif kind == "black":
        _shot(made, [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * int(dice.integers(15, 40)), None)
    elif kind == "one":
        _shot(made, *scene(count, wall, [(first, lambda t: (x, y), scale, since)]))
    elif kind == "two":
        ways = [lambda t: (0.0, 40.0), lambda t: (480.0, 40.0)]
        _shot(made, *scene(count, wall, [(first, ways[0], 1.0, since), (second, ways[1], 1.0, since + 7)]))
    elif kind == "leaves":
        stays, out, step = int(dice.integers(60, 80)), int(dice.integers(25, 40)), 26.0

        def way(t: int) -> tuple[float, float]:
            back = max(0, stays + 2 * 40 + out - t)
            return x + step * min(40, max(0, t - stays), back), y

        _shot(made, *scene(2 * stays + out + 80, wall, [(first, way, scale, since)]))
    elif kind == "dissolve":
        long = int(dice.integers(8, 26))
        before, who = scene(count, wall, [(first, lambda t: (x, y), scale, since)])
        after, whom = scene(count, wall + 500, [(second, lambda t: (550 - x, y), scale, since)])
        _shot(made, before[:-long], who[:-long])
        for n in range(long):
            share = (n + 1) / (long + 1)
            made.frames.append(np.rint(before[n - long] * (1 - share) + after[n] * share).astype(np.uint8))
            made.shots.append(-1)
            made.shown.append([])
        _shot(made, after[long:], whom[long:], cut=False)


def _shot(made: Film, frames: list[np.ndarray], shown: list[list[Shown]] | None, cut: bool = True) -> None:
    if made.frames and cut:
        made.cuts.append(len(made.frames))
    made.shots += [max(made.shots, default=-1) + 1] * len(frames)
    made.frames += frames
    made.shown += shown or [[] for _ in frames]
