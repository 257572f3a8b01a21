from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expportrait.video.rates import TICKS, USUAL, Clock, even_rate, exact, unrounded
from expportrait.video.shots import rate as rate_of


@pytest.mark.parametrize("rate", [*USUAL, Fraction(2997, 100), Fraction(37, 3)], ids=str)
@pytest.mark.parametrize("grid", [None, 1000, 600, 90000])
@pytest.mark.parametrize("count", [2, 100, 3000])
def test_even_times_have_their_rate_whatever_grid_they_were_rounded_to(rate, grid, count):
    times = np.arange(count) / float(rate) + 12.345
    times = times if grid is None else np.round(times * grid) / grid
    found = even_rate(times, float(rate) * (1 + 1e-5))
    if rate in USUAL and count > 2:
        assert found == rate or abs(float(found / rate) - 1) * count / float(rate) < 2e-3
    assert np.abs(np.arange(count) / float(found) - (times - times[0])).max() <= 2e-3


def test_longer_films_tell_30_from_its_neighbour():
    for rate in (Fraction(30), Fraction(30000, 1001)):
        assert even_rate(np.round(np.arange(300) / float(rate), 3), 30) == rate


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=60))
def test_frames_follow_each_other_and_are_where_their_times_are(steps):
    times = np.cumsum([5.0, *steps])
    clock = Clock(30, times)
    ticks = [clock.tick(n) for n in range(len(times) + 3)]
    assert ticks[0] == 0 and all(a < b for a, b in pairwise(ticks))
    off = np.abs(np.array(ticks[: len(times)]) * float(clock.base) - (times - 5))
    assert off.max() <= 2e-3 + len(times) / TICKS


def test_without_times_frames_have_the_rate_that_is_said():
    assert Clock(30000 / 1001).base == Fraction(1001, 30000) and Clock(25, []).tick(7) == 7
    assert exact(23.976023976) == Fraction(24000, 1001)
    assert Clock(25, [3.0]).rate == 25


def test_last_digits_that_sums_leave_are_no_part_of_a_rate():
    assert unrounded(24.999999999999996) == 25 and unrounded(29.97002997002998) == 30000 / 1001
    assert unrounded(24.9999) == 24.9999 and unrounded(17.123456) == 17.123456
    for start in (0.0, 1.04, 2.6, 7.32):  # times as clips from the middle of a film have them
        assert all(rate_of([start + n / 25 for n in range(count)]) == 25 for count in range(2, 200))
