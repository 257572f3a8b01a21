"""The part of a square crop that lies beyond its source's picture: there ``crop`` repeats the border, and nobody saw
anything."""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Margins:
    """Their widths at the four sides, as shares of the crop's side."""

    left: float = 0.0
    top: float = 0.0
    right: float = 0.0
    bottom: float = 0.0

    @classmethod
    def of(cls, attrs: Mapping[str, Any], size: int) -> Self:
        """From the attribute ``padded`` (left, top, right, bottom, px) of a store whose pictures have ``size`` px a
        side; none where the attribute is missing."""
        return cls(*(width / size for width in attrs.get("padded") or (0, 0, 0, 0)))

    def __bool__(self) -> bool:
        return any(astuple(self))

    def bounds(self, size: int, border: float = 0.0) -> tuple[float, float, float, float]:
        """First and last column, first and last row (px, the last ones not included) of what shows the picture at
        ``size`` px, at least ``border`` px away from its edge."""
        far = size - border
        return (self.left * size + border, far - self.right * size, self.top * size + border, far - self.bottom * size)

    def inside(self, size: int) -> np.ndarray:
        """(size, size) bool: pixels that show the picture and nothing else."""
        rows, columns = self.parts(size)
        out = np.zeros((size, size), bool)
        out[rows, columns] = True
        return out

    def parts(self, size: int) -> tuple[slice, slice]:
        """The rows and the columns of these pixels, one at least."""
        left, right, top, bottom = self.bounds(size)
        spans = []
        for low, high in ((top, bottom), (left, right)):
            first = min(math.ceil(low - 1e-6), size - 1)
            spans.append(slice(first, max(math.floor(high + 1e-6), first + 1)))
        return spans[0], spans[1]

    def holds(self, points: np.ndarray, size: int, border: float = 0.0) -> np.ndarray:
        """(...,) bool: which points (..., 2+) px, x and y first, lie in the picture."""
        left, right, top, bottom = self.bounds(size, border)
        x, y = points[..., 0], points[..., 1]
        return (x >= left) & (x < right) & (y >= top) & (y < bottom)

    def clear(self, images: np.ndarray) -> None:
        """Set the margins of (B, size, size, ...) to 0."""
        size = images.shape[1]
        rows, columns = self.parts(size)
        images[:, : rows.start] = images[:, rows.stop :] = 0
        images[:, :, : columns.start] = images[:, :, columns.stop :] = 0

    def repeat(self, images: np.ndarray) -> None:
        """Set the margins of (B, size, size, ...) to what lies at the picture's edge."""
        size = images.shape[1]
        rows, columns = self.parts(size)
        images[:, : rows.start] = images[:, rows.start, None]
        images[:, rows.stop :] = images[:, rows.stop - 1, None]
        images[:, :, : columns.start] = images[:, :, columns.start, None]
        images[:, :, columns.stop :] = images[:, :, columns.stop - 1, None]


NONE = Margins()
