"""How far pixels lie beyond a head's outline, and which way is outward."""

from dataclasses import dataclass

import cv2
import numpy as np

from expportrait.appearance.pyramid import fill
from expportrait.head.regions import smoothstep

SMOOTH = 5.0  # px of 512: over which the outline's direction is taken
ALONG = 6.0  # px of 512: over which what an outline is moved by is averaged
RIM = 2.0  # px of 512: what counts as the outline
WIDE = 24.0  # px of 512: over which it is asked whether anything is moved
COARSE = 4  # times smaller is what is averaged over so much
SMALL = (0.5, 1.5)  # px of 512 that outlines differ by: from fits of one head that are not alike to a head that turned
MOST = 64.0  # px of 512: farther than that nothing is moved
PASSES = 3


@dataclass(frozen=True)
class Outline:
    """Of the head in the portrait."""

    distance: np.ndarray  # (H, W) float32 px: beyond the outline, negative inside
    outward: np.ndarray  # (H, W, 2) float32: the distance's gradient, x and y

    @classmethod
    def of(cls, covered: np.ndarray) -> "Outline":
        """``covered``: (H, W) bool."""
        distance = beyond(covered) - beyond(~covered)
        down, across = np.gradient(cv2.GaussianBlur(distance, (0, 0), SMOOTH * covered.shape[1] / 512))
        return cls(distance, np.dstack([across, down]).astype(np.float32))

    def followed(self, covered: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The flow (H, W, 2) px beyond the outline of a moved head, and how much it counts there (H, W, 1) 0..1.

        ``covered`` (H, W) bool of that head, ``flow`` (H, W, 2) px of its surface. Hair and hat beyond the outline
        belong to it: a head that turns hides one of its sides, and the hair there is drawn beside what is the outline
        now. So the flow at the outline leads to the portrait's outline, along its normal, and goes on smoothly from
        there. It counts where the two differ by more than fits of one head do.
        """
        (height, width), size = covered.shape, covered.shape[1] / 512
        inside, flow = beyond(~covered)[::2, ::2], flow[::2, ::2]  # it is smooth: half the size will do
        rim = (inside > 0) & (inside <= max(2.0, RIM * size))
        down, across = np.nonzero(rim)
        start = 2 * np.stack([across, down], 1) + flow[rim]
        field, moved = np.dstack([self.distance, self.outward]), start[None].astype(np.float32)
        for _ in range(PASSES):
            found = _sample(field, moved)
            moved = moved - (found[..., :1] + inside[rim][:, None]) * found[..., 1:]
        change = moved[0] - start
        length = np.linalg.norm(change, axis=1)[:, None] / size
        change *= np.minimum(1, MOST / np.maximum(length, 1e-6))
        at = np.zeros((*rim.shape, 4), np.float32)
        at[rim] = np.hstack([change, length, np.ones_like(length)])
        along = cv2.GaussianBlur(at, (0, 0), ALONG * size / 2)
        small = cv2.resize(at[..., 2:], None, fx=1 / COARSE, fy=1 / COARSE, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), WIDE * size / 2 / COARSE)
        wide = cv2.resize(small, rim.shape[::-1], interpolation=cv2.INTER_LINEAR)
        change = along[..., :2] / np.maximum(along[..., 3:], 1e-6)
        counts = smoothstep(*SMALL, wide[..., :1] / np.maximum(wide[..., 1:], 1e-6))
        values = fill(np.dstack([flow + change, counts]), rim.astype(np.float32))
        out = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
        return out[..., :2], out[..., 2:]


def beyond(covered: np.ndarray) -> np.ndarray:
    """(H, W) float32 px: how far each pixel lies from those that are covered, (H, W) bool."""
    return cv2.distanceTransform((~covered).astype(np.uint8), cv2.DIST_L2, 5)


def _sample(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``field`` (H, W, C) at points (1, n, 2) px, n below 32768: (1, n, C)."""
    return cv2.remap(field, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
