import numpy as np
import pytest

from expportrait.estimators.landmarks.gaps import fill, places, same_face

SHAPE = np.random.default_rng(0).uniform(-60, 60, (478, 3)).astype(np.float32)
SHAPE[33], SHAPE[263] = (-40, 0, 0), (40, 0, 0)


def faces(*places, scale=1.0, roll=0.0):
    turn = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return np.array([scale * SHAPE @ turn + [x, y, 0] for x, y in places], np.float32)


def moving(count):
    return faces(*((200 + 3 * t, 250 - t) for t in range(count)))


def test_a_calm_face_is_one_face():
    assert same_face(moving(40), np.ones(40, bool)).all()


def test_frames_not_found_stay_unseen():
    found = np.arange(40) % 7 > 0
    points = moving(40) * found[:, None, None]
    np.testing.assert_array_equal(same_face(points, found), found)


@pytest.mark.parametrize("glitch", [
    faces((450, 250)), faces((260, 230), scale=0.4), faces((260, 230), scale=2.5), faces((260, 230), roll=2.0),
])  # fmt: skip
@pytest.mark.parametrize("where", [0, 20, 39])
def test_a_glitch_is_left_out(glitch, where):
    points = moving(40)
    points[where] = glitch
    np.testing.assert_array_equal(same_face(points, np.ones(40, bool)), np.arange(40) != where)


def test_the_longer_stay_is_the_clips_face():
    points = np.concatenate([faces(*[(100, 100)] * 12), faces(*[(400, 300)] * 20), faces(*[(100, 100)] * 12)])
    seen = same_face(points, np.ones(44, bool))
    np.testing.assert_array_equal(seen, (np.arange(44) >= 12) & (np.arange(44) < 32))


def test_a_face_may_move_on_while_it_is_hidden():
    points = faces(*((150 + 12 * t, 250) for t in range(30)))
    found = (np.arange(30) < 10) | (np.arange(30) > 18)
    np.testing.assert_array_equal(same_face(points, found), found)


def test_nothing_found_is_nothing_seen():
    assert not same_face(np.zeros((5, 478, 3), np.float32), np.zeros(5, bool)).any()


def test_short_gaps_are_crossed_in_a_straight_line():
    points, sure = moving(20), np.full((20, 478), 0.8, np.float32)
    seen = ~np.isin(np.arange(20), [8, 9, 10])
    filled, confidence = fill(points * seen[:, None, None], sure * seen[:, None], seen, max_gap=3)
    np.testing.assert_allclose(filled, points, atol=1e-3)  # its motion was a straight line
    np.testing.assert_allclose(confidence[:, 0], np.where(seen, 0.8, 0.4) - 0.4 / 3 * (np.arange(20) == 9), atol=1e-5)
    assert filled.dtype == confidence.dtype == np.float32


def test_long_gaps_have_no_weight():
    points, sure = moving(20), np.ones((20, 478), np.float32)
    seen = ~np.isin(np.arange(20), [8, 9, 10])
    filled, confidence = fill(points, sure, seen, max_gap=2)
    np.testing.assert_allclose(filled, points, atol=1e-3)
    np.testing.assert_array_equal(confidence[:, 0], seen)


def test_before_the_first_and_after_the_last_it_stands_still():
    points, sure = moving(12), np.ones((12, 478), np.float32)
    seen = (np.arange(12) >= 2) & (np.arange(12) < 7)
    filled, confidence = fill(points, sure, seen, max_gap=3)
    np.testing.assert_array_equal(filled[:2], points[[2, 2]])
    np.testing.assert_array_equal(filled[7:], points[[6] * 5])
    np.testing.assert_allclose(confidence[:2, 0], [1 / 3, 1 / 2])
    assert not confidence[7:].any()


def test_one_frame_is_enough():
    filled, confidence = fill(moving(1), np.ones((1, 478), np.float32), np.ones(1, bool), max_gap=3)
    np.testing.assert_array_equal(filled, moving(1))
    assert confidence.all()


def test_places_go_straight_along_the_track():
    track = np.array([[2, 10, 20, 60, 90], [7, 20, 20, 70, 90], [12, 20, 45, 70, 115]])
    where = places(track, 15)
    np.testing.assert_allclose(where[[0, 2, 4, 12, 14], :4], [track[0, 1:], track[0, 1:], [14, 20, 64, 90],
                                                              track[2, 1:], track[2, 1:]])  # fmt: skip
    away = where[:, 4]
    assert (
        away[2] == away[7] == away[12] == away.min() and away[4] == away[5] > away[3] and away[0] == away[14] == away[5]
    )
    np.testing.assert_allclose(places(track[:1], 3)[:, :4], [track[0, 1:]] * 3)
