"""What is in front of the head in a picture: hands, by MediaPipe's hand detector, and things, by the landmarks.

Hands are looked for in every so many frames and, around those that have one, in all. Each becomes a palm, fingers and
the beginning of an arm. A thing is where a patch of neighbouring landmarks has another colour than in most of the
clip's frames, after the frame's own light is taken off, or where the landmark model is far less sure of it than usual.
What is there in most frames is taken for the face.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from scipy.spatial import cKDTree

from expportrait.estimators.geometry.base import Geometry
from expportrait.estimators.mediapipe_models import HandDetector, shipped
from expportrait.face_areas import polygon
from expportrait.points478 import FACE_OVAL, FEATURES, SKIN_POINTS, face_height

SCALE = 4  # maps are made at a quarter of the picture's size
WRIST, PALM, MIDDLE = 0, (0, 1, 5, 9, 13, 17), 9  # of the hand's 21 points
FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
THICK, ARM_THICK, ARM = 0.4, 1.0, 1.3  # of the palm's length, wrist to middle knuckle: finger, arm, arm's length
GAP = 3  # frames without a hand between two with one, in which it is still believed
PATCH = 0.04  # of the face's height, over which a landmark's colour is averaged
ODD = 0.4  # difference of log colour from which a landmark is another thing's
BRIGHT = 0.5  # weight of brightness in it: light changes as a head turns
UNSURE = 0.35  # share of a landmark's usual certainty below which it is a guess
NEIGHBOURS, AGREE = 10, 0.7  # nearest landmarks, and the share of them that must be odd as well
REACH = 0.07  # of the face's height, around an odd landmark that is hidden
KNOWN = 0.04  # least confidence of what is not hidden; packed, it stays above half of that, and 0 below
SOME = 0.02
FEW = 8  # frames below which there is no usual colour


class Occlusion:
    """``hands_every``: frames between two that are searched for hands; 0: never. ``files``: sha256 by name."""

    def __init__(self, hands_every: int):
        self.every = hands_every
        self.detector = HandDetector() if hands_every else None
        self.files = shipped(*HandDetector.FILES) if hands_every else {}

    def find(
        self, frames: np.ndarray, points: np.ndarray, certainty: np.ndarray, seen: np.ndarray
    ) -> Iterator[np.ndarray]:
        """(H/4,W/4) u8 a frame, 255 where something is in front.

        frames (T,H,W,3) u8 RGB; points (T,478,3) px; certainty (T,478) 0..1; seen (T,) bool.
        """
        size = tuple(-(-n // SCALE) for n in frames.shape[1:3])
        odd = odd_points(frames, points, certainty, seen)
        for t, hands in enumerate(self.hands(frames)):
            out = np.zeros(size, np.uint8)
            for hand in hands:
                draw_hand(out, hand / SCALE)
            if odd[t].any():
                draw_thing(out, points[t] / SCALE, odd[t])
            yield out

    def hands(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """(n,21,2) px of each frame, those of short gaps included."""
        found: dict[int, np.ndarray] = {}
        none = np.zeros((0, 21, 2), np.float32)

        def look(t: int) -> np.ndarray:
            if t not in found:
                found[t] = self.detector.detect(frames[t])
            return found[t]

        def at(t: int) -> np.ndarray:
            if not 0 <= t < len(frames):
                return none
            beside = [t - t % self.every, t - t % self.every + self.every]
            return look(t) if any(len(look(c)) for c in beside if c < len(frames)) else none

        for t in range(len(frames)):
            hands = at(t) if self.every else none
            if self.every and not len(hands):
                before = next((k for k in range(1, GAP + 1) if len(at(t - k))), GAP + 1)
                after = next((k for k in range(1, GAP + 2 - before) if len(at(t + k))), None)
                if after:  # the hand of either side, in between
                    hands = np.concatenate([at(t - before), at(t + after)])
            found.pop(t - GAP - 2 * self.every, None)
            yield hands


def hide(maps: Geometry, hidden: np.ndarray) -> None:
    """Confidence 0 where something is in front, (B,h,w) u8, and at least ``KNOWN`` elsewhere in the mask: the fit takes
    what is below for no evidence of anything, of an outline neither. The mask itself stays whole."""
    for confidence, mask, front in zip(maps.confidence, maps.mask, hidden, strict=True):
        np.maximum(confidence, KNOWN * (mask > 0.5), out=confidence)
        if front.any():
            confidence *= 1 - cv2.resize(front, confidence.shape[::-1], interpolation=cv2.INTER_LINEAR) / np.float32(
                255
            )


def in_face(hidden: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(T,) bool: frames in which more than ``SOME`` of the face of points (T,478,3) px is hidden, (T,H/4,W/4) u8."""
    out = np.zeros(len(hidden), bool)
    for t in np.flatnonzero(hidden.any((1, 2)) & np.isfinite(points).all((1, 2))):
        face = polygon(points[t, list(FACE_OVAL)] / SCALE, hidden.shape[-1])
        out[t] = (hidden[t][face] > 0).mean() > SOME if face.any() else False
    return out


