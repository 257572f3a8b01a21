"""Which faces are one person's, by unit rows of a recognition network. A group's rows are alike on average."""

from typing import NamedTuple

import numpy as np

MOST = 2000  # rows of which all pairs are held at once; what is beyond joins the groups of these
BLOCK = 512  # rows against all others at once: 74 MB for 36,000


# Mean cosine below which two sets of faces are two people's. One person's films have 0.69 or more between their halves,
# and single frames of them 0.41; single frames of two people 0.34 at most (docs/people.md).
LEAST = 0.35
SAME = 0.5  # from which they are one person's


class Alike(NamedTuple):
    """Of each row: its group, counted from 0; the other row most like it, -1 where there is none; that one's cosine."""

    group: np.ndarray
    nearest: np.ndarray
    cosine: np.ndarray


def likeness_of(before: np.ndarray, after: np.ndarray) -> float | None:
    """Mean cosine between unit rows (n,128) and (m,128); None where one side has none that is a number."""
    before, after = (rows[~np.isnan(rows[:, 0])] for rows in (before, after))
    return round(float((before @ after.T).mean()), 3) if len(before) and len(after) else None


def groups(rows: np.ndarray, least: float) -> np.ndarray:
    """Rows (N, D) of length 1 or less -> (N,) numbers of groups, 0 the largest: those whose rows have a cosine of
    ``least`` or more between them, averaged over all pairs of two groups, are one (average linkage)."""
    from scipy.cluster.hierarchy import fcluster, linkage  # slow to load

    if len(rows) < 2:
        return np.zeros(len(rows), int)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST)).round().astype(int))
    some = rows[chosen].astype(np.float64)
    apart = np.maximum(1 - some @ some.T, 0)[np.triu_indices(len(some), 1)]  # of equal rows it may be below 0
    of_some = fcluster(linkage(apart, "average"), 1 - least + 1e-9, "distance") - 1
    found = np.full(len(rows), -1)
    found[chosen] = of_some
    if (found < 0).any():
        means = np.stack([some[of_some == number].mean(0) for number in range(of_some.max() + 1)])
        rest = np.flatnonzero(found < 0)
        cosines = rows[rest] @ means.T
        found[rest] = np.where(cosines.max(1) >= least, cosines.argmax(1), len(means) + np.arange(len(rest)))
    return _by_size(found)


def alike(rows: np.ndarray, names: np.ndarray, least: float) -> Alike:
    """Rows (N, D) of length 1 or less under names (N,) -> the groups that reach over several names, by ``least`` as
    above. All pairs are compared, in blocks; rows of one name are not brought together by it, but by a third one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, number = rows.astype(np.float32), np.unique(names, return_inverse=True)[1]
    count, joined = len(rows), np.arange(len(rows))
    nearest, cosine = np.full(count, -1), np.full(count, -1.0)
    for first in range(0, count, BLOCK):
        cosines = rows[first : first + BLOCK] @ rows.T
        cosines[number[first : first + BLOCK, None] == number] = -2
        best = cosines.argmax(1)
        most = cosines[np.arange(len(best)), best]
        nearest[first : first + BLOCK] = np.where(most > -2, best, -1)
        cosine[first : first + BLOCK] = np.where(most > -2, most, -1)
        a, b = np.nonzero(cosines >= least)
        # what was joined before goes on as edges to the first row of each
        ends = np.concatenate([a + first, np.arange(count)]), np.concatenate([b, joined])
        _, label = connected_components(coo_array((np.ones(len(ends[0]), bool), ends), (count, count)), False)
        joined = np.unique(label, return_index=True)[1][label]
    # a chain of neighbours is no group: within what hangs together, all have to be alike on average
    group, total = np.full(count, -1), 0
    order = np.argsort(joined, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(joined[order])) + 1):
        found = groups(rows[members], least)
        group[members] = found + total
        total += found.max() + 1
    return Alike(group, nearest, cosine)


def _by_size(group: np.ndarray) -> np.ndarray:
    """The numbers so that 0 is the largest group; of equal ones, the one that comes first."""
    _, first, place, sizes = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), int)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[place]
