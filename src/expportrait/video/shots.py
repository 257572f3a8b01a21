"""Cuts in a video, from tiny copies of its frames."""

from itertools import pairwise

import cv2
import numpy as np

NEIGHBOURS = 8  # frames on either side, whose usual change a cut has to exceed
FACTOR = 6.0  # ... by this much
FLASH = 2  # frames; a shot no longer than this between two alike is a flash of light, not a shot


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """Frame (H,W,3) u8 -> (18,32,3) u8: small enough to be kept for a whole video."""
    return cv2.resize(frame, (32, 18), interpolation=cv2.INTER_AREA)


def split_shots(thumbnails: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Shots as half-open ranges of frames, from thumbnails (T,18,32,3) u8.

    A cut is where the mean colour changes by ``threshold`` (of 255) or more from one frame to the next, and by 6 times
    the median change of the frames around. So fast motion is no cut; neither are fades and dissolves.
    """
    frames = thumbnails.astype(np.float32)
    change = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    cuts = []
    for t in np.flatnonzero(change >= threshold):
        around = np.r_[change[max(0, t - NEIGHBOURS) : t], change[t + 1 : t + 1 + NEIGHBOURS]]
        around = around[around > 0.02]  # repeated frames say nothing about motion
        if not len(around) or change[t] >= FACTOR * np.median(around):
            cuts.append(int(t) + 1)
    bounds = [0]
    for cut in cuts:
        flash = cut - bounds[-1] <= FLASH and bounds[-1] > 0
        if flash and np.abs(frames[cut] - frames[bounds[-1] - 1]).mean() < threshold:
            bounds.pop()
        else:
            bounds.append(cut)
    bounds.append(len(frames))
    return list(pairwise(bounds))
