"""How the skin of known frames tells where a head stands in others."""

import numpy as np

from expportrait.fit.evidence.skin import best_correlation


def textured(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=shape)


def test_the_correlation_finds_a_shifted_picture_under_other_light() -> None:
    picture = textured((64, 64))
    weight = np.zeros((64, 64))
    weight[20:44, 20:44] = 1
    found, shift = best_correlation(np.roll(picture, (-3, 2), (0, 1)) * weight, weight, 0.4 * picture + 7, 4)
    assert shift == (3, -2)
    assert found > 0.999
