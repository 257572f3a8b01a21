"""How the skin of known frames tells where a head stands in others."""

import numpy as np
from scipy.ndimage import gaussian_filter, shift

from expportrait.fit.evidence.skin import best_correlation


def textured(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=shape)


def test_a_shift_between_pixels_is_found() -> None:
    picture = gaussian_filter(textured((64, 64)), 2)
    weight = np.zeros((64, 64))
    weight[20:44, 20:44] = 1
    found, moved = best_correlation(shift(picture, (1.4, -2.3)) * weight, weight, picture, 4)
    assert np.allclose(moved, (-1.4, 2.3), atol=0.1)
    assert found > 0.99


def test_the_correlation_finds_a_shifted_picture_under_other_light() -> None:
    picture = textured((64, 64))
    weight = np.zeros((64, 64))
    weight[20:44, 20:44] = 1
    found, moved = best_correlation(np.roll(picture, (-3, 2), (0, 1)) * weight, weight, 0.4 * picture + 7, 4)
    assert np.allclose(moved, (3, -2), atol=0.1)
    assert found > 0.999
