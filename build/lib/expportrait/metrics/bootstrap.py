"""How sure a mean over pairs is: bootstrap intervals (Efron 1979), the pairs drawn anew with replacement."""

import numpy as np

RESAMPLES = 10_000
AT_ONCE = 1 << 21  # pairs drawn at once


def interval(
    values: np.ndarray, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """One number a pair (P,) -> low and high quantile of the means of ``resamples`` drawings, around their mean.

    Pairs without a number (NaN) are left out; None where fewer than two have one. The same values, seed and numbers
    give the same interval. Of two methods on the same pairs, give the differences: pairs that are hard for both do not
    blur them. It speaks of other pairs like these: pairs that share a person are fewer than they look.
    """
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return None
    rng = np.random.default_rng(seed)
    parts = (
        known[rng.integers(len(known), size=(n, len(known)))].mean(1)
        for n in _blocks(resamples, max(1, AT_ONCE // len(known)))
    )
    means = np.concatenate([*parts])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _blocks(count: int, most: int) -> list[int]:
    """Sizes of the parts in which so many drawings are made, for the memory's sake."""
    return [min(most, count - first) for first in range(0, count, most)]
