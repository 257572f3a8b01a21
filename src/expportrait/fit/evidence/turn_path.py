"""The angle of a head through the frames of a far turn, from what every angle costs in each of them."""

import numpy as np
from scipy.interpolate import Akima1DInterpolator

ANGLES = np.arange(-24.0, 65.0)  # degrees beyond what lies between the neighbours, of which one is chosen
PACE = 6.0  # degrees a frame^2 of a jerk that costs one unit
JERK = 12.0  # units, what a jerk costs at most: heads do turn fast


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and last frame of each run of True in (T,) bool."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(int)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def between(known: dict[float, float], at: np.ndarray) -> np.ndarray:
    """(n,) costs ``at`` angles (n,) between those ``known``: smooth, and least where the known ones fall towards."""
    angles = np.array(sorted(known))
    return Akima1DInterpolator(angles, [known[angle] for angle in angles], method="makima")(at)


def jerk(bend: np.ndarray) -> np.ndarray:
    """Cost of second differences, degrees; none where they are not known."""
    return np.nan_to_num(np.minimum((bend / PACE) ** 2, JERK))


def ahead(way: np.ndarray, t: int, first: int, last: int) -> float:
    """Where frame t of those from ``first`` to ``last`` would be if it went on as the two before it, coming from the
    nearer end; ``way`` (T,) degrees."""
    step = 1 if t - first <= last - t else -1
    a, b = t - 2 * step, t - step
    if not 0 <= b < len(way):
        return float("nan")
    return 2 * way[b] - way[a] if 0 <= a < len(way) else way[b]


def smoothest(costs: np.ndarray, angle: np.ndarray, first: int, last: int) -> np.ndarray:
    """(K,) degrees beyond ``angle`` (T,) in the frames ``first`` to ``last``: the path through ``costs`` (K, n) of
    ANGLES with the least sum of costs and jerks (dynamic programming over pairs)."""
    n = len(ANGLES)
    known = lambda t: np.full(n, angle[t]) if 0 <= t < len(angle) else None  # noqa: E731
    levels = [known(first - 2), known(first - 1)]
    levels += [angle[t] + ANGLES for t in range(first, last + 1)] + [known(last + 1), known(last + 2)]
    price = [np.zeros(n)] * 2 + list(costs) + [np.zeros(n)] * 2
    inside = [k for k, level in enumerate(levels) if level is not None]
    a, b = inside[0], inside[1]
    total, steps = price[a][:, None] + price[b][None], []  # (n, n): of the last two
    for k in inside[2:]:
        every = total[..., None] + jerk(levels[k - 2][:, None, None] - 2 * levels[k - 1][:, None] + levels[k])
        steps.append(every.argmin(0))
        total = every.min(0) + price[k]
    i, j = np.unravel_index(total.argmin(), total.shape)
    path = [j, i]
    for step in reversed(steps):
        path.append(step[path[-1], path[-2]])
    chosen = {k: levels[k][i] for k, i in zip(inside, reversed(path), strict=True)}
    return np.array([chosen[k] for k in range(2, 2 + len(costs))]) - angle[first : last + 1]
