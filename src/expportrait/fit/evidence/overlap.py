"""How the outline of a head in one pose agrees with a mask."""

import numpy as np

from expportrait.fit.evidence.targets import distance, outline_distance

REACH = 16  # part of the picture by which a head is shifted at most


def best_shift(covered: np.ndarray, mask: np.ndarray) -> tuple[float, float, tuple[int, int]]:
    """Intersection over union of two (h, w) 0/1 images; the largest one when the first is shifted by up to a sixteenth
    of the picture; and that shift, rows and columns."""
    reach = len(mask) // REACH
    common = np.fft.irfft2(np.fft.rfft2(mask) * np.fft.rfft2(covered).conj(), s=mask.shape)
    common = np.roll(common, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    row, column = np.unravel_index(common.argmax(), common.shape)
    here, best = (
        float(both / max(covered.sum() + mask.sum() - both, 1)) for both in (common[reach, reach], common.max())
    )
    return here, best, (int(row) - reach, int(column) - reach)


def outline_gap(own: np.ndarray, mask: np.ndarray, above: np.ndarray, cap: float) -> float:
    """Mean px, at most ``cap``, from the outlines of two (h, w) 0/1 images to each other, where these lie ``above``
    (h, w) bool and not at its edge. Of a head that turns, the area hardly changes; nose, chin and nape do."""
    above = distance(above) > 2
    far = [np.abs(outline_distance(x)) for x in (own, mask)]
    mine, theirs = (above & (x < 1) for x in far)
    if not mine.any() or not theirs.any():
        return cap
    return float(np.minimum(far[1][mine], cap).mean() + np.minimum(far[0][theirs], cap).mean()) / 2
