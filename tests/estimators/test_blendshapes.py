"""The shipped expression network on the public-domain portraits and on demo clips, whose motion is known."""

from functools import cache

import numpy as np
import pytest
from skimage.data import astronaut

from expportrait.demo.clip import draw, prepare
from expportrait.demo.motion import UNIT_NAMES
from expportrait.demo.portrait import SOURCES
from expportrait.estimators.blendshapes import NAMES, FaceLandmarker, units_of_points
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.metrics.blendshapes import head_angles

from ..video import make

TIMES = {"astronaut-turn": (0, 0.3, 0.6, 0.85, 1.0, 1.4, 1.72), "hopper-talk": (0, 0.2, 0.55, 0.78, 0.95, 1.3, 1.7)}


@pytest.fixture(scope="module")
def network():
    return FaceLandmarker()


@cache
def clip(name):
    """Frames and known motion of a few moments of a demo clip."""
    made = prepare(name, np.array(TIMES[name]))
    return draw(made)[0], made.motion


def scores(found, *names):
    return found.scores[:, [NAMES.index(name) for name in names]]


def score(found, *names):
    return scores(found, *names).mean(1)


def other_side(name):
    for end, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(end):
            return name.removesuffix(end) + other
    return name


def test_a_smile_is_a_smile(network):
    """Collins smiles with her teeth, Hopper hardly."""
    found = network.detect([astronaut(), SOURCES["hopper"].read()])
    assert found.found.all() and found.scores.shape == (2, 51) and found.matrices.shape == (2, 4, 4)
    smile = score(found, "mouthSmileLeft", "mouthSmileRight")
    assert smile[0] > 0.8 and smile[1] < 0.3
    assert (score(found, "eyeBlinkLeft", "eyeBlinkRight") < 0.3).all() and (score(found, "jawOpen") < 0.1).all()
    assert (found.scores >= 0).all() and (found.scores <= 1).all()


def test_the_points_are_those_of_the_other_landmark_model(network):
    found, (points, _, _) = network.detect([astronaut()]), LandmarkDetector().detect([astronaut()])
    assert np.linalg.norm(found.points[0, :, :2] - points[0, :, :2], axis=1).mean() < 3


def test_frames_without_a_face_have_no_numbers(network):
    found = network.detect([make.wall(200, 300), astronaut(), np.zeros((5, 3, 3), np.uint8)])
    assert found.found.tolist() == [False, True, False]
    for values in (found.scores, found.matrices, found.points):
        assert np.isnan(values[[0, 2]]).all() and np.isfinite(values[1]).all()
    assert network.detect([]).scores.shape == (0, 51)


def test_the_largest_face_counts(network):
    both = network.detect([make.scene(400, 900, (20, 100, 0.7), (500, 30, 1.2))])
    assert both.points[0, :, 0].min() > 500


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMES)
def test_known_motion_is_found(network, name):
    """Turns are found in order and about half to whole in size: the network's camera is an assumed one."""
    frames, motion = clip(name)
    found = network.detect(frames)
    turned = head_angles(found.matrices)
    for axis, true in ((1, motion.yaw), (0, motion.pitch), (2, motion.roll)):
        assert np.corrcoef(turned[:, axis], true)[0, 1] > 0.9
        assert 0.4 < np.polyfit(true, turned[:, axis], 1)[0] < 1.3
    blink = score(found, "eyeBlinkLeft", "eyeBlinkRight")
    assert blink[motion.blink > 0.9].min() > 2 * blink[motion.blink < 0.1].max()
    smile = motion.units[:, UNIT_NAMES.index("mouthSmileLeft")]
    assert np.corrcoef(score(found, "mouthSmileLeft", "mouthSmileRight"), smile)[0, 1] > 0.8


@pytest.mark.slow
def test_a_mirrored_picture_swaps_left_and_right(network):
    """Where the eyes look to one side. The network is no exact mirror of itself, so the names tell, not every score."""
    frames, _ = clip("astronaut-turn")
    found, mirrored = network.detect(frames[[1, 4]]), network.detect(frames[[1, 4], :, ::-1])
    swapped = [NAMES.index(other_side(name)) for name in NAMES]
    gaze = [i for i, name in enumerate(NAMES) if name.startswith("eyeLook") and not name.startswith("eyeLookDown")]
    as_it_is = np.abs(mirrored.scores - found.scores)[:, gaze].mean()
    assert np.abs(mirrored.scores[:, swapped] - found.scores)[:, gaze].mean() < 0.6 * as_it_is
    angles, other = head_angles(found.matrices), head_angles(mirrored.matrices)
    np.testing.assert_allclose(other, angles * [1, -1, -1], atol=0.05)
    assert np.abs(angles[:, 1]).max() > 0.08


def test_the_names_are_the_networks_own():
    from mediapipe.tasks.python.vision.face_landmarker import Blendshapes

    own = [shape.name.title().replace("_", "") for shape in Blendshapes if shape.name != "NEUTRAL"]
    assert [name[0].lower() + name[1:] for name in own] == list(NAMES)


def test_loading_it_says_nothing(capfd):
    FaceLandmarker().detect([astronaut()])
    assert capfd.readouterr() == ("", "")


def test_units_are_read_off_points_as_the_whole_network_reads_them(network):
    """Frames without a face are unknown, units that the network has no score for are not out."""
    frames = clip("hopper-talk")[0][:3]
    seen = network.detect(frames)
    names, found = ("jawOpen", "tongueOut", "mouthSmileLeft"), np.array([True, False, True])
    units = units_of_points(names, seen.points, found, frames[0].shape[0])
    assert np.isnan(units[1]).all() and (units[found, 1] == 0).all()
    np.testing.assert_allclose(units[found][:, [0, 2]], scores(seen, names[0], names[2])[found], atol=1e-3)
