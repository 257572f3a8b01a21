"""A finished film, from the stores of its pair."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from expportrait.appearance.paste import Paste
from expportrait.files import remove_leftovers
from expportrait.manifest.clips import Row
from expportrait.progress import bar
from expportrait.store import Store
from expportrait.video.mark import moved
from expportrait.video.reader import open_source
from expportrait.video.sound import Sound
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


def pictures(stores: Mapping[str, Store]) -> Iterator[np.ndarray]:
    """The film's frames (S, S, 3) u8 as they were made, at the crop's size: the portrait that ``appearance`` carried,
    or what ``reenact`` made where there is its store, with what is finer than its own pixels from ``appearance``."""
    shown, seen = (stores["appearance"].lazy(name) for name in ("appearance", "seen"))
    made = stores["reenact"].lazy("frames") if "reenact" in stores else None
    for first in range(0, shown.shape[0], BLOCK):
        span = slice(first, first + BLOCK)
        if made is None:
            yield from shown[span]
        else:
            yield from map(finer, made[span], shown[span], seen[span])


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


def side_of(film: Path) -> Path:
    """The film beside it, of portrait, driver and result."""
    return film.with_name(f"{film.stem}.side.mp4")


def write_film(file: Path, pair: Row, portrait: Row, driver: Row, stores: Mapping[str, Store], told: Told) -> str:
    """Write the film and, beside it, ``.side.mp4`` with portrait, driver and result; returns in words what it is.

    ``stores``: the pair's, by stage, and those of ``crop`` of its ``target`` and its ``driver``.
    """
    target, driving = stores["target"], stores["driver"]
    own, times, fps = target["frames"][0], driving["timestamps"], float(driving.attrs["fps"])
    source = next(open_source(portrait.path).frames())[1]
    box, (height, width) = tuple(target.attrs["box"]), source.shape[:2]
    whole = told.paste_back and box != (0, 0, width, height)
    paste = Paste(source, box, target.attrs["rotated"], own) if whole else None
    sound = Sound.of(driver.path, driving, len(times))
    alone, together = (moved(told.portrait, told.driver, told.generated, alone) for alone in (not whole, False))
    side = side_of(file)
    for one in (file, side):
        one.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(one)
    with (
        Mp4Writer(file, fps, times=times, sound=sound, mark=alone) as film,
        Mp4Writer(side, fps, times=times, sound=sound, mark=together) as beside,
    ):
        shown = bar(len(times), "film", pictures(stores))
        for driver_frame, picture in zip(driving.lazy("frames"), shown, strict=True):
            film.append(paste(picture) if paste else picture)
            beside.append(np.hstack([own, driver_frame, picture]))
    height, width = (one + one % 2 for one in ((height, width) if whole else own.shape[:2]))  # as Mp4Writer has it
    size = f"{width}x{height}"
    return f"{len(times)} frames, {size}, {'generated' if told.generated else 'a preview'}{_part(driving)}"


def _part(driving: Store) -> str:
    """Which part of the driver a film shows, in words; empty where it is all of it and the file is whole."""
    (first, last), shots = driving.attrs["shot"], driving.attrs["shots"]
    words = (
        "; the driver is damaged or cut off, and is shown as far as it can be read"
        if driving.attrs.get("truncated")
        else ""
    )
    if [first, last] == [shots[0][0], shots[-1][1]]:
        return words
    begin, end = driving["timestamps"][[0, -1]]
    return f", {begin:.2f} to {end:.2f} s of the driver: its longest part that shows one person's face{words}"
