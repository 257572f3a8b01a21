"""The square box around a face."""

import cv2
import numpy as np

Box = tuple[int, int, int, int]  # x0 y0 x1 y1, px of the source; may lie partly outside
ROOM = 0.5  # of the face's side: least space around the box in which the face moves, for hair and neck


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
