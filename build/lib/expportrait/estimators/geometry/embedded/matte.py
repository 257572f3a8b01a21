"""A soft mask of head and shoulders: a person segmenter's score, snapped to the picture's edges, steady in time."""

import cv2
import numpy as np

RADIUS, EPS = 12, 64.0  # px at 512 and squared grey levels: guided filter, He et al. 2010
LOW, HIGH = 0.15, 0.85  # filtered scores stretched to 0..1
CORE, EMPTY = 0.9, 0.1  # scores that the filter may not change, away from the outline
HOLE = 0.002  # largest hole that is closed, in areas of the frame: earrings, glints


def refine(score: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """A segmenter's ``score`` (H,W) 0..1 with its outline moved to the edges of ``frame`` (H,W,3) u8 RGB."""
    radius = max(2, round(RADIUS * max(score.shape) / 512))
    # At half resolution (radius halved too) the filter costs a quarter and looks the same.
    filtered = cv2.ximgproc.guidedFilter(frame, score, radius // 2, EPS, scale=0.5)
    filtered = np.clip((filtered - LOW) / (HIGH - LOW), 0, 1)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    core = cv2.erode((score > CORE).astype(np.uint8), kernel)  # stripes on clothes must not become holes
    near = cv2.dilate((score > EMPTY).astype(np.uint8), kernel)
    return np.where(core > 0, 1, filtered * near).astype(np.float32)


def one_person(alpha: np.ndarray, face: np.ndarray | None) -> np.ndarray:
    """``alpha`` (H,W) reduced to one connected part with small holes closed.

    The part is the one that shares most pixels with ``face`` (H,W) bool, which is always inside; without, the largest.
    """
    alpha = alpha.copy()
    if face is None or not face.any():
        face = None
    else:
        alpha[face] = 1
    inside = (alpha > 0.5).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    if count > 2:
        sizes = stats[:, cv2.CC_STAT_AREA] if face is None else np.bincount(labels[face], minlength=count)
        kept = labels == 1 + int(np.argmax(sizes[1:]))
        reach = cv2.dilate(kept.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0  # keeps the soft edge
        alpha[~reach | ((inside > 0) & ~kept)] = 0
        inside = kept.astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - inside, connectivity=8)
    small = stats[:, cv2.CC_STAT_AREA] < HOLE * inside.size
    small[0] = False
    # Gaps cut off by the picture's border are background, however small.
    small[np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))] = False
    alpha[small[labels]] = 1
    return alpha


def steady(alphas: np.ndarray) -> np.ndarray:
    """Median of three frames, (T,H,W) -> (T,H,W): takes out single-frame flicker, leaves an evenly moving edge."""
    if len(alphas) < 3:
        return alphas
    before, now, after = alphas[:-2], alphas[1:-1], alphas[2:]
    out = alphas.copy()
    out[1:-1] = np.maximum(np.minimum(before, now), np.minimum(np.maximum(before, now), after))
    return out
