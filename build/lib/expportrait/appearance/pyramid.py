"""Images filled in where nothing is known, smoothly, over any distance (push-pull)."""

import cv2
import numpy as np


def fill(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """``values`` (H, W, C) float32 with the unknown made from the nearest known.

    ``known`` (H, W) float32 0..1 says how much each pixel counts. Each level of a pyramid averages what is known of the
    one below; on the way back, what is not known is taken from above (Gortler et al. 1996, push-pull). Where nothing at
    all is known, the result is 0.
    """
    weighted = np.concatenate([values * known[..., None], known[..., None]], -1).astype(np.float32)
    levels = [weighted]
    while max(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        smaller = cv2.resize(levels[-1], (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA) * 4
        smaller /= np.maximum(smaller[..., -1:], 1)  # a pixel is known at most once
        levels.append(smaller)
    found = levels[-1][..., :-1] / np.maximum(levels[-1][..., -1:], 1e-6)
    for level in levels[-2::-1]:
        above = cv2.resize(found, level.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(*level.shape[:2], -1)
        found = level[..., :-1] + (1 - level[..., -1:]) * above
    return found
