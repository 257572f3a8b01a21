"""Cuts in a video: where the picture changes (PySceneDetect), takes another shape, or the times have a gap."""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from expportrait.video.rates import unrounded
from expportrait.video.reader import LONG_STEP, reduced

LOOK_AT = 256  # px, longer side of the frames that the detector gets
FLASH = 2  # frames; a shot no longer than this between two alike is a flash of light, not a shot
ALIKE = 4.0  # mean difference of two frames' tiny copies, of 255
REPEATED = 0.15  # the same of a frame that is shown again, to fill a higher rate; it says nothing about motion
GAP = 1.0  # s; a longer step from frame to frame, which is also GAP_STEPS times the median one, is a gap in the times
GAP_STEPS = 10
REPEATS = 3  # frames passed over in a row at most: a picture that stands still has to count as motionless


class ShotFinder:
    """Give it every frame, then ask for the shots. What it holds does not grow with the video's length.

    A cut is where PySceneDetect's content value (change of hue, saturation and lightness, 0..255) is ``threshold`` or
    more, and three times the mean of the two frames on either side. So fast motion is no cut; neither are dissolves.
    Where the picture takes another shape there is always one.
    """

    def __init__(self, threshold: float) -> None:
        self.count = self._repeats = 0
        self._threshold, self._shape = threshold, (0, 0)
        self._cuts: list[tuple[int, np.ndarray, np.ndarray]] = []  # first frame; copies of what is before, of it
        self._reshaped: list[int] = []  # first frames of another shape
        self._begin()

    def _begin(self) -> None:
        self._detector = AdaptiveDetector(min_content_val=self._threshold, min_scene_len=1)
        self._passed: deque[tuple[int, np.ndarray]] = deque(maxlen=2 + self._detector.event_buffer_length)

    def add(self, frame: np.ndarray) -> None:
        """The next frame, (H,W,3) u8 RGB."""
        number, self.count = self.count, self.count + 1
        if number and frame.shape[:2] != self._shape:
            self._reshaped.append(number)
            self._begin()
        self._shape = frame.shape[:2]
        copy = cv2.resize(frame, (32, 18), interpolation=cv2.INTER_AREA).astype(np.float32)
        repeated = self._passed and np.abs(copy - self._passed[-1][1]).mean() <= REPEATED
        self._repeats = self._repeats + 1 if repeated and self._repeats < REPEATS else 0
        if self._repeats:
            return
        self._passed.append((number, copy))
        small, size = frame, reduced(*frame.shape[:2], LOOK_AT)
        if size != frame.shape[:2]:
            small = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
        found = self._detector.process_frame(FrameTimecode(number, 25.0), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        for cut in found:
            place = next(i for i, (passed, _) in enumerate(self._passed) if passed == cut.frame_num)
            self._cuts.append((cut.frame_num, self._passed[place - 1][1], self._passed[place][1]))

    @property
    def settled(self) -> int:
        """Cuts at frames before this one will neither come nor go, whatever frames follow."""
        earliest = self._passed[1][0] if len(self._passed) > 1 else self.count
        return max(0, earliest - FLASH)

    def forget(self, before: int) -> None:
        """The cuts at frames before this one are wanted no more. (They would be all that grows with the video.)"""
        self._cuts = [cut for cut in self._cuts if cut[0] >= before]
        self._reshaped = [number for number in self._reshaped if number >= before]

    def shots(self, times: Sequence[float] = ()) -> list[tuple[int, int]]:
        """Half-open ranges of frames that cover the video; none where there was no frame.

        ``times``: those of the frames, s, where a gap in them is to be a cut, too.
        """
        inner = {*self.cuts()} | {*gaps(times)}
        return list(pairwise([0, *sorted(inner), self.count])) if self.count else []

    def cuts(self) -> list[int]:
        """The first frames of all shots but the first one; gaps in the times are no cuts here."""
        cuts: list[tuple[int, np.ndarray, np.ndarray]] = []
        for cut in self._cuts:
            if cuts and cut[0] - cuts[-1][0] <= FLASH and np.abs(cut[2] - cuts[-1][1]).mean() < ALIKE:
                cuts.pop()
            else:
                cuts.append(cut)
        return sorted({cut[0] for cut in cuts} | {*self._reshaped})


def gaps(times: Sequence[float]) -> list[int]:
    """The frames before which there is a gap in the times, s."""
    steps = np.diff(times)
    return [int(n) + 1 for n in np.flatnonzero(steps > max(GAP, GAP_STEPS * np.median(steps)))] if len(steps) else []


def rate(times: Sequence[float]) -> float:
    """Frames a second of at least two frames, from the steps between their times, s, without those that are far longer
    than the median one: of an even rate, exactly that."""
    steps = np.diff(times)
    long = steps > LONG_STEP * np.median(steps)
    return unrounded(float((len(steps) - long.sum()) / (times[-1] - times[0] - steps[long].sum())))
