"""Images filled in where nothing is known, smoothly, over any distance (push-pull)."""

import cv2
import numpy as np

SOFTER = (3.0, 8.0, 20.0)  # px of 512: steps in which what is spread is smoothed


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


def spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """As ``fill``, but each place goes on as the known nearest to it, the more smoothly the farther it is.

    A large hole between two surfaces, such as a flag and the sky on both sides of a head, has both in it, and not the
    mean of the two.
    """
    sure = known > 0.99
    if not sure.any():
        return fill(values, known)
    distance, label = cv2.distanceTransformWithLabels(
        np.uint8(~sure), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    places = np.zeros(label.max() + 1, np.int64)
    places[label[sure]] = np.flatnonzero(sure)
    calm = fill(values, known)  # without the grain of single pixels
    found = calm.reshape(-1, calm.shape[-1])[places[label]].astype(np.float32)
    out, size = found, values.shape[1] / 512
    for sigma in SOFTER:
        smooth = cv2.GaussianBlur(out, (0, 0), sigma * size).reshape(found.shape)
        share = np.clip(distance / (2 * sigma * size), 0, 1)[..., None]
        out = out + share * (smooth - out)
    return out
