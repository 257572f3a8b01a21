"""When the frames of a film are shown: at an even rate, as a fraction, or at times of their own."""

from collections.abc import Sequence
from fractions import Fraction
from math import isclose

import numpy as np

NTSC = [Fraction(1000 * rate, 1001) for rate in (24, 30, 48, 60, 120)]
USUAL = [*NTSC, *map(Fraction, (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120)), Fraction(25, 2)]
# s. Files count in thousandths or in 600ths of a second: an even rate's times are off by up to one of these, nobody
# sees 2 ms, and an even film is played more smoothly.
UNEVEN = 2e-3
TICKS = 90_000  # a second, in which uneven times are given


def exact(fps: float) -> Fraction:
    """A rate as a fraction: 29.97... is 30000/1001."""
    return Fraction(fps).limit_denominator(1001)


def unrounded(fps: float) -> float:
    """A rate without the last digits that sums of steps leave: 24.999999999999996 is 25."""
    near = float(exact(fps))
    return near if isclose(near, fps, rel_tol=1e-9) else fps


def even_rate(times: Sequence[float], fps: float) -> Fraction | None:
    """The rate that frames at ``times``, s, increasing, have throughout, a usual one where one fits; None where they
    have none. ``fps``: what it is about, and what it is where there is a single frame."""
    steps = np.asarray(times, np.float64) - times[0]
    if len(steps) < 2:
        return exact(fps)

    def off(rate: Fraction) -> float:
        return float(np.abs(steps - np.arange(len(steps)) / float(rate)).max())

    best = min(USUAL, key=off)
    mean = exact((len(steps) - 1) / max(steps[-1], 1e-6))
    return next((rate for rate in (best, exact(fps), mean) if rate > 0 and off(rate) <= UNEVEN), None)


class Clock:
    """Which tick each frame of a film is shown at. ``times``: s, of all its frames, where they are known; what counts
    is how far apart they are. ``base``: s, of a tick. ``rate``: the film's, which frames beyond the last time keep."""

    def __init__(self, fps: float, times: Sequence[float] | None = None) -> None:
        even = exact(fps) if times is None or not len(times) else even_rate(times, fps)
        self.rate = even or exact(fps)
        self.base = Fraction(1, TICKS) if even is None else 1 / even
        self._ticks: list[int] = []
        if even is None:
            for tick in np.rint((np.asarray(times, np.float64) - times[0]) * TICKS).astype(int).tolist():
                self._ticks.append(max(tick, self._ticks[-1] + 1) if self._ticks else tick)

    def tick(self, number: int) -> int:
        """Of the frame of that number."""
        if number < len(self._ticks):
            return self._ticks[number]
        if not self._ticks:
            return number
        return self._ticks[-1] + round((number - len(self._ticks) + 1) * TICKS / self.rate)
