import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from expportrait.head.rotation import axis_angle_to_matrix
from expportrait.metrics import motion
from expportrait.metrics.motion import FIT, SIZE, WEIGHTS, Landmarks, Motion, Tracker, aed, apd, euler, jaw
from expportrait.render import Camera
from expportrait.settings.config import Proxy

from ..video import make


@pytest.fixture(scope="module")
def tracker():
    return Tracker()


@pytest.fixture
def hasty(tracker, monkeypatch):
    """The same with few steps, where it does not matter how good the fit is."""
    monkeypatch.setattr(tracker, "settings", Proxy(**FIT | {"rigid_steps": 15, "landmark_steps": 15}, weights=WEIGHTS))
    return tracker


def landmarks(head, shape, expression, pose, seed=0):
    """What a detector with half a pixel of noise would say of this head."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.tensor([[0.0, -0.12, -1.5]]).expand(len(expression), 3)
    points = head.pose(head.landmarks, shape, expression, axis_angle_to_matrix(pose), place)
    depth = -(points[..., 2:] - points[..., 2:].mean(1, keepdim=True)) * 1536 / 1.5
    pixels = torch.cat([Camera(1536.0, SIZE / 2, SIZE / 2, SIZE, SIZE).project(points), depth], -1)
    pixels = pixels + 0.5 * torch.randn(pixels.shape, generator=generator)
    count = len(expression)
    return Landmarks(pixels.float().numpy(), np.ones(count, bool), np.ones((count, 478), np.float32))


@pytest.fixture(scope="module")
def acting(tracker):
    """Six frames of expression (6, E) and pose (6, 10, 3), and two people's shapes."""
    head = tracker.head
    names = ["smile", "browInnerUp", "pucker", "blink", "smile", "frown"]
    expression = torch.stack([head.expression_of({name: 0.8}) for name in names])
    pose = torch.zeros(6, 10, 3)
    pose[:, 0, 1] = torch.linspace(-0.2, 0.2, 6)
    pose[:, 2, 0] = torch.tensor([0, 0.05, 0.1, 0.05, 0, -0.05])
    pose[:, 3, 0] = torch.tensor([0, 0.2, 0, 0.2, 0.1, 0])
    generator = torch.Generator().manual_seed(1)
    return expression, pose, *(torch.randn(2, head.n_shape, generator=generator) * 0.8)


@pytest.fixture(scope="module")
def driver(tracker, acting):
    """The first person's motion, fitted in full."""
    expression, pose, one, _ = acting
    return tracker.fit(landmarks(tracker.head, one, expression, pose))[0]


def test_equal_frames_are_at_no_distance(hasty, acting):
    expression, pose, shape, _ = acting
    clip = landmarks(hasty.head, shape, expression, pose)
    a, b = hasty.fit(clip, clip)
    for metric in (aed, apd, jaw):
        np.testing.assert_allclose(metric(a, b), 0, atol=1e-5)


def test_angles_and_jaw_follow_the_truth(driver, acting):
    _, pose, *_ = acting
    fitted = driver
    truth = (pose[:, 0] + pose[:, 2]).numpy()  # small angles about different axes
    centred = fitted.angles - fitted.angles.mean(0) - (truth - truth.mean(0))
    assert np.abs(centred).max() < 0.03
    opened = pose[:, 3, 0].numpy()
    assert np.corrcoef(fitted.jaw, opened)[0, 1] > 0.9


def test_the_ruler_is_the_one_of_earlier_figures(driver):
    """Whatever the stages' fit becomes: records of other versions say that they were measured in the same way."""
    assert np.abs(driver.expression).mean() == pytest.approx(0.2203, rel=0.02)
    assert len(motion.RECORDED) == 18 and {*FIT} < {*motion.RECORDED}


def test_another_person_making_the_same_face_is_nearer_than_one_who_does_not(tracker, acting, driver):
    expression, pose, _, other = acting
    follows, still = tracker.fit(landmarks(tracker.head, other, expression, pose, 1),
                                 landmarks(tracker.head, other, expression[:1], pose[:1], 2))  # fmt: skip
    still = Motion(*(v[[0] * 6] for v in vars(still).values()))
    for metric in (aed, apd, jaw):
        assert metric(follows, driver)[1:].mean() < 0.6 * metric(still, driver)[1:].mean(), metric


