"""The angle of a head through a far turn, from what every angle costs."""

import numpy as np
import pytest

from expportrait.fit.evidence.turn_path import ANGLES, ahead, between, smoothest


@pytest.mark.parametrize("true", [-3.0, 5.0, 11.0, 27.5])
def test_the_least_cost_may_lie_between_the_angles_looked_at(true: float) -> None:
    known = {angle: min(((angle - true) / 4) ** 2, 30.0) for angle in ANGLES[::8].tolist()}
    found = ANGLES[between(known, ANGLES).argmin()]
    assert abs(found - true) <= 2


def test_a_turn_that_goes_on_is_followed_without_falling_behind() -> None:
    """Costs that say 11 degrees more in every frame, known every 8 degrees."""
    true = 11.0 * np.arange(1, 6)
    costs = np.stack([between({a: ((a - x) / 4) ** 2 for a in ANGLES[::8].tolist()}, ANGLES) for x in true])
    assert np.abs(smoothest(costs, np.r_[-11.0, 0.0, np.zeros(5)], 2, 6) - true).max() <= 1


def test_what_is_ahead_comes_from_the_nearer_end() -> None:
    way = np.array([0.0, 10, 0, 0, 0, 40, 35])
    assert ahead(way, 2, 2, 4) == 20
    assert ahead(way, 4, 2, 4) == 45
    assert np.isnan(ahead(way, 0, 0, 6))
