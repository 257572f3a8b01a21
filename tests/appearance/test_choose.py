import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.appearance.choose import spread
from expportrait.head.rotation import axis_angle_to_matrix


def looking(yaws):
    """(T, 3, 3) heads turned by these angles, degrees."""
    return axis_angle_to_matrix(torch.tensor([[0, np.deg2rad(yaw), 0] for yaw in yaws], dtype=torch.float32))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 6), st.text(min_size=1, max_size=8))
def test_each_window_has_as_many_different_portraits_as_there_can_be(windows, references, portraits, clip):
    frames = 2 * windows + 9
    facing = looking(np.random.default_rng(windows).uniform(-40, 40, frames))
    chosen = spread(facing, range(0, 2 * windows, 2), 9, range(references), portraits, clip)
    assert len(chosen) == windows
    for several in chosen:
        assert len(several) == len({*several}) == min(portraits, references) and {*several} <= {*range(references)}
    assert chosen == spread(facing, range(0, 2 * windows, 2), 9, range(references), portraits, clip)


def test_distances_of_pose_are_spread_from_near_to_far():
    yaws = np.linspace(-30, 30, 61)
    references, starts = range(0, 61, 4), range(0, 50)
    away = []
    for start, (reference,) in zip(starts, spread(looking(yaws), starts, 9, references, 1, "a"), strict=True):
        distances = np.abs(yaws[list(references)] - yaws[start + 4])
        away.append((distances < distances[reference]).mean())
    assert np.abs(np.histogram(away, 4, (0, 1))[0] - 50 / 4).max() <= 3


def test_clips_of_one_window_do_not_all_take_the_same_place():
    places = {spread(looking(range(16)), [0], 9, range(0, 16, 2), 1, f"clip {n}")[0][0] for n in range(40)}
    assert len(places) >= 6