def draw_hand(canvas: np.ndarray, hand: np.ndarray) -> None:
    """Fill what a hand of (21,2) px covers of ``canvas`` (h,w) u8."""
    length = max(float(np.linalg.norm(hand[MIDDLE] - hand[WRIST])), 1.0)
    at = np.round(hand).astype(np.int32)
    thick = max(1, round(THICK * length))
    palm = cv2.convexHull(at[list(PALM)])
    cv2.fillConvexPoly(canvas, palm, 255)
    cv2.polylines(canvas, [palm], True, 255, thick)
    for finger in FINGERS:
        cv2.polylines(canvas, [at[list(finger)].reshape(-1, 1, 2)], False, 255, thick)
    end = hand[WRIST] + ARM * (hand[WRIST] - hand[MIDDLE])
    cv2.line(canvas, tuple(map(int, at[WRIST])), tuple(map(int, np.round(end))), 255, max(1, round(ARM_THICK * length)))


def draw_thing(canvas: np.ndarray, points: np.ndarray, odd: np.ndarray) -> None:
    """Fill ``canvas`` (h,w) u8 around the landmarks (478,3) px that are ``odd`` (478,), inside the face."""
    height = float(face_height(points[None])[0])
    there = np.zeros_like(canvas)
    for x, y in points[odd, :2]:
        cv2.circle(there, (round(float(x)), round(float(y))), max(1, round(REACH * height)), 255, -1)
    rim = 2 * max(1, round(REACH * height)) + 1
    face = cv2.dilate(polygon(points[list(FACE_OVAL)], len(canvas)).astype(np.uint8), np.ones((rim, rim), np.uint8))
    canvas[(there > 0) & (face > 0)] = 255


def odd_points(frames: np.ndarray, points: np.ndarray, certainty: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(T,478) bool: landmarks, in patches, whose colour or certainty is not what it is in most frames. Not eyes, lips
    and irises, which move. Arguments as ``Occlusion.find``."""
    out = np.zeros(points.shape[:2], bool)
    known = np.flatnonzero(seen & np.isfinite(points).all((1, 2)))
    if len(known) < FEW:
        return out
    skin = np.setdiff1d(np.arange(SKIN_POINTS), np.concatenate(FEATURES))
    colours = np.stack([patch_colours(frames[t], points[t, skin]) for t in known])  # (K,n,3) log
    bright = colours.mean(-1, keepdims=True)
    features = np.concatenate([colours - bright, BRIGHT * bright], -1)
    change = features - np.median(features, axis=0)
    change -= np.median(change, axis=1, keepdims=True)  # the frame's own light
    sure = certainty[known][:, skin]
    mean = points[known][:, skin].mean(0)
    near = cKDTree(mean[:, :2]).query(mean[:, :2], NEIGHBOURS)[1]
    for odd in (np.linalg.norm(change, axis=-1) > ODD, sure < UNSURE * np.median(sure, axis=0)):
        out[known[:, None], skin] |= odd & (odd[:, near].mean(-1) >= AGREE)
    return out


def patch_colours(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,3) log colour around points (n,3) px of frame (H,W,3) u8; at the border, what is nearest."""
    side = max(3, round(PATCH * float(np.ptp(points[:, 1])))) | 1
    x, y = (np.clip(np.round(points[:, k] - 0.5).astype(int), 0, frame.shape[1 - k] - 1) for k in (0, 1))
    low, high = (np.array([f(y), f(x)]) for f in (np.min, np.max))
    box = frame[low[0] : high[0] + 1, low[1] : high[1] + 1]
    return np.log(cv2.blur(box, (side, side))[y - low[0], x - low[1]].astype(np.float32) + 8)
