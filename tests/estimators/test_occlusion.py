"""Hands and things in front of a face: drawn ones, whose places are known."""

import cv2
import numpy as np
import pytest

from expportrait.estimators import occlusion
from expportrait.estimators.geometry.base import Geometry
from expportrait.estimators.occlusion import Occlusion, draw_hand, hide, in_face, odd_points
from expportrait.points478 import FACE_OVAL

SIZE, FRAMES = 256, 12
SURE = np.full((FRAMES, 478), 0.9, np.float32)


@pytest.fixture
def clip():
    """A painted face that drifts and dims, and its landmarks on a lattice; the oval's lie on an ellipse."""
    random = np.random.default_rng(0)
    base = np.zeros((478, 3))
    angle, radius = random.uniform(0, 2 * np.pi, 478), np.sqrt(random.uniform(0, 1, 478))
    base[:, 0], base[:, 1] = 128 + 60 * radius * np.cos(angle), 128 + 80 * radius * np.sin(angle)
    around = np.linspace(-np.pi / 2, 1.5 * np.pi, len(FACE_OVAL), endpoint=False)
    base[list(FACE_OVAL), 0], base[list(FACE_OVAL), 1] = 128 + 60 * np.cos(around), 128 + 80 * np.sin(around)
    skin = np.full((SIZE, SIZE, 3), (200, 150, 130), np.float32) * np.linspace(0.6, 1, SIZE)[:, None, None]
    skin += cv2.GaussianBlur(random.normal(size=(SIZE, SIZE, 3)), (0, 0), 4) * 30
    frames, points = [], []
    for t in range(FRAMES):
        shifted = np.roll(skin, t, 1) * (1 - 0.4 * t / FRAMES)  # the light goes down
        frames.append(np.clip(shifted + random.normal(size=skin.shape) * 2, 0, 255).astype(np.uint8))
        points.append(base + np.array([t, 0, 0]))
    return np.stack(frames), np.stack(points).astype(np.float32)


def found(*clip) -> np.ndarray:
    return np.stack(list(Occlusion(0).find(*clip)))


def test_a_face_alone_hides_nothing(clip):
    frames, points = clip
    assert not found(frames, points, SURE, np.ones(FRAMES, bool)).any()


def test_a_cup_is_seen_where_and_when_it_is_there(clip):
    frames, points = clip
    frames = frames.copy()
    frames[5:7, 140:200, 110:170] = (30, 60, 120)
    hidden = found(frames, points, SURE, np.ones(FRAMES, bool))
    assert hidden.shape == (FRAMES, SIZE // 4, SIZE // 4)
    assert (hidden.any((1, 2)) == np.isin(np.arange(FRAMES), [5, 6])).all()
    for t in (5, 6):
        cup = np.zeros_like(hidden[t], bool)
        cup[35:50, 27:43] = True
        assert (hidden[t][cup] > 0).mean() > 0.8
        assert (hidden[t][~cv2.dilate(cup.astype(np.uint8), np.ones((13, 13))).astype(bool)] > 0).mean() < 0.01
    assert (in_face(hidden, points) == np.isin(np.arange(FRAMES), [5, 6])).all()


def test_a_patch_that_the_landmarks_are_unsure_of_is_hidden(clip):
    frames, points = clip
    certainty = SURE * np.linspace(0.2, 1, 478, dtype=np.float32)  # some are never sure, and that is usual
    left = points[4, :, 0] < 110
    certainty[4, left] *= 0.2
    certainty[6, ::9] *= 0.1  # single ones
    hidden = found(frames, points, certainty, np.ones(FRAMES, bool))
    assert (hidden.any((1, 2)) == (np.arange(FRAMES) == 4)).all()
    assert hidden[4, 32, 22] and not hidden[4, :, 34:].any()


def test_unseen_frames_are_not_judged(clip):
    frames, points = clip
    points, seen = points.copy(), np.arange(FRAMES) != 3
    points[3], frames = np.nan, frames.copy()
    frames[3] = 0
    assert not odd_points(frames, points, SURE, seen).any()
    assert not odd_points(frames[:4], points[:4], SURE[:4], seen[:4]).any()  # too few to know what is usual


def stick_hand(x: float, y: float, length: float = 60) -> np.ndarray:
    """(21,2) px: an upright open hand with its wrist at x, y."""
    hand = np.zeros((21, 2), np.float32)
    hand[0] = x, y
    for finger in range(5):
        across = (finger - 2) * 0.22 * length
        for joint in range(4):
            hand[1 + 4 * finger + joint] = x + across, y - length * (1 + 0.28 * joint)
    return hand


class Seer:
    """A hand detector that sees what it is told to."""

    def __init__(self, hands: dict[int, np.ndarray]):
        self.hands, self.asked = hands, []

    def detect(self, frame: np.ndarray) -> np.ndarray:
        self.asked.append(t := int(frame[0, 0, 0]))
        return self.hands.get(t, np.zeros((0, 21, 2), np.float32))


def numbered(count: int) -> np.ndarray:
    frames = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    frames[:, 0, 0, 0] = np.arange(count)
    return frames


def test_frames_around_a_hand_are_searched_and_short_gaps_filled():
    finder = Occlusion(0)
    finder.every = 5
    finder.detector = Seer({t: stick_hand(100, 200)[None] for t in (8, 10, 12, 13)})
    hands = [len(each) for each in finder.hands(numbered(40))]
    assert np.flatnonzero(hands).tolist() == [8, 9, 10, 11, 12, 13] and hands[9] == hands[11] == 2
    assert sorted(finder.detector.asked) == [0, 5, *range(6, 15), 15, 20, 25, 30, 35]


def test_a_hand_is_covered_with_little_around_it():
    canvas, hand = np.zeros((SIZE, SIZE), np.uint8), stick_hand(128, 200)
    draw_hand(canvas, hand)
    for x, y in hand:
        assert canvas[round(float(y)), round(float(x))]
    assert canvas[232, 128], "the arm"
    assert not canvas[:, :60].any() and not canvas[:, 196:].any() and not canvas[:70].any()


def test_confidence_goes_and_the_mask_stays():
    mask = np.zeros((1, 64, 64), np.float32)
    mask[:, 8:56, 8:56] = 1
    maps = Geometry(np.zeros((1, 64, 64, 3)), mask.copy(), mask.copy(), 0.5 * mask, "depth")
    maps.confidence[0, 40:44, 40:44] = 0.001  # hardly known, but not hidden
    hidden = np.zeros((1, 16, 16), np.uint8)
    hidden[0, 4:8, 4:8] = 255
    hide(maps, hidden)
    assert (maps.mask == mask).all()
    assert not maps.confidence[0, 18:30, 18:30].any()
    assert (maps.confidence[0, 40:44, 40:44] == np.float32(occlusion.KNOWN)).all()
    assert (maps.confidence[0, 48:56, 48:56] == 0.5).all() and not maps.confidence[0, :8].any()
