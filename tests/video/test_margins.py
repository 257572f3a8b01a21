import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expportrait.video.margins import NONE, Margins

SIDES = st.floats(0, 0.43)  # so that a whole pixel of the smallest picture is left


def test_no_margins_change_nothing():
    images = np.random.default_rng(0).random((2, 8, 8, 3))
    before = images.copy()
    assert not NONE and Margins.of({}, 8) == Margins.of({"padded": [0, 0, 0, 0]}, 8) == NONE
    NONE.repeat(images)
    NONE.clear(images)
    assert (images == before).all() and NONE.inside(8).all()


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([16, 96, 128]))
def test_pixels_that_show_anything_but_the_picture_are_outside(left, top, right, bottom, size):
    margins = Margins(left, top, right, bottom)
    fine = np.mgrid[: 4 * size, : 4 * size] / 4 + 0.125  # y, x of quarter pixels' centres
    shown = margins.holds(np.stack([fine[1], fine[0]], -1), size)
    inside = margins.inside(size)
    whole = shown.reshape(size, 4, size, 4).all((1, 3))
    assert not (inside & ~whole).any() and inside.sum() >= whole.sum() - 4 * size


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_border_is_repeated_or_cleared(dtype):
    picture = np.arange(1, 31).reshape(1, 5, 6).astype(dtype)
    margins, where = Margins.of({"padded": [1, 2, 3, 3]}, 10), (slice(None), slice(2, 7), slice(1, 7))
    images = np.full((1, 10, 10), 99, dtype)
    images[where] = picture
    repeated = images.copy()
    margins.repeat(repeated)
    assert (repeated[0] == np.pad(picture[0], ((2, 3), (1, 3)), mode="edge")).all()
    margins.clear(images)
    assert (images[0] == np.pad(picture[0], ((2, 3), (1, 3)))).all()
