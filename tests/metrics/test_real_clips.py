"""The shipped networks on films of real people (benchmarks/real_films.py), where these are at hand."""

from itertools import combinations

import cv2
import numpy as np
import pytest
from benchmarks.real_films import CLIPS, CROWD, EXPRESSIONS, ONE_PERSON, embeddings, encoded, expressive, film, network

from expportrait.demo.portrait import SOURCES
from expportrait.estimators.blendshapes import NAMES, Expressions
from expportrait.estimators.landmarks.mediapipe import FaceDetector
from expportrait.estimators.yunet import YuNet
from expportrait.metrics.blendshapes import aed, apd, gaze
from expportrait.metrics.pair import COPY, FLOOR, RUN, measure
from expportrait.metrics.tools import Tools
from expportrait.settings.config import Evaluate

pytestmark = pytest.mark.skipif(not CLIPS.is_dir(), reason=f"{CLIPS} with films of real people is not there")


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_PERSON)
def test_halves_of_a_clip_are_one_person(name):
    rows, _ = embeddings(name)
    half = len(rows) // 2
    assert (rows[:half] @ rows[half:].T).mean() > 0.7


@pytest.mark.slow
def test_two_clips_are_two_people():
    names = (*ONE_PERSON, *SOURCES)
    assert sum(embeddings(name)[1] >= 100 for name in names) >= 4
    across = [(embeddings(a)[0] @ embeddings(b)[0].T).mean() for a, b in combinations(names, 2)]
    assert np.mean(across) < 0.2 and max(across) < 0.35


@pytest.mark.parametrize("what", EXPRESSIONS)
def test_known_expressions_have_their_scores(what):
    frame, high, low = EXPRESSIONS[what]
    scores = dict(zip(NAMES, expressive()[frame], strict=True))
    assert min(scores[name] for name in high) > 0.42 > 0.25 > max(scores[name] for name in low)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["expressive_512.mp4", "landscape_1280x720.mp4"])
def test_a_film_held_still_or_mirrored_is_worse_than_the_film_encoded_again(name):
    frames = film(name, 6)
    again = encoded(frames)
    true, coded, mirrored = (network().detect(some) for some in (frames, again, [frame[:, ::-1] for frame in frames]))
    held = Expressions(*(np.repeat(values[:1], len(frames), 0) for values in vars(true).values()))
    assert np.mean([np.abs(a - b.astype(int)).mean() for a, b in zip(frames, again, strict=True)]) > 1.5
    for distance in (aed, gaze, apd):
        floor = distance(coded, true).mean()
        assert 0 < floor < distance(held, true).mean() / 4, distance.__name__
        assert floor < distance(mirrored, true).mean() / 3, distance.__name__


def test_the_jitter_of_a_still_frame_is_far_below_a_change_of_expression():
    frames, rng = film("expressive_512.mp4"), np.random.default_rng(0)
    still = frames[308]
    noisy = [(still + rng.normal(0, 5, still.shape)).clip(0, 255).astype(np.uint8) for _ in range(8)]
    rest, found, grin = (network().detect(some) for some in ([still], noisy, [frames[14]]))
    repeated = Expressions(*(np.repeat(values, 8, 0) for values in vars(rest).values()))
    assert aed(found, repeated).max() < aed(rest, grin)[0] / 8


@pytest.fixture(scope="module")
def tools():
    return Tools.load(Evaluate(), "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["expressive_512.mp4", "landscape_1280x720.mp4"])
def test_a_held_or_mirrored_result_is_told_from_the_noise_floor_by_every_measure(tools, name):
    """As `evaluate` measures a pair that drives itself: square frames. A mirrored face is that person's still."""
    frames = np.stack([cv2.resize(f[:, (f.shape[1] - f.shape[0]) // 2 :][:, : f.shape[0]], (512, 512),
                                  interpolation=cv2.INTER_AREA) for f in film(name, 24)])  # fmt: skip
    mirrored = measure(tools, np.ascontiguousarray(frames[:, :, ::-1]), frames, frames[0], own=True)
    held, floor, result = (mirrored[method].fields() for method in (COPY, FLOOR, RUN))
    assert not any(held["no_face"].values()) and not any(floor["no_face"].values())
    for measured in ("lpips", "l1", "aed", "apd", "gaze"):
        assert 0 < floor[measured] < held[measured] / 3, measured
        assert floor[measured] < result[measured] / 3, measured
    for measured in ("psnr", "ssim"):
        assert floor[measured] > held[measured] + 0.02 and floor[measured] > result[measured] + 0.02, measured
    assert floor["csim"] > held["csim"] > 0.5 < result["csim"]


def test_noise_on_a_still_clip_is_far_below_a_smile(tools):
    """A film that holds one frame, with noise; and one that holds the grin."""
    frames, rng = film("expressive_512.mp4"), np.random.default_rng(0)
    still = np.stack([frames[308]] * 6)
    noisy = (still + rng.normal(0, 5, still.shape)).clip(0, 255).astype(np.uint8)
    scores = measure(tools, noisy, still, frames[14], own=True)
    assert 0 < scores[RUN].fields()["aed"] < scores[COPY].fields()["aed"] / 6
    assert scores[RUN].fields()["csim"] > scores[COPY].fields()["csim"]


@pytest.mark.slow
def test_yunet_finds_more_of_a_crowd_than_mediapipes_two():
    frames = film(CROWD, 9)
    yunet, others = YuNet(), FaceDetector()
    assert sum(len(yunet.detect(f)) for f in frames) > 1.3 * sum(len(others.detect(f)) for f in frames)
