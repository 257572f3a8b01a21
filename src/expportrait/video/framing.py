"""Which face of a shot is meant, and the square box around it."""

from dataclasses import dataclass, field

import cv2
import numpy as np

Box = tuple[int, int, int, int]  # x0 y0 x1 y1, px of the source; may lie partly outside
ROOM = 0.5  # of the face's side: least space around the box in which the face moves, for hair and neck


@dataclass(eq=False)
class Track:
    """One face through a shot. ``frames`` were looked at and have it, ``boxes`` (n,4) px are x0 y0 x1 y1."""

    start: int
    end: int  # first and last frame + 1 in which it is taken to be there
    frames: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    looked: int = 0  # how many frames between start and end were looked at

    @property
    def size(self) -> float:
        """Median of the larger side of its boxes, px."""
        return float(np.median([max(box[2:] - box[:2]) for box in self.boxes]))

    @property
    def coverage(self) -> float:
        """In how many of the frames looked at it was found, 0..1."""
        return len(self.frames) / self.looked


def link(shot: tuple[int, int], faces: dict[int, np.ndarray]) -> list[Track]:
    """Tracks of one shot, from the faces (n,4+) x0 y0 x1 y1 px of the frames looked at; the most prominent one first.

    A face goes on with the nearest track, if its centre moved by less than its side and its size changed by less than
    a factor of 1.6. Most prominent: number of frames times side.
    """
    looked = sorted(t for t in faces if shot[0] <= t < shot[1])
    tracks: list[Track] = []
    for t in looked:
        free = list(tracks)
        for box in faces[t][:, :4]:
            near = [(gap, track) for track in free if (gap := _gap(track.boxes[-1], box)) < 1]
            track = min(near, key=lambda item: item[0])[1] if near else Track(t, t)
            if near:
                free.remove(track)
            else:
                tracks.append(track)
            track.frames.append(t)
            track.boxes.append(box.astype(np.float64))
    for track in tracks:
        first, last = looked.index(track.frames[0]), looked.index(track.frames[-1])
        track.looked = last - first + 1
        track.start = shot[0] if first == 0 else track.frames[0]
        track.end = shot[1] if last == len(looked) - 1 else track.frames[-1] + 1
    return sorted(tracks, key=lambda track: -len(track.frames) * track.size)


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of two boxes' centres in their larger side; infinite where they differ too much in size."""
    sides = max(a[2:] - a[:2]), max(b[2:] - b[:2])
    if max(sides) > 1.6 * min(sides):
        return np.inf
    return float(np.linalg.norm((a[:2] + a[2:] - b[:2] - b[2:]) / 2)) / max(sides)


def face_box(boxes: np.ndarray, scale: float, lift: float, min_scale: float, height: int, width: int) -> Box:
    """Square box for all the frames of a face with the boxes (n,4) px, in an image of ``height`` x ``width``.

    Its side is ``scale`` times the face's, more where the face moves far; its centre lies ``lift`` of the side above
    the middle of the face's way. It is moved into the image, and where it is larger than the image it shrinks to it,
    but not below ``min_scale`` times the face.
    """
    low, high = np.quantile(boxes[:, :2], 0.02, 0), np.quantile(boxes[:, 2:], 0.98, 0)
    face = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    way = float((high - low).max())
    side = max(scale * face, way + 2 * ROOM * face)
    return _fit((low + high) / 2 - [0, lift * side], side, max(min_scale * face, way), height, width)


def given_box(box: tuple[float, float, float, float], height: int, width: int) -> Box:
    """A rectangle, px, made square by its longer side, and by a shorter one where the image would end."""
    sides = box[2] - box[0], box[3] - box[1]
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    return _fit(centre, max(sides), min(sides), height, width)


def _fit(centre: np.ndarray, side: float, least: float, height: int, width: int) -> Box:
    side = round(max(min(side, height, width), least))
    corner = []
    for middle, extent in zip(centre, (width, height), strict=True):
        corner.append(int(np.clip(round(middle - side / 2), min(0, extent - side), max(0, extent - side))))
    return corner[0], corner[1], corner[0] + side, corner[1] + side


def outside(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """How far the box reaches beyond the image: left, top, right, bottom, px."""
    return max(0, -box[0]), max(0, -box[1]), max(0, box[2] - width), max(0, box[3] - height)


def cut_out(frame: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The square box of a frame (H,W,3) u8 as (size,size,3) u8; beyond the border its pixels are repeated."""
    left, top, right, bottom = outside(box, *frame.shape[:2])
    part = frame[box[1] + top : box[3] - bottom, box[0] + left : box[2] - right]
    if left or top or right or bottom:
        part = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE)
    side = part.shape[0]
    if side == size:
        return part
    # averages over areas do not alias
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)
