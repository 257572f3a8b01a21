import numpy as np
from scipy import sparse

from expportrait.fit.growth import closed, ears
from expportrait.head import Head


def test_an_ear_is_held_with_its_hollow(head: Head) -> None:
    """Hair beside an ear would draw a hollow that is not held out of the rest, and tear it."""
    points, held = head.dense.template.numpy(), (ears(head) > 0.9).numpy()
    scalp = (head.regions == head.REGIONS.index("scalp")).numpy()
    for side in (points[:, 0] > 0, points[:, 0] < 0):
        low, high = np.quantile(points[held & side, 1:], [0.02, 0.98], axis=0)
        assert (high - low < [0.07, 0.04]).all()
        beside = scalp & side & ((points[:, 1:] > low) & (points[:, 1:] < high)).all(1)
        assert held[beside].mean() > 0.95


def test_closing_fills_holes_and_keeps_the_outline() -> None:
    side = 30
    row, column = np.divmod(np.arange(side**2), side)
    edges = sparse.kronsum(*[sparse.diags([1.0, 1.0], [-1, 1], (side, side))] * 2).tocsr()
    square = (np.abs(row - 15) < 9) & (np.abs(column - 15) < 9)
    hole = np.abs(row - 15) + np.abs(column - 15) < 3
    assert (closed(square & ~hole, edges, 3) == square).all()
    assert not closed(square & ~hole, edges, 2)[hole].all()
