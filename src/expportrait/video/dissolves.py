"""Dissolves and fades in a video: frames that are a mixture of two pictures, which no cut finder's threshold sees."""

from collections import deque

import cv2
import numpy as np

SIZE = 32, 18  # px, width and height of the copies that are compared
SPANS = (6, 9, 12, 18, 24, 36, 48)  # frames; about the longest is what a dissolve may last and still be found
LARGE = 4.0  # of 255: a colour that has changed by less has not changed
EVERYWHERE = 0.6  # share of the copy's pixels that have to change: whoever moves changes fewer
RESIDUAL = 0.8  # of what a moving picture leaves unexplained: more is a picture that moves
LEAP = 0.7  # of the change, from one frame to the next: more is a cut
BACK = 0.05  # of the change, by which a mixture may go backwards
NEARLY = 0.999  # of the threshold: below it, the sum's rounding does not matter, and OpenCV is quicker
PURE = 0.03  # share of the other picture in a frame that counts as unmixed


class DissolveFinder:
    """Give it every frame; it says which of them lie in a dissolve, or a fade from or to black.

    Between two frames a and b that differ by ``threshold`` or more (mean of 255) nearly everywhere, all frames are
    mixtures a + x (b - a) with x growing steadily from 0 to 1: such a linear transition is a dissolve. People who move
    do not change a picture everywhere, and a cut leaps. A soft picture that is moved by little looks like a mixture,
    too, but not as much: see ``_limit``.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold, self._count = threshold, 0
        self._copies: deque[np.ndarray] = deque(maxlen=SPANS[-1] + 1)
        self._steps: deque[float] = deque(maxlen=SPANS[-1])  # how much each of them differs from the one before
        self._found: list[list[int]] = []

    @property
    def settled(self) -> int:
        """Whether frames before this one lie in a dissolve will not change, whatever frames follow."""
        return max(0, self._count - SPANS[-1])

    def add(self, frame: np.ndarray) -> None:
        """The next frame, (H,W,3) u8 RGB."""
        self._copies.append(cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA).astype(np.float32))
        if len(self._copies) > 1:
            self._steps.append(cv2.norm(self._copies[-2], self._copies[-1], cv2.NORM_L1))
        last, self._count = self._count, self._count + 1
        if self._threshold >= 255:
            return
        for span in SPANS:
            if last % (span // 6) == 0 and len(self._copies) > span:
                self._judge(last, span)

    def dissolves(self) -> list[tuple[int, int]]:
        """Half-open ranges of frames, in order."""
        return [(first, end) for first, end in self._found]

    def forget(self, before: int) -> None:
        """Dissolves that end before this frame are wanted no more."""
        self._found = [found for found in self._found if found[1] > before]

    def _judge(self, last: int, span: int) -> None:
        a, b = self._copies[-1 - span], self._copies[-1]
        change = cv2.norm(a, b, cv2.NORM_L1)
        if change < NEARLY * self._threshold * a.size:
            return
        way = b - a
        if np.abs(way).mean() < self._threshold or (np.abs(way).max(-1) > LARGE).mean() < EVERYWHERE:
            return
        between = _Between(a, way)
        leap = max(range(-span, 0), key=lambda n: self._steps[n])
        if self._steps[leap] > LEAP / 2 * change:  # a cut, most likely, which is what most spans hold that get here
            before, after = between.shares(np.stack([self._copies[leap - 1], self._copies[leap]]))[0]
            if after - before > LEAP:
                return
        limit = _limit(a, b)
        for part in (2, 1, 3):  # quarters of the way: what moves is seen in the middle already
            if not between.mixed(self._copies[-1 - span + span * part // 4][None], limit)[1]:
                return
        shares, mixed = between.mixed(np.stack([self._copies[n] for n in range(-1 - span, 0)]), limit)
        steps = np.diff(shares)
        if not mixed or steps.min() < -BACK or steps.max() > LEAP:
            return
        inside = np.flatnonzero((shares > PURE) & (shares < 1 - PURE)) + last - span
        if len(inside):
            self._note(int(inside[0]), int(inside[-1]) + 1)

    def _note(self, first: int, end: int) -> None:
        while self._found and self._found[-1][1] >= first:
            before = self._found.pop()
            first, end = min(first, before[0]), max(end, before[1])
        self._found.append([first, end])


def _limit(a: np.ndarray, b: np.ndarray) -> float:
    """How much of the change from a to b mixtures may leave unexplained.

    A wave that is moved by the angle s changes by sqrt(2 - 2 cos s) of its amplitude, and half-way it is off the mean
    of both by 1 - cos(s / 2): of the change, the more, the larger it is. Other pictures are sums of waves and leave
    more.
    """
    change = float(((b - a) ** 2).mean() / max(a.var((0, 1)).mean() + b.var((0, 1)).mean(), 1.0))
    angle = np.arccos(1 - min(change, 1.0))
    return RESIDUAL * float((1 - np.cos(angle / 2)) / np.sqrt(2 * min(change, 1.0)))


class _Between:
    """The ``way`` (h,w,3) from a picture ``a`` to another one. What is said of frames (n,h,w,3) are medians over the
    pixels that change, so that people who move while two pictures are mixed do not count."""

    def __init__(self, a: np.ndarray, way: np.ndarray) -> None:
        length = (way * way).sum(-1)
        self._a, self._changed = a, length > LARGE**2
        self._way, self._length = way[self._changed], length[self._changed]

    def shares(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The share of the second picture in each frame, (n,), and how far the frames are from ``a`` where it changes,
        (n,pixels,3)."""
        apart = (frames - self._a)[:, self._changed]
        return np.median((apart * self._way).sum(-1) / self._length, 1), apart

    def mixed(self, frames: np.ndarray, limit: float) -> tuple[np.ndarray, bool]:
        """The shares, and whether all frames are mixtures, but for ``limit`` of the way."""
        shares, apart = self.shares(frames)
        rest = apart - shares[:, None, None] * self._way
        return shares, bool((np.median(np.sqrt((rest * rest).sum(-1) / self._length), 1) <= limit).all())