def test_frames_without_a_face_are_nan_and_do_not_touch_the_others(hasty, acting):
    expression, pose, shape, _ = acting
    whole = landmarks(hasty.head, shape, expression, pose)
    keep = np.array([True, False, True, True, True, True])
    (short,) = hasty.fit(Landmarks(*(v[keep] for v in vars(whole).values())))
    whole.found[~keep] = False
    whole.points[~keep] = 0
    (fitted,) = hasty.fit(whole)
    for name, values in vars(fitted).items():
        assert np.isnan(values[~keep]).all()
        np.testing.assert_array_equal(values[keep], getattr(short, name))
    assert np.isnan(aed(fitted, fitted)[1]) and np.isfinite(aed(fitted, fitted)[keep]).all()


def test_clips_without_any_face_are_all_nan(tracker):
    nothing = tracker.detect(np.full((2, 64, 64, 3), 90, np.uint8))
    assert not nothing.found.any()
    (fitted,) = tracker.fit(nothing)
    assert fitted.expression.shape == (2, tracker.head.n_expression) and np.isnan(fitted.angles).all()


@pytest.mark.parametrize("size", [64, 300, 700])
def test_frames_of_any_size_are_seen_at_one_size(tracker, size):
    frame = cv2.resize(make.scene(300, 300, (0, 0, 1.0)), (size, size), interpolation=cv2.INTER_AREA)
    seen = tracker.detect(frame[None])
    large = tracker.detect(cv2.resize(make.scene(300, 300, (0, 0, 1.0)), (SIZE, SIZE))[None])
    assert seen.found.all()
    assert np.linalg.norm((seen.points - large.points)[0, :, :2], axis=1).mean() < 6


def moving(expression, angles, opening):
    return Motion(np.array(expression, float), np.array(angles, float), np.array(opening, float))


def test_distances_have_known_values():
    a = moving([[0, 0, 0, 0], [1, 1, 1, 1]], [[0, 0, 0], [3.1, 0, 0]], [0.1, 0.2])
    b = moving([[1, -1, 0, 0], [1, 1, 1, 3]], [[0.3, -0.3, 0], [-3.1, 0, 0]], [0.4, 0.2])
    np.testing.assert_allclose(aed(a, b), [0.5, 0.5])
    np.testing.assert_allclose(apd(a, b), [0.2, (2 * np.pi - 6.2) / 3])
    np.testing.assert_allclose(jaw(a, b), [0.3, 0])


angle = st.floats(-1.5, 1.5)


@settings(max_examples=50, deadline=None)
@given(angle, angle, angle, st.tuples(angle, angle, angle))
def test_angles_are_eulers_and_distances_symmetric(pitch, yaw, roll, others):
    rotation = Rotation.from_euler("ZYX", [roll, yaw, pitch]).as_matrix()
    np.testing.assert_allclose(euler(torch.from_numpy(rotation)), [pitch, yaw, roll], atol=1e-6)
    a, b = moving([[0.0]], [[pitch, yaw, roll]], [pitch]), moving([[1.0]], [others], [yaw])
    for metric in (aed, apd, jaw):
        np.testing.assert_allclose(metric(a, b), metric(b, a), atol=1e-12)
        assert metric(a, a)[0] == 0 and metric(a, b)[0] >= 0


def test_the_tracker_says_what_it_is_and_is_pinned(tracker):
    one, two = tracker.backends(True), tracker.backends(False)
    for about in (*one.values(), *two.values()):
        assert about["backend"] == "own tracker" and {"norm", "unit", "reduction", "components", "fit"} <= set(about)
    assert one["apd"]["unit"] == "rad" and one["aed"]["shape"] != two["aed"]["shape"]
    # a setting that fit_landmarks reads and the tracker does not name would follow the proxy's defaults
    read, head = set(), tracker.head

    class Told:
        def __init__(self, of):
            self.of = of

        def __getattr__(self, name):
            read.add(name)
            value = getattr(self.of, name)
            return Told(value) if name == "weights" else 1 if name.endswith("_steps") else value

    points = torch.tensor([1, -1, -1]) * head.landmarks.template.expand(3, -1, -1) * 1000 + 256
    motion.fit_landmarks(head, points, torch.ones(3), 512, Told(tracker.settings))
    assert "jaw" in read and read - {"weights"} <= {*FIT, *WEIGHTS}
