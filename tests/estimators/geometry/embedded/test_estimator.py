"""The embedded estimator with its fit in the loop, against a rendered head whose normals and depth are known."""

import hashlib
from importlib.resources import files

import numpy as np
import pytest
import torch
from benchmarks.geometry_scenes import make_scene

from expportrait.estimators.geometry.embedded.estimator import EmbeddedEstimator
from expportrait.estimators.geometry.registry import load_estimator
from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.settings.config import GeometrySettings, HeadSettings, Proxy
from expportrait.video.margins import Margins

SIZE = 256
QUICK = Proxy(rigid_steps=60, landmark_steps=100)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def estimator():
    return EmbeddedEstimator(load_head(), settings=QUICK)


@pytest.fixture(scope="module")
def scene(estimator):
    return make_scene(estimator.head, 1, SIZE, dressed=False)


@pytest.fixture(scope="module")
def detected(scene):
    points, found, certainty = LandmarkDetector().detect(scene.frame[None])
    assert found.all()
    return points, certainty


@pytest.fixture(scope="module")
def estimate(estimator, scene, detected):
    points, certainty = detected
    return estimator.estimate(scene.frame[None], points, np.zeros(1, bool), certainty)


def angle(a, b):
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


def face_of(scene, head):
    return np.isin(scene.region, [head.REGIONS.index("face"), head.REGIONS.index("lips")])


def test_maps_have_the_shapes_and_ranges_they_promise(estimate):
    assert estimate.normals.shape == (1, SIZE, SIZE, 3)
    assert estimate.depth.shape == estimate.mask.shape == estimate.confidence.shape == (1, SIZE, SIZE)
    assert estimate.depth_space == "depth"
    np.testing.assert_allclose(np.linalg.norm(estimate.normals, axis=-1), estimate.mask > 0, atol=1e-4)
    for name in ("mask", "confidence"):
        values = getattr(estimate, name)
        assert values.min() >= 0 and values.max() <= 1
    assert not estimate.depth[estimate.mask == 0].any() and not estimate.confidence[estimate.mask == 0].any()


def test_true_normals_are_met_on_the_face_and_around_it(estimate, estimator, scene):
    """12.5 degrees is what prototypes reached on such faces; the rest of a bare head is easier than hair."""
    error = angle(estimate.normals[0], scene.normals)
    assert error[face_of(scene, estimator.head)].mean() < 12.5
    assert error[scene.mask & (estimate.mask[0] > 0.5)].mean() < 15


def test_true_depth_is_met_up_to_scale_and_shift(estimate, scene):
    where = scene.mask & (estimate.confidence[0] > 0.45)
    scale, shift = np.polyfit(estimate.depth[0][where], scene.depth[where], 1)
    assert scale > 0
    assert np.abs(scale * estimate.depth[0] + shift - scene.depth)[where].mean() < 0.008


def test_mask_covers_the_person(estimate, scene):
    mask = estimate.mask[0] > 0.5
    assert (mask & scene.mask).sum() / (mask | scene.mask).sum() > 0.98


def test_confidence_is_higher_where_the_error_is_lower(estimator):
    """On a dressed head: a bare one is the model itself, which the fit knows everywhere."""
    scene = make_scene(estimator.head, 1, SIZE)
    points, found, certainty = LandmarkDetector().detect(scene.frame[None])
    estimate = estimator.estimate(scene.frame[None], points, ~found, certainty)
    error, confidence = angle(estimate.normals[0], scene.normals), estimate.confidence[0]
    where = scene.mask & (estimate.mask[0] > 0.5)
    assert error[where & (confidence > 0.6)].mean() < error[where & (confidence < 0.4)].mean() - 3


