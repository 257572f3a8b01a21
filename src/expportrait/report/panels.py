"""Pictures of one clip, from arrays. Images are (H, W, 3) u8 RGB."""

import math
from pathlib import Path

import cv2
import numpy as np
import torch

from expportrait.fit.store import FittedHead
from expportrait.render import Camera, render
from expportrait.render.picture import shade_image, turntable

IRISES = slice(468, 478)
TURN = 40.0  # degrees to either side of the front


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Square image to ``size`` px."""
    shrink = size < len(image)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)


def strip(frames: list[np.ndarray], height: int) -> np.ndarray:
    """Square frames beside each other."""
    return np.concatenate([resize(frame, height) for frame in frames], axis=1)


def landmarks(frame: np.ndarray, points: np.ndarray, size: int) -> np.ndarray:
    """points (478, 2+) px of ``frame``, drawn on it: the irises in another colour."""
    scale = size / len(frame)
    image = resize(frame, size)
    for number, (x, y) in enumerate(points[:, :2] * scale):
        if math.isfinite(x + y):
            colour = (255, 196, 0) if number >= IRISES.start else (60, 240, 150)
            # drawn in 1/16 px; the centre of pixel 0 is at 0.5 here, at 0 there
            centre = (round((x - 0.5) * 16), round((y - 0.5) * 16))
            cv2.circle(image, centre, round(size / 400 * 16), colour, -1, cv2.LINE_AA, shift=4)
    return image


def overlay(frame: np.ndarray, colours: np.ndarray, coverage: np.ndarray, size: int) -> np.ndarray:
    """``colours`` half-transparent over the frame where ``coverage`` (size, size) is 1, with its outline."""
    image = resize(frame, size)
    covered = (coverage > 0.5)[..., None]
    image = np.where(covered, (0.45 * image + 0.55 * colours).astype(np.uint8), image)
    outlines, _ = cv2.findContours(covered[..., 0].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(image), outlines, -1, (255, 255, 255), 1, cv2.LINE_AA)


@torch.no_grad()
def fitted(head: FittedHead, frame: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Normals (size, size, 3) and coverage (size, size) of one frame of a fit, seen by the clip's camera."""
    camera = head.camera.resized(size, size)
    maps = render(head.vertices(slice(frame, frame + 1)), head.head.dense_faces, camera)
    return maps.normals[0].numpy(), maps.coverage[0].numpy()


@torch.no_grad()
def two_sides(head: FittedHead, size: int) -> list[np.ndarray]:
    """The personalised neutral head in clay, from its right and from its left."""
    vertices = head.neutral()
    turned = torch.stack([turntable(vertices, math.radians(yaw)) for yaw in (TURN, -TURN)])
    above = turned[:, head.head.regions != head.head.REGIONS.index("body")]  # shoulders may leave the picture
    low, high = above.amin((0, 1)), above.amax((0, 1))
    extent = float((high - low)[:2].max())
    distance = 4 * extent
    turned = turned - (low + high) / 2 - torch.tensor([0.0, 0.0, distance])
    # a margin for what is nearer than the middle and so looks larger
    camera = Camera(0.86 * size * distance / extent, size / 2, size / 2, size, size)
    maps = render(turned, head.head.dense_faces, camera)
    return [
        shade_image(normals, coverage, background=0)
        for normals, coverage in zip(maps.normals, maps.coverage, strict=True)
    ]


def save(image: np.ndarray, file: Path) -> None:
    """JPEG."""
    if not cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise OSError(f"{file} could not be written")
