from itertools import pairwise

import numpy as np
import pytest
from mediapipe.python.solutions import face_mesh_connections as mediapipe

from expportrait import points478
from expportrait.demo.motion import turn
from expportrait.points478 import CHIN, DEPTH, FOREHEAD, OUTER_EYES, TEMPLES, head_roll, head_turn


@pytest.mark.parametrize(("ours", "theirs"), [
    ([points478.FACE_OVAL], mediapipe.FACEMESH_FACE_OVAL),
    ([points478.RIGHT_EYELIDS], mediapipe.FACEMESH_RIGHT_EYE),
    ([points478.LEFT_EYELIDS], mediapipe.FACEMESH_LEFT_EYE),
    ([points478.OUTER_LIPS, points478.INNER_LIPS], mediapipe.FACEMESH_LIPS),
    ([points478.RIGHT_IRIS[1:]], mediapipe.FACEMESH_RIGHT_IRIS),
    ([points478.LEFT_IRIS[1:]], mediapipe.FACEMESH_LEFT_IRIS),
])  # fmt: skip
def test_the_closed_loops_are_those_of_mediapipe(ours, theirs):
    edges = {frozenset(edge) for loop in ours for edge in zip(loop, loop[1:] + loop[:1], strict=True)}
    assert edges == {frozenset(edge) for edge in theirs}


def test_the_brows_are_those_of_mediapipe():
    for ours, theirs in ((points478.RIGHT_BROW, mediapipe.FACEMESH_RIGHT_EYEBROW),
                         (points478.LEFT_BROW, mediapipe.FACEMESH_LEFT_EYEBROW)):  # fmt: skip
        edges = {frozenset(edge) for curve in ours for edge in pairwise(curve)}
        assert edges == {frozenset(edge) for edge in theirs}


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (40, 0), (-70, 0), (0, 25), (20, -10)])
def test_turns_of_a_flattened_head(yaw, pitch):
    head = np.random.default_rng(0).normal(size=(478, 3))
    for side, x in zip(TEMPLES, (-1, 1), strict=True):  # x to the subject's left, y up, z to the viewer
        head[list(side)] = [[x, y, 0] for y in (0.3, 0.1, -0.1, 0.2)]
    head[FOREHEAD], head[CHIN] = (0, 1, 0), (0, -1, 0)
    turned = head @ turn(np.radians(yaw), np.radians(pitch), 0).T
    points = turned * [100, -100, -100 / DEPTH] + [256, 256, 0]  # as MediaPipe has them
    found = head_turn(points[None])[0]
    assert found == pytest.approx([yaw, pitch], abs=3)


@pytest.mark.parametrize("roll", [0, 30, -75, 90, 170, -120])
@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (70, 0), (0, 60)])
def test_roll_in_the_picture_also_of_turned_heads(yaw, pitch, roll):
    head = np.zeros((478, 3))
    head[list(OUTER_EYES)] = [[-0.4, 0.3, 0], [0.4, 0.3, 0]]
    head[FOREHEAD], head[CHIN] = (0, 1, 0), (0, -1, 0)
    points = head @ turn(np.radians(yaw), np.radians(pitch), 0).T * [100, -100, -100]
    sine, cosine = np.sin(np.radians(roll)), np.cos(np.radians(roll))
    clockwise = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])  # x right, y down
    assert head_roll(points[None] @ clockwise.T)[0] == pytest.approx(roll, abs=1e-6)
