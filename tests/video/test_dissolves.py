import numpy as np
import pytest

from expportrait.video.dissolves import DissolveFinder

from . import make


def dissolves(frames, threshold=12.0):
    finder = DissolveFinder(threshold)
    for frame in frames:
        finder.add(frame)
    return finder.dissolves()


def people(count, seed, step=0.4):
    """Somebody who moves a little before a wall."""
    return [make.scene(180, 320, (60 + step * t, 10, 0.55), seed=seed) for t in range(count)]


def mixed(first, second, long):
    """``first``, over into ``second`` by ``long`` frames that are mixtures."""
    shares = np.linspace(0, 1, long + 2)[1:-1]
    between = [np.rint(a * (1 - s) + b * s).astype(np.uint8)
               for a, b, s in zip(first[-long:], second[:long], shares, strict=True)]  # fmt: skip
    return first[:-long] + between + second[long:]


@pytest.mark.parametrize(("long", "step"), [(4, 0.4), (8, 0.4), (12, 0.4), (25, 0.4), (40, 0.1)])
def test_a_dissolve_is_found_to_two_frames(long, step):
    other = [make.wall(180, 320, 2)] * 70
    ((first, end),) = dissolves(mixed(people(80, 1, step), other, long))
    assert abs(first - (80 - long)) <= 2 and abs(end - 80) <= 2


def test_fades_to_black_and_back_are_found():
    black = [np.zeros((180, 320, 3), np.uint8)] * 40
    found = dissolves(mixed(mixed(people(60, 1), black, 15), people(60, 2), 15))
    assert len(found) == 2
    assert [abs(a - b) <= 2 for a, b in zip(np.ravel(found), (45, 60, 70, 85), strict=True)] == [True] * 4


def test_cuts_moving_cameras_and_people_are_no_dissolves():
    wall = make.wall(180, 1600, 1)
    assert dissolves(people(60, 1) + people(60, 2)) == []
    for step in (1, 2, 4, 8, 16):
        assert dissolves([wall[:, n * step :][:, :320] for n in range(70)]) == []
    assert dissolves(people(80, 1, step=3.0)) == []


def test_a_flash_is_no_dissolve():
    frames = people(60, 1)
    for n in (30, 31):
        frames[n] = np.minimum(frames[n].astype(int) + 90, 255).astype(np.uint8)
    assert dissolves(frames) == []


def test_the_threshold_switches_them_off():
    assert dissolves(mixed(people(80, 1), people(80, 2), 12), threshold=255) == []


def test_what_is_settled_stays_and_what_is_forgotten_is_gone():
    finder, seen = DissolveFinder(12.0), []
    for frame in mixed(people(80, 1), [make.wall(180, 320, 2)] * 120, 12):
        finder.add(frame)
        seen.append((finder.settled, finder.dissolves()))
    last = finder.dissolves()
    for settled, known in seen:
        assert [pair for pair in known if pair[1] < settled] == [pair for pair in last if pair[1] < settled]
    finder.forget(200)
    assert finder.dissolves() == []
