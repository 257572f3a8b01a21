"""Runs of usable frames, and what is left between them: on numbers alone."""

import math
from collections.abc import Hashable, Sequence
from itertools import groupby, pairwise

Range = tuple[int, int]  # half-open


def runs(flags: Sequence[bool], times: Sequence[float], gap: float) -> list[Range]:
    """Half-open ranges of looks that begin and end with one that is usable (``flags``), with never more than ``gap`` s
    from one usable look to the next one, beyond those that follow each other. ``times``: of the looks, s."""
    found: list[list[int]] = []
    for look in (n for n, usable in enumerate(flags) if usable):
        if found and (look == found[-1][1] or times[look] - times[found[-1][1] - 1] <= gap):
            found[-1][1] = look + 1
        else:
            found.append([look, look + 1])
    return [(first, end) for first, end in found]


def parts(first: int, end: int, times: Sequence[float], longest: float) -> list[Range]:
    """The frames first <= t < end in as few parts as have at most ``longest`` s each, of nearly equal length.

    ``times``: s, of all frames, and one more: when the last one ends.
    """
    count = max(1, math.ceil((times[end] - times[first]) / longest - 1e-6))
    step = (times[end] - times[first]) / count
    cuts = [first]
    for n in range(1, count):
        wanted = times[first] + n * step
        cuts.append(max(cuts[-1] + 1, min(range(first, end), key=lambda t: abs(times[t] - wanted))))
    return [(a, b) for a, b in pairwise([*cuts, end]) if a < b]


def pieces(first: int, end: int, cuts: Sequence[int], blends: Sequence[Range]) -> tuple[list[Range], list[Range]]:
    """The frames first <= t < end as shots, between ``cuts`` and ``blends``, and as blends. Together they cover all
    frames once. A cut within a blend, or at its ends, is a part of that."""
    inside = [(max(first, a), min(end, b)) for a, b in blends if max(first, a) < min(end, b)]
    inner = [cut for cut in cuts if first < cut < end and not any(a <= cut <= b for a, b in inside)]
    bounds = sorted({first, end, *inner, *(side for blend in inside for side in blend)})
    shots = [(a, b) for a, b in pairwise(bounds) if not any(c <= a < d for c, d in inside)]
    return shots, inside


def ranges(labels: Sequence[Hashable], first: int = 0) -> list[tuple[int, int, Hashable]]:
    """Equal labels that follow each other -> begin, end, label; ``first``: the number of the first one."""
    found = []
    for label, same in groupby(labels):
        count = len(list(same))
        found.append((first, first + count, label))
        first += count
    return found
