import numpy as np
import pytest

from expportrait.demo.motion import turn
from expportrait.estimators.quality import (
    BROW_TO_CHIN,
    DEPTH,
    TEMPLES,
    before_face,
    head_roll,
    head_turn,
    longest_run,
    unsure,
)


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (40, 0), (-70, 0), (0, 25), (20, -10)])
def test_turns_of_a_flattened_head(yaw, pitch):
    head = np.random.default_rng(0).normal(size=(478, 3))
    for side, x in zip(TEMPLES, (-1, 1), strict=True):  # x to the subject's left, y up, z to the viewer
        head[list(side)] = [[x, y, 0] for y in (0.3, 0.1, -0.1, 0.2)]
    head[BROW_TO_CHIN[0]], head[BROW_TO_CHIN[1]] = (0, 1, 0), (0, -1, 0)
    turned = head @ turn(np.radians(yaw), np.radians(pitch), 0).T
    points = turned * [100, -100, -100 / DEPTH] + [256, 256, 0]  # as MediaPipe has them
    found = head_turn(points[None])[0]
    assert found == pytest.approx([yaw, pitch], abs=3)


@pytest.mark.parametrize("roll", [0, 30, -75, 90, 170, -120])
@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (70, 0), (0, 60)])
def test_roll_in_the_picture_also_of_turned_heads(yaw, pitch, roll):
    head = np.zeros((478, 3))
    head[[33, 263]] = [[-0.4, 0.3, 0], [0.4, 0.3, 0]]
    head[BROW_TO_CHIN[0]], head[BROW_TO_CHIN[1]] = (0, 1, 0), (0, -1, 0)
    points = head @ turn(np.radians(yaw), np.radians(pitch), 0).T * [100, -100, -100]
    sine, cosine = np.sin(np.radians(roll)), np.cos(np.radians(roll))
    clockwise = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])  # x right, y down
    assert head_roll(points[None] @ clockwise.T)[0] == pytest.approx(roll, abs=1e-6)


def test_unsure_frames_and_runs():
    confidence = np.full((3, 100), 0.9)
    confidence[1, :20], confidence[2, :30] = 0.1, 0.1
    assert unsure(confidence).tolist() == [False, False, True]
    assert [longest_run(np.array(flags, bool)) for flags in ([], [0], [1], [1, 1, 0, 1], [0, 1, 1, 1])] == [
        0,
        0,
        1,
        2,
        3,
    ]


def test_a_hand_before_the_face():
    points = np.random.default_rng(0).uniform([150, 150, -50], [250, 250, 50], (478, 3))
    away, near = np.full((1, 21, 2), 400.0), np.full((1, 21, 2), 400.0)
    near[0, :4] = 200
    assert not before_face(np.empty((0, 21, 2)), points) and not before_face(away, points)
    assert before_face(np.concatenate([away, near]), points)
