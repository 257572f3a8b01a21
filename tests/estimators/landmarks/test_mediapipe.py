import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from expportrait.estimators.landmarks.mediapipe import FaceDetector, LandmarkDetector
from expportrait.points478 import CHIN, LEFT_IRIS, OUTER_EYES, RIGHT_IRIS
from tests.video import make

MOUTH = slice(11, 18)


@pytest.fixture(scope="module")
def faces():
    return FaceDetector()


@pytest.fixture(scope="module")
def landmarks(faces):
    return LandmarkDetector(faces)


@pytest.fixture(scope="module")
def portrait_points(landmarks):
    """Points on the portrait alone, 300 px, magnified by 1.5 as a crop would be."""
    points, found, _ = landmarks.detect([make.scene(450, 450, (0, 0, 1.5))])
    assert found.all()
    return points[0] / 1.5


def at(points, x, y, scale):
    return points * scale + [x, y, 0]


@pytest.mark.parametrize(("height", "width", "place"), [
    (450, 450, (0, 0, 1.5)), (360, 640, (300, 40, 1.0)), (480, 640, (50, 60, 0.5)), (720, 1280, (900, 300, 0.8)),
    (1280, 720, (100, 700, 1.5)),
])  # fmt: skip
def test_faces_large_and_small_are_found_where_they_are(faces, portrait_points, height, width, place):
    (face,) = faces.detect(make.scene(height, width, place))
    points = at(portrait_points, *place)
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    size = (high - low).max()
    assert np.abs((face[:2] + face[2:4]) / 2 - (low + high) / 2).max() < 0.15 * size
    assert 0.7 < max(face[2:4] - face[:2]) / size < 1.1
    assert 0.5 < face[4] <= 1


def test_each_of_several_faces_is_found_once(faces):
    found = faces.detect(make.scene(400, 800, (20, 50, 1.0), (420, 60, 0.9)))
    assert len(found) == 2
    assert sorted(found[:, 0] > 400) == [False, True]
    assert found[0, 4] >= found[1, 4]


def test_no_face_is_no_face(faces, landmarks):
    assert faces.detect(make.wall(300, 400)).shape == (0, 5)
    points, found, confidence = landmarks.detect([make.wall(300, 300)] * 2)
    assert points.shape == (2, 478, 3) and confidence.shape == (2, 478)
    assert not found.any() and not points.any() and not confidence.any()
    assert landmarks.detect([])[0].shape == (0, 478, 3)


def test_the_points_are_on_the_face(portrait_points):
    right, left, mouth = (portrait_points[where, :2].mean(0) for where in (list(RIGHT_IRIS), list(LEFT_IRIS), MOUTH))
    np.testing.assert_allclose(right, [127, 105], atol=4)  # px, read off the photograph
    np.testing.assert_allclose(left, [171, 107], atol=4)
    np.testing.assert_allclose(mouth, [149, 150], atol=6)
    right, left = OUTER_EYES
    assert portrait_points[right, 0] < portrait_points[left, 0]
    nose, chin, ear = portrait_points[[1, CHIN, 234], 2]
    assert nose < chin < ear  # z goes away from the viewer


@pytest.mark.parametrize("place", [(40, 10, 1.5), (80, 60, 1.2), (-10, 30, 1.8)])
def test_the_points_go_with_the_face(landmarks, portrait_points, place):
    points, found, _ = landmarks.detect([make.scene(512, 600, place)])
    error = np.linalg.norm(points[0, :, :2] - at(portrait_points, *place)[:, :2], axis=1)
    assert found.all()
    assert error.mean() < 1.5 and np.quantile(error, 0.95) < 3.5  # px, face about 200 px


def test_a_moving_face_is_followed(landmarks, portrait_points):
    places = [(20 + 8 * t, 30 - t, 1.2 + 0.01 * t) for t in range(20)]
    points, found, confidence = landmarks.detect(make.scene(512, 640, place) for place in places)
    assert found.all()
    for t, place in enumerate(places):
        error = np.linalg.norm(points[t, :, :2] - at(portrait_points, *place)[:, :2], axis=1)
        assert error.mean() < 1.5
    assert np.median(confidence) > 0.7


