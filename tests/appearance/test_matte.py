"""Mattes that are wrong by some pixels, where the colours say better."""

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from expportrait.appearance.matte import refined, strays

SIZE = 256
HEAD = np.hypot(*(np.mgrid[:SIZE, :SIZE] - SIZE / 2)) < 80


def picture(noise: float = 6.0) -> np.ndarray:
    """A brown disc before a blue wall, both with grain."""
    colours = np.where(HEAD[..., None], (150, 100, 70), (70, 100, 150))
    grain = np.random.default_rng(0).normal(0, noise, (SIZE, SIZE, 3))
    return np.clip(cv2.GaussianBlur(colours + grain, (0, 0), 0.7), 0, 255).astype(np.uint8)


def soft(mask: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)


@pytest.mark.parametrize("off", [-5, 5])
def test_a_rim_beside_the_edge_moves_to_it(off):
    wrong = np.hypot(*(np.mgrid[:SIZE, :SIZE] - SIZE / 2)) < 80 + off
    given = soft(wrong, 1.0)
    found = refined(picture(), given)
    assert ((given > 0.5) != HEAD).sum() > 2000
    assert ((found > 0.5) != HEAD).sum() < 300, "a tenth"


def test_a_strip_of_the_background_is_cut_off():
    """As a cord beside a hat that the estimator holds for half of a person."""
    strip = np.zeros_like(HEAD)
    strip[100:150, 208:213] = True
    given = np.maximum(soft(HEAD, 1.0), 0.6 * strip).astype(np.float32)
    given[100:150, 200:208] = 0.6
    found = refined(picture(), given)
    assert found[105:145, 209:212].mean() < 0.1 < given[105:145, 209:212].mean()


def test_a_right_matte_keeps_its_soft_rim():
    given = soft(HEAD, 1.5)
    assert np.abs(refined(picture(), given) - given).mean() < 0.002


def test_where_colours_say_nothing_the_matte_stays():
    grey = np.full((SIZE, SIZE, 3), 90, np.uint8)
    given = soft(HEAD, 3.0)
    assert_allclose(refined(grey, given), given, atol=0.5)
    assert ((refined(grey, given) > 0.5) != HEAD).sum() < 100
    for constant in (0.0, 1.0):
        whole = np.full((SIZE, SIZE), constant, np.float32)
        assert_allclose(refined(grey, whole), whole)


def test_what_a_matte_leaves_out_beside_a_person_is_found_by_its_colours():
    """A wisp that is the person's gives no colour to the background."""
    wisp = np.zeros_like(HEAD)
    wisp[110:140, 210:217] = True
    image = picture()
    image[wisp] = (150, 100, 70)
    found = strays(image, soft(HEAD, 1.0))
    assert found[112:138, 212:215].mean() > 0.8
    assert found[~cv2.dilate(np.uint8(wisp | HEAD), np.ones((5, 5))).astype(bool)].mean() < 0.02
