"""What rows of a manifest are worth, against the truth of a film."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from expportrait.demo.motion import FPS
from expportrait.manifest.clips import Row

from .films import Film, Shown


@dataclass
class Score:
    """``strays``: of each clip, frames of another shot than most of its frames are of, or of a dissolve. ``people``: of
    each clip, who its face is, in all its frames. ``kept``: share of the usable frames that are in a clip of that
    person."""

    strays: dict[str, int]
    people: dict[str, set[str]]
    kept: float
    lost: list[tuple[str, int, int]]  # runs of usable frames in no clip


def frames_of(row: Row) -> range:
    """The frames of a row, by its times."""
    return range(round((row.start or 0) * FPS), round(row.end * FPS))


def score(film: Film, rows: list[Row], shortest: float) -> Score:
    """``shortest``: s; runs of usable frames that are shorter do not count."""
    strays, people, kept = {}, {}, defaultdict(set)
    for row in rows:
        frames = frames_of(row)
        shots = [film.shots[t] for t in frames]
        strays[row.clip] = len(shots) - max(map(shots.count, {*shots} - {-1}), default=0)
        people[row.clip] = follow(film, row)
        for person in people[row.clip]:
            kept[person] |= {*frames}
    wanted = [run for person in {one.person for shown in film.shown for one in shown}
              for run in usable_runs(film, person) if run[2] - run[1] >= shortest * FPS]  # fmt: skip
    total = sum(end - first for _, first, end in wanted)
    missing = sorted((person, t) for person, first, end in wanted for t in range(first, end) if t not in kept[person])
    lost: list[tuple[str, int, int]] = []
    for person, t in missing:
        if lost and lost[-1][0] == person and lost[-1][2] == t:
            lost[-1] = person, lost[-1][1], t + 1
        else:
            lost.append((person, t, t + 1))
    return Score(strays, people, 1 - len(missing) / total, lost)


def follow(film: Film, row: Row) -> set[str]:
    """Who the face of a row is: the person nearest to it in its first frame that shows anybody, and who is nearest to
    that person's place from frame to frame."""
    place, seen = np.array(row.face), set()
    for t in frames_of(row):
        if film.shown[t]:
            nearest = min(film.shown[t], key=lambda one: _apart(one, place))
            if _apart(nearest, place) < 1:
                seen.add(nearest.person)
                place = nearest.box
    return seen


def _apart(one: Shown, place: np.ndarray) -> float:
    middle = (one.box[:2] + one.box[2:] - place[:2] - place[2:]) / 2
    return float(np.linalg.norm(middle) / (one.box[3] - one.box[1]))


def usable_runs(film: Film, person: str) -> list[tuple[str, int, int]]:
    """Frames of one shot in which that person can be used: person, first, end."""
    runs: list[list[int]] = []
    for t, shown in enumerate(film.shown):
        if any(one.person == person and one.usable for one in shown):
            if runs and runs[-1][1] == t and film.shots[t] == film.shots[t - 1]:
                runs[-1][1] = t + 1
            else:
                runs.append([t, t + 1])
    return [(person, first, end) for first, end in runs]
