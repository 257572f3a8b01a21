"""The shipped third detector, on the public-domain portraits."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from expportrait.demo.portrait import SOURCES
from expportrait.estimators.arcface import FIVE
from expportrait.estimators.landmarks.mediapipe import FaceDetector, LandmarkDetector
from expportrait.estimators.yunet import YuNet

from ..video import make


@pytest.fixture(scope="module")
def yunet():
    return YuNet()


def far_away(side, height=720, width=1280):
    """Hopper's portrait, ``side`` px wide, in a large picture."""
    picture = SOURCES["hopper"].read()
    small = cv2.resize(picture, (side, side * len(picture) // picture.shape[1]), interpolation=cv2.INTER_AREA)
    scene = make.wall(height, width).copy()
    scene[300 : 300 + len(small), 500 : 500 + side] = small
    return scene


def test_it_finds_faces_that_both_others_miss(yunet):
    others = FaceDetector()
    for scene in (far_away(60), far_away(102), cv2.GaussianBlur(astronaut(), (0, 0), 8)):
        assert len(others.detect(scene)) == 0
        (face,) = yunet.detect(scene)
        assert face[4] > 0.8
    (face,) = yunet.detect(far_away(102))
    x, y = (face[:2] + face[2:4]) / 2
    assert 530 < x < 575 and 310 < y < 375 and 25 < face[2] - face[0] < 50


def test_boxes_and_points_are_where_mediapipe_has_them(yunet):
    picture = astronaut()
    (face,), (known,) = yunet.detect(picture), FaceDetector().detect_with_eyes(picture)
    np.testing.assert_allclose((face[:2] + face[2:4]) / 2, (known[:2] + known[2:4]) / 2, atol=15)
    np.testing.assert_allclose(face[5:9], known[5:9], atol=8)
    points, _, _ = LandmarkDetector().detect([picture])
    np.testing.assert_allclose(face[5:].reshape(5, 2), points[0, FIVE, :2], atol=8)


def test_each_face_is_found_once_the_surest_first(yunet):
    found = yunet.detect(make.scene(400, 800, (20, 50, 1.0), (420, 60, 0.9)))
    assert found.shape == (2, 15) and found.dtype == np.float32 and found[0, 4] >= found[1, 4]
    assert sorted(found[:, 0] > 400) == [False, True]


def test_no_face_is_no_face(yunet):
    assert yunet.detect(make.wall(300, 400)).shape == (0, 15)
    assert yunet.detect(np.zeros((3, 5, 3), np.uint8)).shape == (0, 15)


def test_frames_of_several_sizes_at_the_same_time(yunet):
    scenes = [make.scene(300, 400, (20, 0, 0.8)), make.scene(450, 450, (0, 0, 1.5))] * 6
    alone = [yunet.detect(scene) for scene in scenes]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(yunet.detect, scenes), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_loading_it_says_nothing(capfd):
    YuNet().detect(make.scene(300, 400, (20, 0, 0.8)))
    assert capfd.readouterr() == ("", "")
