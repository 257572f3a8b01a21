"""What lies beyond a head's outline, when the head turns, and when it moves."""

import numpy as np
import pytest

from expportrait.appearance.outline import Outline, beyond

SIZE = 256
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]


def disc(x: float = 128.0, radius: float = 60.0) -> np.ndarray:
    return np.hypot(COLUMNS - x, ROWS - 128) < radius


def constant(x: float, covered: np.ndarray) -> np.ndarray:
    """(H, W, 2) px: a surface that shows what lies ``x`` px to the right."""
    return np.where(covered[..., None], np.float32([x, 0]), np.float32(0))


def test_distances_and_directions():
    outline = Outline.of(disc())
    assert outline.distance[128, 128 + 90] == pytest.approx(30, abs=1.5)
    assert outline.distance[128, 128] == pytest.approx(-60, abs=1.5)
    assert outline.outward[128, 200] == pytest.approx([1, 0], abs=0.05)
    assert beyond(disc())[128, 128] == 0


def test_a_turned_head_keeps_its_hair_at_its_outline():
    """The outline stays, the surface slides under it by 20 px: so does the hair only where the outline slides along."""
    covered = disc()
    flow, counts = Outline.of(covered).followed(covered, constant(20, covered))
    beside, above = (flow[128, 128 + 66], flow[128 - 66, 128])
    assert abs(beside[0]) < 6, "the surface would have drawn what lies 20 px farther in"
    assert above[0] > 12
    assert counts[128, 128 + 66] > 0.9


def test_a_head_that_only_moves_takes_its_hair_along():
    moved = disc(x=140)
    flow, counts = Outline.of(disc()).followed(moved, constant(-12, moved))
    source = COLUMNS + flow[..., 0] * counts[..., 0] - 12 * (1 - counts[..., 0])
    ring = (beyond(moved) > 0) & (beyond(moved) < 30)
    assert np.abs(source - (COLUMNS - 12))[ring].max() < 2


def test_in_its_own_pose_nothing_follows_the_outline():
    covered = disc()
    counts = Outline.of(disc()).followed(covered, constant(0, covered))[1]
    assert counts.max() < 0.1
