"""What all networks that see one frame at a time share: from their raw maps to ``Geometry``."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from expportrait.engine.prefetch import ahead
from expportrait.errors import ClipError
from expportrait.estimators.geometry.base import Geometry, GeometryEstimator
from expportrait.face_areas import polygon
from expportrait.points478 import FACE_OVAL
from expportrait.settings.config import GeometrySettings, HeadSettings
from expportrait.settings.weights import geometry_files
from expportrait.video.margins import NONE, Margins

BATCH = 8  # frames a call
HALF_STEP = 0.5 / 255  # masks below are stored as 0
FACING = 0.3  # least z of the normals whose slopes are compared with the depth's
CONTRADICTION = -0.3  # correlation of the two slopes below which one of the files must be wrong


class DenseEstimator(GeometryEstimator):
    """A subclass gives ``inputs`` and ``raw``. Camera space, sign and scale are put right there; size, mask and unit
    length here.

    Reading and ``inputs``, ``raw``, and what follows it run in a thread each, a few batches apart: the device waits for
    the slowest of them only.
    """

    @abstractmethod
    def __init__(self, files: dict[str, Path], device: str = "cpu"):
        """``files``: by the setting that names one. Raises UserError for files that are missing or others."""

    @classmethod
    def load(cls, head: HeadSettings, settings: GeometrySettings, device: str) -> Self:
        """The networks in the files that the section ``geometry`` names."""
        return cls(geometry_files(cls.name, settings), device)

    @abstractmethod
    def inputs(self, frames: np.ndarray) -> Any:
        """(B,H,W,3) u8 RGB -> what the networks take."""

    @abstractmethod
    def raw(self, inputs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """-> normals (B,h,w,3) in camera space, any length; depth (B,h,w); mask (B,h,w) 0..1."""

    def batches(
        self, frames: np.ndarray, points: np.ndarray, interpolated: np.ndarray, certainty: np.ndarray | None = None,
        margins: Margins = NONE,
    ) -> Iterator[Geometry]:  # fmt: skip
        parts = [slice(first, first + BATCH) for first in range(0, len(frames), BATCH)]
        inputs = ahead(self.inputs(frames[part]) for part in parts)
        for part, maps in zip(parts, ahead(map(self.raw, inputs)), strict=True):
            for t, *one in zip(range(*part.indices(len(frames))), *maps, strict=True):
                yield self._finish(frames.shape[1:3], points[t], *one, check=t == 0)

    def _finish(
        self, size: tuple[int, int], landmarks: np.ndarray, normals: np.ndarray, depth: np.ndarray, mask: np.ndarray,
        check: bool,
    ) -> Geometry:  # fmt: skip
        """Of one frame, so that it stays in the processor's cache, at the frame's size. Raises ClipError for maps that
        are no numbers, or that contradict each other."""
        if not all(np.isfinite(values).all() for values in (normals, depth, mask)):
            raise ClipError(f"geometry: {self.name} gave values that are no numbers")
        face = polygon(landmarks[list(FACE_OVAL)], size[0]) if np.isfinite(landmarks).all() else None
        alpha = np.clip(resized(mask, size), 0, 1)
        drop_others(alpha, face)
        inside = alpha > HALF_STEP
        alpha *= inside
        normal = resized(normals, size)
        length = np.sqrt(normal[..., 0] ** 2 + normal[..., 1] ** 2 + normal[..., 2] ** 2)
        normal = normal * (inside / np.maximum(length, 1e-8)).astype(np.float32)[..., None]
        depth = resized(depth, size) * inside
        if check and (agreement := agree(normal, depth, alpha > 0.9)) < CONTRADICTION:
            raise ClipError(
                f"geometry: depth and normals of {self.name} contradict each other (correlation of their slopes "
                f"{agreement:.2f}): one of the files gives the opposite sign or is of another model"
            )
        return Geometry(normal[None], depth[None], alpha[None], alpha[None].copy(), self.depth_space)


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h,w) or (h,w,c) -> (H,W[,c]): averaged when it shrinks, cubic when it grows."""
    if image.shape[:2] == tuple(size):
        return image
    shrinks = size[0] < image.shape[0]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def drop_others(mask: np.ndarray, face: np.ndarray | None) -> None:
    """Empties ``mask`` (H,W) where other parts are than the one with most of ``face`` (H,W) bool; without, the largest.

    Parts are told apart at a quarter of the size, so those that a hair's breadth divides stay together.
    """
    small = tuple(max(1, n // 4) for n in mask.shape[::-1])
    inside = (cv2.resize(mask, small, interpolation=cv2.INTER_AREA) > 0.5).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    if count <= 2:
        return
    sizes = stats[:, cv2.CC_STAT_AREA]
    if face is not None:
        on_face = labels[cv2.resize(np.uint8(face), small, interpolation=cv2.INTER_NEAREST) > 0]
        shared = np.bincount(on_face, minlength=count)
        sizes = shared if shared[1:].any() else sizes
    kept = np.uint8(labels == 1 + int(np.argmax(sizes[1:])))
    others = cv2.dilate(inside - kept, np.ones((5, 5), np.uint8))
    near = cv2.dilate(kept, np.ones((3, 3), np.uint8))  # keeps the soft edge
    others = cv2.resize(others & (1 - near), mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
    mask[others > 0] = 0


def agree(normals: np.ndarray, depth: np.ndarray, where: np.ndarray) -> float:
    """Correlation of the depth's slopes with the normals': of a surface z(x, y), n ~ (dz/dx, -dz/dy, 1) with y down.

    normals (H,W,3), depth (H,W) larger = farther, where (H,W) bool. 1 where there is nothing to compare.
    """
    where = cv2.erode(where.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    where &= normals[..., 2] > FACING
    down, right = np.gradient(cv2.GaussianBlur(depth, (0, 0), 2))
    slopes = np.concatenate([right[where], -down[where]])
    expected = np.concatenate([(normals[..., i] / np.maximum(normals[..., 2], FACING))[where] for i in (0, 1)])
    if len(slopes) < 100 or slopes.std() == 0 or expected.std() == 0:
        return 1.0
    return float(np.corrcoef(slopes, expected)[0, 1])
