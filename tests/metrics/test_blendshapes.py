"""AED, APD, jaw and gaze of known scores and turns, and of a still picture under noise."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from skimage.data import astronaut

from expportrait.estimators.blendshapes import NAMES, Expressions, FaceLandmarker
from expportrait.metrics.blendshapes import EXPRESSION, GAZE, JAW, aed, apd, backends, gaze, head_angles, jaw


def expressions(scores, angles=None):
    """Of T frames with these scores (T, 51) and pitch, yaw, roll (T, 3) rad."""
    scores = np.asarray(scores, float)
    angles = np.zeros((len(scores), 3)) if angles is None else np.asarray(angles, float)
    matrices = np.tile(np.eye(4), (len(scores), 1, 1))
    matrices[:, :3, :3] = Rotation.from_euler("xyz", angles).as_matrix()
    return Expressions(np.ones(len(scores), bool), scores, matrices, np.zeros((len(scores), 478, 3)))


def test_the_scores_fall_into_three():
    assert (len(EXPRESSION), len(JAW), len(GAZE)) == (39, 4, 8)
    assert sorted([*EXPRESSION, *JAW, *GAZE]) == list(range(51)) == [NAMES.index(name) for name in NAMES]


@pytest.mark.parametrize(("name", "measure", "share"), [
    ("mouthSmileLeft", aed, 1 / 39), ("browInnerUp", aed, 1 / 39), ("eyeBlinkRight", aed, 1 / 39),
    ("jawOpen", jaw, 1 / 4), ("eyeLookInLeft", gaze, 1 / 8),
])  # fmt: skip
def test_each_score_counts_in_one_measure(name, measure, share):
    rest, moved = np.full((1, 51), 0.2), np.full((1, 51), 0.2)
    moved[0, NAMES.index(name)] = 0.9
    for one in (aed, jaw, gaze):
        expected = 0.7 * share if one is measure else 0
        assert one(expressions(rest), expressions(moved))[0] == pytest.approx(expected)
        assert one(expressions(moved), expressions(rest))[0] == pytest.approx(expected)


def test_angles_are_those_of_an_independent_rotation():
    angles = np.random.default_rng(0).uniform(-1.3, 1.3, (50, 3))
    np.testing.assert_allclose(head_angles(expressions(np.zeros((50, 51)), angles).matrices), angles, atol=1e-9)


def test_pose_distance_goes_the_short_way_round():
    a, b = ([[0, 0.1, np.pi - 0.05], [0.3, 0, 0]], [[0, -0.2, -np.pi + 0.05], [0.3, 0, 0]])
    found = apd(*(expressions(np.zeros((2, 51)), angles) for angles in (a, b)))
    np.testing.assert_allclose(found, [(0.3 + 0.1) / 3, 0], atol=1e-9)


def test_frames_without_a_face_have_no_distance():
    a, b = expressions(np.zeros((3, 51))), expressions(np.ones((3, 51)))
    for values in (a.scores, a.matrices):
        values[1] = np.nan
    for measure in (aed, jaw, gaze, apd):
        assert np.isnan(measure(a, b)).tolist() == [False, True, False]
        assert np.isnan(measure(b, a)).tolist() == [False, True, False]


def test_noise_on_a_still_picture_is_far_below_a_change_of_expression():
    """As far as smiles are from each other: hers against the serious face of the other portrait."""
    from expportrait.demo.portrait import SOURCES

    network, rng = FaceLandmarker(), np.random.default_rng(0)
    still = astronaut()
    noisy = [(still + rng.normal(0, 5, still.shape)).clip(0, 255).astype(np.uint8) for _ in range(8)]
    found, rest, serious = network.detect(noisy), network.detect([still]), network.detect([SOURCES["hopper"].read()])
    jitter = aed(found, Expressions(*(np.repeat(values, 8, 0) for values in vars(rest).values())))
    assert 0 < jitter.max() < aed(rest, serious)[0] / 5
    assert apd(found, Expressions(*(np.repeat(v, 8, 0) for v in vars(rest).values()))).max() < np.radians(1)
    assert aed(rest, network.detect([still]))[0] == 0
    for name, about in backends(network).items():
        assert {"backend", "weights", "input", "norm", "reduction", "unit", "components"} <= set(about), name