def test_nothing_is_left_over_from_one_clip_to_the_next(landmarks):
    first = [make.scene(300, 600, (5 * t, 0, 1.0)) for t in range(4)]
    second = [make.scene(300, 600, (250 + 2 * t, 10, 1.0)) for t in range(4)]
    alone = landmarks.detect(second)
    landmarks.detect(first)
    for a, b in zip(alone, landmarks.detect(second), strict=True):
        np.testing.assert_array_equal(a, b)
    fresh = LandmarkDetector().detect(second)
    np.testing.assert_array_equal(alone[0], fresh[0])


def test_a_face_that_comes_back_is_found_again(landmarks, portrait_points):
    here, there, nobody = (make.scene(400, 700, *place) for place in ([(10, 20, 1.0)], [(350, 60, 1.2)], []))
    points, found, _ = landmarks.detect([here, here, nobody, nobody, there, there])
    np.testing.assert_array_equal(found, [True, True, False, False, True, True])
    assert np.abs(points[4, :, :2] - at(portrait_points, 350, 60, 1.2)[:, :2]).mean() < 1.5


def test_the_same_one_of_two_faces_is_followed(landmarks):
    frames = [make.scene(400, 900, (20, 40, 1.0 - 0.02 * t), (480, 40, 0.9 + 0.02 * t)) for t in range(8)]
    points, found, _ = landmarks.detect(frames)
    assert found.all()
    assert (points[:, :, 0].mean(1) < 400).all()  # although the other one has become larger


def test_confidence_falls_where_the_face_is_covered(landmarks):
    clear = make.scene(512, 512, (10, 10, 1.6))
    covered = clear.copy()
    covered[225:300, 200:300] = [60, 60, 70]  # mouth and chin
    _, found, confidence = landmarks.detect([clear])
    _, found_covered, confidence_covered = landmarks.detect([covered])
    assert found.all() and found_covered.all()
    assert confidence.min() >= 0 and confidence.max() <= 1
    mouth, eyes = slice(76, 96), [33, 133, 362, 263]
    assert confidence_covered[0, mouth].mean() < 0.7 * confidence[0, mouth].mean()
    assert confidence_covered[0, mouth].mean() < 0.8 * confidence_covered[0, eyes].mean()


def test_nothing_is_written_on_the_terminal():
    code = (
        "import numpy as np\n"
        "from expportrait.estimators.landmarks.mediapipe import LandmarkDetector\n"
        "from expportrait.estimators.mediapipe_models import SelfieSegmenter\n"
        "from tests.video import make\n"
        "assert LandmarkDetector().detect([make.portrait()])[1].all()\n"
        "SelfieSegmenter().segment(make.portrait())\n"
    )
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'src')!r}]\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")


def test_the_face_is_followed_that_is_where_it_is_known_to_be(landmarks, portrait_points):
    """A larger one in the first frame, and one that comes in its stead, are other people's."""
    both = [make.scene(400, 900, (480, 40, 1.2), (20 + 4 * t, 40, 0.9)) for t in range(4)]
    gone = [make.scene(400, 900, (480, 40, 1.2))] * 2
    boxes = [at(portrait_points, 20 + 4 * t, 40, 0.9)[:, :2] for t in range(7)]
    places = np.array([[*box.min(0), *box.max(0), 0.5] for box in boxes])
    points, found, _ = landmarks.detect([*both, *gone, make.scene(400, 900, (44, 40, 0.9))], places)
    assert found.tolist() == [True] * 4 + [False] * 2 + [True]
    assert (points[found][:, :, 0] < 400).all()
    points, found, _ = landmarks.detect([*both, *gone])
    assert found.all() and (points[:, :, 0] > 400).all()


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_the_detector_likes_upright_faces_best(landmarks, turn):
    """By which sources that lie on their side or upside down are told: their landmarks look as sure."""
    scene = np.ascontiguousarray(np.rot90(make.scene(360, 640, (100, 40, 1.0)), -turn // 90))
    (upright,) = landmarks.faces(np.ascontiguousarray(np.rot90(scene, turn // 90)))
    assert upright[4] > 0.88 and abs(upright[5]) < 10
    for face in landmarks.faces(scene) if turn else ():
        assert face[4] < 0.84
