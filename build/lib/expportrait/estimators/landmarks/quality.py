"""What the landmarks of a clip say about how usable it is."""

import cv2
import numpy as np

from expportrait.video.margins import Margins

FINGER = 2  # points of a hand; a single one may be an error at the outline
UNSURE, MANY = 0.3, 0.25  # confidence below which a point is unsure; share of such points that spoils a frame


def unsure(confidence: np.ndarray) -> np.ndarray:
    """Frames (T,) bool in which a quarter of the points are guesses: a hand, a microphone, hair, blur. (T,478) 0..1."""
    return (confidence < UNSURE).mean(1) > MANY


def before_face(hands: np.ndarray, points: np.ndarray) -> bool:
    """Whether a hand of (n,21,2) px reaches over the outline of the face (478,3) px."""
    outline = cv2.convexHull(np.ascontiguousarray(points[:, :2], np.float32))
    inside = [sum(cv2.pointPolygonTest(outline, tuple(map(float, p)), False) >= 0 for p in hand) for hand in hands]
    return max(inside, default=0) >= FINGER


def outside(points: np.ndarray, margins: Margins, size: int) -> np.ndarray:
    """Share (T,) of the face that the picture does not show: of the hull of points (T,478,3) px, in crops of ``size``
    px."""
    left, right, top, bottom = margins.bounds(size)
    picture = np.float32([[left, top], [right, top], [right, bottom], [left, bottom]])
    hulls = [cv2.convexHull(np.ascontiguousarray(face[:, :2], np.float32)) for face in points]
    seen = [cv2.intersectConvexConvex(hull, picture)[0] / max(cv2.contourArea(hull), 1e-6) for hull in hulls]
    return 1 - np.clip(seen, 0, 1)


def longest_run(flags: np.ndarray) -> int:
    """Length of the longest run of True in (T,) bool."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False]))
    return int((edges[1::2] - edges[::2]).max(initial=0))
