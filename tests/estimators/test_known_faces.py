"""Faces of a frame beside those of a frame shortly before, by the shipped networks."""

import numpy as np
import pytest

from expportrait.demo.portrait import SOURCES
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector

PORTRAIT = SOURCES["hopper"].read()
MOVED = 4  # px, to the right


@pytest.fixture(scope="module")
def detector():
    return LandmarkDetector()


@pytest.fixture
def runs(detector, monkeypatch):
    """The regions that the landmark model is run on."""
    seen, real = [], detector._run
    monkeypatch.setattr(detector, "_run", lambda frame, region: seen.append(region) or real(frame, region))
    return seen


def test_a_face_that_has_hardly_moved_costs_half_and_is_where_it_would_be_found(detector, runs):
    frame = PORTRAIT
    moved = np.roll(frame, MOVED, 1)
    known = detector.faces(frame)
    (expected,) = detector.faces(moved)
    assert len(known) == 1 and len(runs) == 4
    (found,) = detector.faces(moved, known)
    assert len(runs) == 5
    side = (expected[2:4] - expected[:2]).max()
    assert np.abs(found[:4] - expected[:4]).max() < 0.02 * side and abs(found[5] - expected[5]) < 1
    assert found[4] == expected[4]


@pytest.mark.parametrize("where", ["elsewhere", "much larger", "none"])
def test_what_is_known_of_others_changes_nothing(detector, runs, where):
    frame = PORTRAIT
    expected = detector.faces(frame)
    known = {"elsewhere": expected + np.float32([90, 90, 90, 90, 0, 0]), "none": expected[:0],
             "much larger": expected + np.float32([-90, -90, 90, 90, 0, 0])}[where]  # fmt: skip
    runs.clear()
    assert np.array_equal(detector.faces(frame, known), expected) and len(runs) == 2


def test_a_wall_where_a_face_was_is_none(detector):
    known = detector.faces(PORTRAIT)
    wall = np.random.default_rng(0).integers(90, 130, PORTRAIT.shape, np.uint8)
    assert len(detector.faces(wall, known)) == 0
