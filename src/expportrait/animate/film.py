"""A finished film, from the stores of its pair."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from expportrait.manifest.clips import Row
from expportrait.progress import bar
from expportrait.store import Store
from expportrait.video.write import Mp4Writer

BLOCK = 8  # frames read at once


@dataclass(frozen=True)
class Told:
    """What a film says of itself: which portrait is moved by which driver, and whether a generator made it; and whether
    it shows the whole portrait."""

    portrait: str
    driver: str
    generated: bool
    paste_back: bool


def pictures(pair: str, results: Path, generated: bool) -> Iterator[np.ndarray]:
    """The film's frames (S, S, 3) u8 as they were made, at the crop's size: the carried portrait, or what the generator
    made, with what is finer than its own pixels from the carried portrait, as far as that was seen."""
    carried = Store(results / "appearance" / f"{pair}.zarr")
    shown, seen = carried.lazy("appearance"), carried.lazy("seen")
    made = Store(results / "reenact" / f"{pair}.zarr").lazy("frames") if generated else None
    for first in range(0, shown.shape[0], BLOCK):
        span = slice(first, first + BLOCK)
        if made is None:
            yield from shown[span]
            continue
        for picture, whole, known in zip(made[span], shown[span], seen[span], strict=True):
            yield finer(picture, whole, known)


def finer(made: np.ndarray, carried: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """``made`` (s, s, 3) u8 at the size of ``carried`` (S, S, 3) u8: with those details of it that are smaller than the
    pixels of ``made``, where the portrait was ``seen`` (S, S) u8."""
    size, small = len(carried), len(made)
    if small >= size:
        return cv2.resize(made, (size, size), interpolation=cv2.INTER_AREA) if small > size else made

    def large(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)

    coarse = cv2.resize(carried, (small, small), interpolation=cv2.INTER_AREA).astype(np.float32)
    detail = (carried.astype(np.float32) - large(coarse)) * (seen[..., None] / 255)
    return np.rint(np.clip(large(made.astype(np.float32)) + detail, 0, 255)).astype(np.uint8)


def write_film(file: Path, pair: Row, portrait: Row, driver: Row, results: Path, told: Told) -> str:
    """Write the film and, beside it, ``.side.mp4`` with portrait, driver and result; returns in words what it is."""
    crops = {name: Store(results / "crop" / f"{pair.extra[name]}.zarr") for name in ("target", "driver")}
    own, driving, fps = crops["target"]["frames"][0], crops["driver"].lazy("frames"), crops["driver"].attrs["fps"]
    with Mp4Writer(file, fps) as film, Mp4Writer(file.with_suffix(".side.mp4"), fps) as beside:
        for t, picture in enumerate(bar(len(driving), "film", pictures(pair.clip, results, told.generated))):
            film.append(picture)
            beside.append(np.hstack([own, driving[t], picture]))
    return f"{t + 1} frames"
