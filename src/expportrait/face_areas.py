"""Parts of a picture that the landmarks bound: any polygon, the open mouth, the skin of a face."""

from collections.abc import Sequence

import cv2
import numpy as np

from expportrait.points478 import FEATURES, LOWER_LIP_INNER, UPPER_LIP_INNER, loop

RIM = 0.043  # of the face's oval, in face heights
LIPS_APART = loop(UPPER_LIP_INNER, LOWER_LIP_INNER)


def polygon(points: np.ndarray, size: int) -> np.ndarray:
    """Pixels inside the closed polygon ``points`` (n,2) px, (size,size) bool."""
    canvas = np.zeros((size, size), np.uint8)
    # fillPoly takes pixel (0,0)'s centre as the origin; 4 fractional bits keep slow motion smooth.
    cv2.fillPoly(canvas, [np.round((points[:, :2] - 0.5) * 16).astype(np.int32)], 1, shift=4)
    return canvas > 0


def inner_face(points: np.ndarray, oval: Sequence[int], height: float, size: int) -> np.ndarray:
    """(size,size) bool: inside the face's oval, whose points (478,2 or 3) px have the numbers ``oval``, without its
    rim, where ears and hair begin; ``height`` of the face, px."""
    rim = max(1, round(RIM * height))
    inside = polygon(points[list(oval)], size).astype(np.uint8)
    return cv2.erode(inside, np.ones((2 * rim + 1, 2 * rim + 1), np.uint8), borderValue=0) > 0


def open_mouth(points: np.ndarray, size: int) -> np.ndarray:
    """(size,size) bool between the inner lips; empty where they touch."""
    lips = polygon(points[list(LIPS_APART)], size).astype(np.uint8)
    return cv2.erode(lips, np.ones((3, 3), np.uint8)) > 0  # a filled polygon has a line's width even when it is closed


def skin(face: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face (H,W) bool without eyes, brows and lips of points (478,3) px."""
    out = face.astype(np.uint8)
    for feature in FEATURES:
        cv2.fillConvexPoly(out, cv2.convexHull(np.round(points[list(feature), :2]).astype(np.int32)), 0)
    return out > 0
