import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from expportrait.appearance.pyramid import fill, spread


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_what_is_known_stays_and_the_rest_lies_between(height, width, seed, share):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(height, width, 2)).astype(np.float32)
    known = (rng.random((height, width)) < share).astype(np.float32)
    filled = fill(values, known)
    assert filled.shape == values.shape
    if not known.any():
        assert (filled == 0).all()
        return
    there = known == 1
    assert np.abs(filled[there] - values[there]).max() < 1e-5
    assert (filled >= values[there].min(0) - 1e-4).all() and (filled <= values[there].max(0) + 1e-4).all()


def test_a_hole_is_filled_by_what_is_near():
    values = np.zeros((64, 64, 1), np.float32)
    values[:, 32:] = 1
    known = np.ones((64, 64), np.float32)
    known[20:44, 4:16] = known[20:44, 48:60] = 0
    filled = fill(values, known)[..., 0]
    assert filled[32, 10] < 0.05 and filled[32, 54] > 0.95


def test_a_wide_hole_between_two_surfaces_has_both_in_it():
    values = np.zeros((128, 128, 1), np.float32)
    values[:, 64:] = 1
    known = np.ones((128, 128), np.float32)
    known[:, 24:104] = 0
    found = spread(values, known)[..., 0]
    assert found[:, 40].max() < 0.2 and found[:, 88].min() > 0.8
    assert np.abs(np.diff(found[64, 24:104])).max() < 0.2, "no edge"
    assert (found[:, :24] == 0).all() and (found[:, 104:] == 1).all()


def test_spread_lies_between_what_is_known_and_needs_something():
    rng = np.random.default_rng(0)
    values, known = rng.normal(size=(40, 50, 3)).astype(np.float32), (rng.random((40, 50)) < 0.1).astype(np.float32)
    there, found = known == 1, spread(values, known)
    assert np.abs(found[there] - values[there]).max() < 1e-5
    assert found.min() >= values[there].min() - 1e-4 and found.max() <= values[there].max() + 1e-4
    assert (spread(values, np.zeros_like(known)) == 0).all()
