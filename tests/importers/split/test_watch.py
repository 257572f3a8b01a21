"""Sections of a long film, by a source of made-up frames and a detector that says what is in them."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np

from expportrait.importers.split.watch import SECTION, Watch
from expportrait.settings.config import Config

from ...video import make

FPS = 25
HEIGHT, WIDTH = 90, 160


class Source:
    """``count`` frames, another wall from each cut on; somebody is there from ``present`` on, to before its end."""

    fps = FPS

    def __init__(self, count, cuts=(), present=(0, 0)):
        self.count, self.cuts, self.present, self.largest = count, cuts, present, 0

    def pictures(self):
        for t in range(self.count):
            wall = make.wall(HEIGHT, WIDTH + self.count, sum(cut <= t for cut in self.cuts))  # the camera moves
            frame = wall[:, t : t + WIDTH].copy()
            frame[0, 0] = 255 if self.present[0] <= t < self.present[1] else 0
            yield t / FPS, lambda longest=None, frame=frame: frame

    def size(self, number):
        return HEIGHT, WIDTH


class Detector:
    def __init__(self):
        self.looks, self.known = 0, []

    def faces(self, frame, known=None):
        self.looks += 1
        self.known.append(known)
        there = frame[0, 0, 0] == 255
        return np.array([[50, 20, 90, 60, 0.9, 0]] * int(there), np.float32).reshape(-1, 6)


def watch(source, **options):
    detector = Detector()
    tools = SimpleNamespace(detector=detector, recogniser=SimpleNamespace(aligned=lambda picture, place: None))
    return [*Watch(source, tools, Config(split={"min_face": 30, **options})).sections()], detector


def test_sections_cover_a_film_and_end_at_cuts_or_after_two_minutes():
    cuts = [500, 900, 1400, 1450]
    sections, _ = watch(Source(4400, cuts), dissolve=255)
    assert (sections[0].first, sections[0].end) == (0, 900)
    assert sections[0].cuts == [500] and sections[1].first == 900 and sections[1].cuts == [1400, 1450]
    bounds = [one.first for one in sections] + [sections[-1].end]
    assert bounds == sorted({*bounds}) and bounds[0] == 0 and bounds[-1] == 4400
    assert all(a.end == b.first for a, b in pairwise(sections))
    for one in sections:
        assert one.end - one.first <= SECTION[1] * FPS + 1 and len(one.times) == one.end - one.first + 1
        assert {*one.faces} == {*range(-(-one.first // 10) * 10, one.end, 10)}


def test_who_comes_and_goes_is_found_to_the_frame():
    (one,), detector = watch(Source(200, present=(43, 117)))
    there = [t for t, faces in one.faces.items() if len(faces)]
    assert min(there) == 43 and max(there) == 116
    assert {42, 117} <= one.faces.keys()
    assert detector.looks <= 20 + 2 * 4


def test_a_look_is_told_what_the_one_before_has_found():
    _, detector = watch(Source(60, present=(20, 60)))
    told = [known for known in detector.known if known is not None]
    assert detector.known[0] is None and [len(known) for known in told] == [0, 0, 1, 1, 1]
    assert np.allclose(told[2], [[50, 20, 90, 60, 0.9, 0]])


def test_between_looks_on_both_sides_of_a_cut_nothing_is_searched():
    (one,), detector = watch(Source(200, cuts=[45], present=(45, 200)))
    assert one.cuts == [45] and detector.looks == 20
