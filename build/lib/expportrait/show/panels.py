"""Pictures of one clip, from arrays. Images are (H, W, 3) u8 RGB."""

import json
import math
from collections.abc import Iterable
from functools import cache
from operator import itemgetter
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.store import FittedHead, load_proxy
from expportrait.head import Head
from expportrait.points478 import SKIN_POINTS
from expportrait.render import Camera, render
from expportrait.render.picture import shade_image, turntable
from expportrait.settings.config import HeadSettings
from expportrait.store import Store

TURN = 40.0  # degrees to either side of the front
ERROR_TOP = 45.0  # degrees, the end of the error's colours
ONE_SIDED = 110  # grey
MARK = (255, 120, 0)  # frames set aside


def marked(picture: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) u8 with what is not ``seen`` (H, W) u8 tinted in magenta."""
    hidden = 0.6 * (255 - seen[..., None].astype(np.float32)) / 255
    return np.rint((1 - hidden) * picture + hidden * np.float32([255, 0, 255])).astype(np.uint8)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Square image to ``size`` px."""
    shrink = size < len(image)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)


def strip(frames: list[np.ndarray], height: int, marked: Iterable[bool] = ()) -> np.ndarray:
    """Square frames beside each other; those that are ``marked`` have a frame."""
    small = [resize(frame, height) for frame in frames]
    for image, _ in filter(itemgetter(1), zip(small, marked, strict=False)):
        cv2.rectangle(image, (0, 0), (height - 1, height - 1), MARK, 2 * max(1, height // 40))
    return np.concatenate(small, axis=1)


def columns(count: int) -> int:
    """How many of ``count`` panels stand beside each other in a grid."""
    return 2 if count == 4 else min(count, 3)


def grid(images: list[np.ndarray]) -> np.ndarray:
    """Square images of one size in rows from left to right, the last row filled up with grey."""
    wide = columns(len(images))
    empty = np.full_like(images[0], 24)
    rows = [images[k : k + wide] for k in range(0, len(images), wide)]
    return np.vstack([np.hstack(row + [empty] * (wide - len(row))) for row in rows])


def labelled(image: np.ndarray, text: str) -> np.ndarray:
    """``image`` with a text in its upper left corner."""
    image = image.copy()
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
    image[: high + 10, : wide + 10] = image[: high + 10, : wide + 10] // 3
    return cv2.putText(image, text, (5, high + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255,) * 3, 1, cv2.LINE_AA)


def timeline(flags: np.ndarray, width: int, height: int) -> np.ndarray:
    """A bar as long as the clip, coloured in the frames of flags (T,) bool."""
    bar = np.full((height, width, 3), ONE_SIDED, np.uint8)
    for t in np.flatnonzero(flags):
        bar[:, t * width // len(flags) : max(t * width // len(flags) + 1, (t + 1) * width // len(flags))] = MARK
    return bar


def landmarks(frame: np.ndarray, points: np.ndarray, size: int) -> np.ndarray:
    """points (478, 2+) px of ``frame``, drawn on it: the irises in another colour."""
    scale = size / len(frame)
    image = resize(frame, size)
    for number, (x, y) in enumerate(points[:, :2] * scale):
        if math.isfinite(x + y):
            colour = (255, 196, 0) if number >= SKIN_POINTS else (60, 240, 150)
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


def load_fitted(store: Store) -> FittedHead:
    """A proxy store with the head that it was fitted with, by the settings in the store. Raises StoreError, and
    ClipError where the head's file has changed since."""
    return load_proxy(store, _head(json.dumps(store.attrs["settings"]["head"], sort_keys=True)))


@cache
def _head(settings: str) -> Head:
    return load_head(HeadSettings(**json.loads(settings)))


@torch.no_grad()
def fitted(head: FittedHead, frame: int, size: int, backend: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """Normals (size, size, 3) and coverage (size, size) of one frame of a fit, seen by the clip's camera."""
    camera = head.camera.resized(size, size)
    maps = render(head.vertices(slice(frame, frame + 1)), head.head.dense_faces, camera, backend=backend)
    return maps.normals[0].numpy(), maps.coverage[0].numpy()


class SideViews:
    """The head in clay, from its right and from its left, by two cameras that stand still."""

    def __init__(self, head: Head, blocks: Iterable[Tensor], size: int):
        """``blocks``: all that will be shown, (B, n_d, 3) m each, for the place and the distance of the cameras."""
        self.head, low, high = head, torch.full((2, 3), torch.inf), torch.full((2, 3), -torch.inf)
        above = head.regions != head.REGIONS.index("body")  # shoulders may leave the picture
        for block in blocks:
            turned = self._turned(block[:, above])
            low, high = torch.minimum(low, turned.amin((1, 2))), torch.maximum(high, turned.amax((1, 2)))
        extent = float((high - low)[:, :2].max())
        distance = 4 * extent
        self.place = (low + high) / 2 + torch.tensor([0.0, 0.0, distance])
        # a margin for what is nearer than the middle and so looks larger
        self.camera = Camera(0.86 * size * distance / extent, size / 2, size / 2, size, size)

    def _turned(self, vertices: Tensor) -> Tensor:
        """(B, n, 3) -> (2, B, n, 3)."""
        origin = torch.zeros(3)
        return torch.stack([turntable(vertices, math.radians(yaw), centre=origin) for yaw in (TURN, -TURN)])

    @torch.no_grad()
    def draw(self, vertices: Tensor, backend: str = "auto") -> list[np.ndarray]:
        """Two pictures of (n_d, 3)."""
        turned = self._turned(vertices[None])[:, 0] - self.place[:, None]
        maps = render(turned, self.head.dense_faces, self.camera, backend=backend)
        return [shade_image(n, c, background=0) for n, c in zip(maps.normals, maps.coverage, strict=True)]


@torch.no_grad()
def two_sides(head: FittedHead, size: int) -> list[np.ndarray]:
    """The personalised neutral head, from its right and from its left."""
    vertices = head.neutral()
    return SideViews(head.head, [vertices[None]], size).draw(vertices)


def error_map(estimated: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """The angle between two normal maps (H, W, 3), background 0, as colours: see :func:`error_colours`; plain grey
    where only one of them has a surface."""
    both, either = (join(estimated.any(-1), fitted.any(-1)) for join in (np.logical_and, np.logical_or))
    angle = np.degrees(np.arccos(np.clip((estimated * fitted).sum(-1), -1, 1)))
    return np.where(both[..., None], error_colours(angle), np.where(either[..., None], ONE_SIDED, 0)).astype(np.uint8)


def error_colours(angle: np.ndarray) -> np.ndarray:
    """Angles (H, W) in degrees, 0 to ERROR_TOP, -> colours (H, W, 3) u8."""
    scaled = np.rint(255 * np.clip(angle / ERROR_TOP, 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def save(image: np.ndarray, file: Path) -> None:
    """JPEG."""
    if not cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise OSError(f"{file} could not be written")
