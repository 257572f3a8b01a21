"""The matte of a person, with its rim where the colours change."""

import cv2
import numpy as np
from scipy.spatial import cKDTree

from expportrait.appearance.outline import beyond
from expportrait.head.regions import smoothstep

BAND = 14.0  # px of 512 to either side of a matte's rim, where it may be wrong
NEAR = 6.0  # px of 512 that count as much as one unit of CIELAB between a pixel and a sample
STRAY = 24.0  # px of 512 beside the person, where what looks like it may be of it
SAMPLES, NEIGHBOURS = 8000, 6  # of person and of background each
PRIOR = 0.3  # what the matte counts, where colours count at most 1
AGAINST = (0.15, 0.4)  # how far colours and matte differ where the matte gives way
EPS = 64.0  # squared grey levels: guided filter (He et al. 2010)


def refined(picture: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """The matte (H, W) float32 0..1 of a picture (H, W, 3) u8 RGB, with its rim where the colours change.

    Near the rim a pixel belongs to the side whose colours, sampled well inside and well outside, it resembles more (by
    the nearest samples in colour and place, as in KNN matting, Chen et al. 2013), smoothed along the picture's edges;
    where the colours say little, to the side that the matte says.
    """
    size = matte.shape[1] / 512
    band, person = BAND * size, matte > 0.5
    inside = beyond(~person) - beyond(person)
    unsure = np.abs(inside) < band
    features = _features(picture, size)
    sides = [(inside >= band) & (inside < 4 * band), (inside <= -band) & (inside > -4 * band)]
    if not (unsure.any() and all(side.any() for side in sides)):
        return matte
    person_like, behind_like = (_distance(features[unsure], features[side]) for side in sides)
    score = np.sign(inside).astype(np.float32)
    score[unsure] = (behind_like - person_like) / (behind_like + person_like + 2)
    score[unsure] += PRIOR * (2 * matte[unsure] - 1) + (inside[unsure] / band) ** 3
    score = cv2.ximgproc.guidedFilter(picture, cv2.medianBlur(score, 5), max(1, round(6 * size)), EPS)
    better = np.where(unsure, smoothstep(-0.3, 0.3, score), matte).astype(np.float32)
    against = np.abs(cv2.GaussianBlur(better - matte, (0, 0), 2 * size))  # over some pixels, not by how soft a rim is
    share = smoothstep(*AGAINST, against)
    return share * better + (1 - share) * matte


def strays(picture: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """(H, W) float32 0..1: what beside a person looks like it, and not like the background farther out.

    Wisps of hair, a hat's rim or a shadow that the matte (H, W) float32 leaves out, of a picture (H, W, 3) u8 RGB.
    """
    size = matte.shape[1] / 512
    reach, person = STRAY * size, matte > 0.5
    out = beyond(person)
    beside = ~person & (out <= reach)
    sides = person & (beyond(~person) < 2 * reach), (out > reach) & (out < 3 * reach)
    found = np.zeros_like(matte)
    if beside.any() and all(side.any() for side in sides):
        features = _features(picture, size)
        person_like, behind_like = (_distance(features[beside], features[side]) for side in sides)
        # the person is nearer, which says nothing: only how near its colours come does
        score = (behind_like - person_like) / (behind_like + person_like + 2)
        found[beside] = smoothstep(0.0, 0.3, score)
        found = cv2.GaussianBlur(found, (0, 0), size)
    return found


def _features(picture: np.ndarray, size: float) -> np.ndarray:
    """(H, W, 5): CIELAB and place, of a picture (H, W, 3) u8 RGB that is ``size`` times 512 px wide."""
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    rows, columns = np.mgrid[: len(picture), : picture.shape[1]].astype(np.float32) / (NEAR * size)
    return np.dstack([lab, columns, rows])


def _distance(features: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """(n,) mean distance of ``features`` (n, 5) to the nearest of ``samples`` (m, 5)."""
    samples = samples[:: max(1, len(samples) // SAMPLES)]
    count = min(NEIGHBOURS, len(samples))
    return cKDTree(samples).query(features, k=count)[0].reshape(len(features), count).mean(1)
