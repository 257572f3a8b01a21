import numpy as np
import pytest

from expportrait.video.tracks import Track
from expportrait.video.turning import TURNS, turned, turned_box, upright, wanted_turn


def face(score, roll=0.0):
    return np.array([[0, 0, 100, 100, score, roll]])


NOBODY = np.empty((0, 6))


@pytest.mark.parametrize("degrees", TURNS)
def test_a_box_is_turned_as_the_picture_is(degrees):
    picture = np.random.default_rng(0).integers(0, 255, (40, 70, 3), np.uint8)
    x0, y0, x1, y1 = box = (10, 5, 33, 21)
    there = turned(picture, degrees)
    a, b, c, d = turned_box(box, degrees, 40, 70)
    np.testing.assert_array_equal(there[b:d, a:c], turned(picture[y0:y1, x0:x1], degrees))
    assert turned_box((a, b, c, d), -degrees, *there.shape[:2]) == box


def test_a_quarter_is_clockwise():
    picture = np.arange(6).reshape(2, 3)
    assert turned(picture, 90).tolist() == [[3, 0], [4, 1], [5, 2]]


def test_a_turn_is_made_where_most_looks_with_a_face_ask_for_it():
    upside_down = {0: face(0.7), 90: NOBODY, 180: face(0.95), 270: face(0.8, 88)}
    as_it_is = {0: face(0.9), 90: face(0.7, -85), 180: face(0.75), 270: NOBODY}
    nothing = dict.fromkeys(TURNS, NOBODY)
    assert wanted_turn([upside_down] * 3 + [as_it_is] * 2 + [nothing] * 9) == 180
    assert wanted_turn([upside_down] * 2 + [as_it_is] * 2) == 0
    assert wanted_turn([upside_down, as_it_is, {90: face(0.9), 0: NOBODY}]) == 0  # none is asked for by more than half
    assert wanted_turn([nothing] * 3) == 0 and wanted_turn([]) == 0


def test_a_face_that_the_detector_likes_best_lying_is_not_upright_so():
    assert wanted_turn([{0: face(0.9, 80), 270: face(0.8, 10)}]) == 270


@pytest.mark.parametrize(("score", "roll", "expected"), [
    (0.9, 5, True), (0.9, -55, True), (0.9, 65, False), (0.9, -90, False), (0.7, 3, False),
])  # fmt: skip
def test_which_tracks_are_surely_upright(score, roll, expected):
    faces = [face(score, roll)[0]] * 3 + [face(0.9, 0)[0], face(0.6, 90)[0]]
    assert upright(Track(0, 25, faces=faces)) is expected