def test_batches_of_any_size_give_the_same(estimator, scene, detected):
    points, certainty = (np.repeat(x, 3, 0) for x in detected)
    points = points + np.arange(3, dtype=np.float32)[:, None, None] * [1.5, 0.5, 0]
    frames, interpolated = np.stack([scene.frame] * 3), np.zeros(3, bool)
    one = EmbeddedEstimator(estimator.head, settings=QUICK, batch=1)
    two = EmbeddedEstimator(estimator.head, settings=QUICK, batch=2)
    parts = list(two.batches(frames, points, interpolated, certainty))
    assert [len(part) for part in parts] == [2, 1]
    whole = one.estimate(frames, points, interpolated, certainty)
    for name in ("normals", "depth", "mask", "confidence"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(joined, getattr(whole, name), atol=1e-4)


def test_where_the_picture_ends_in_the_hair_no_surface_ends(estimator, scene, detected, estimate):
    """The border is repeated there, as ``crop`` does it; without knowing it, it is off by 14 degrees below."""
    points, certainty = detected
    top = round(float(points[0, 10, 1]) / 2)
    frame = scene.frame[np.arange(SIZE).clip(top)]
    below = np.zeros((SIZE, SIZE), bool)
    below[top : top + 25] = estimate.mask[0][top : top + 25] > 0.9

    def error(found):
        return angle(found.normals[0], scene.normals)[below].mean()

    cut = estimator.estimate(frame[None], points, np.zeros(1, bool), certainty, Margins(top=top / SIZE))
    assert error(cut) < error(estimate) + 6 < 12
    assert (cut.mask[0][:top] == cut.mask[0][top]).all(), "the mask goes on as at the edge"


def test_frames_without_a_detection_are_trusted_less(estimator, scene, detected):
    points, certainty = (np.repeat(x, 3, 0) for x in detected)
    interpolated = np.array([False, True, False])
    out = estimator.estimate(np.stack([scene.frame] * 3), points, interpolated, certainty)
    face = polygon_centre(scene)
    assert out.confidence[1][face] < 0.5 * out.confidence[0][face]
    assert np.abs(out.normals[1] - out.normals[0]).mean() < 0.05


def test_frames_without_points_fall_back_to_the_silhouette(estimator, scene, detected):
    points, certainty = (np.repeat(x, 2, 0) for x in detected)
    points[1] = np.nan
    out = estimator.estimate(np.stack([scene.frame] * 2), points, np.array([False, True]), certainty)
    np.testing.assert_allclose(np.linalg.norm(out.normals[1], axis=-1), out.mask[1] > 0, atol=1e-4)
    assert np.isfinite(out.depth).all()
    assert out.confidence[1].max() < 0.3
    error = [angle(out.normals[t], scene.normals)[face_of(scene, estimator.head)].mean() for t in (0, 1)]
    assert error[0] < error[1] < 45


def test_points_that_are_uncertain_lower_the_confidence_there(estimator, scene, detected):
    points, certainty = detected
    doubted = certainty.copy()
    lips = estimator.head.regions[: len(estimator.distance)] == estimator.head.REGIONS.index("lips")
    doubted[0, estimator.distance[lips].argmin(1).unique()] = 0.05
    plain = estimator.estimate(scene.frame[None], points, np.zeros(1, bool), certainty)
    out = estimator.estimate(scene.frame[None], points, np.zeros(1, bool), doubted)
    lips = (scene.region == estimator.head.REGIONS.index("lips")) & (plain.confidence[0] > 0.4)
    assert out.confidence[0][lips].mean() < 0.5 * plain.confidence[0][lips].mean()


def test_points_that_a_detector_never_gives_do_not_count(estimator, scene, detected):
    points, certainty = detected
    fewer = certainty.copy()
    fewer[:, ::3] = 0
    plain = estimator.estimate(scene.frame[None], points, np.zeros(1, bool), certainty)
    out = estimator.estimate(scene.frame[None], points, np.zeros(1, bool), fewer)
    face = (scene.region == estimator.head.REGIONS.index("face")) & (plain.confidence[0] > 0.4)
    assert out.confidence[0][face].mean() > 0.9 * plain.confidence[0][face].mean()


def test_loading_by_name():
    loaded = load_estimator("embedded", HeadSettings(), GeometrySettings(grid=64), "cpu")
    assert (loaded.name, loaded.depth_space, loaded.grid) == ("embedded", "depth", 64)
    assert "not calibrated" in loaded.statement


def polygon_centre(scene) -> tuple[int, int]:
    """Row and column of the nose tip."""
    x, y = scene.points[4, :2]
    return int(y), int(x)


def test_it_says_which_model_file_it_used(estimator):
    ((name, digest),) = estimator.files.items()
    (file,) = files("mediapipe").joinpath("modules").glob(f"*/{name}")
    assert name == "selfie_segmentation.tflite"
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
