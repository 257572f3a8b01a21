"""What the importers share: clips found and left out, where the videos are, ids, splits."""

import hashlib
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from expportrait.errors import UserError
from expportrait.video.kinds import IMAGES, VIDEOS, kind

LEAST_BOX = 0.5  # share of a box that has to lie inside the picture
NOT_THERE = "the video is not there"
UNREADABLE = "the annotation cannot be read"
NO_BOX = "kept without its box"
UNOPENED = f"{NO_BOX}: the video was not opened, so its size is not known"

VIDEO, IMAGE, PORTRAIT, FRAMES = TAKEN_FOR = "videos", "single images", "numbered portraits", "folders of frames"

Box = tuple[float, float, float, float]


class Media(NamedTuple):
    """What a source is like: upright px, frames a second, s (0: its header does not say)."""

    width: int
    height: int
    fps: float
    length: float


@dataclass(frozen=True)
class Place:
    """Which part of a source is meant: s, and px of the source. ``note``: why there is no box, though one is usual.
    ``fps``: the frames a second that the times of a folder of frames were taken at, where ``Found`` has none."""

    start: float | None = None
    end: float | None = None
    box: Box | None = None
    note: str = ""
    fps: float | None = None


@dataclass(frozen=True)
class Found:
    """A clip. ``place`` gets the source's Media, or None where it was not opened, and may raise ValueError."""

    clip: str  # as the data set names it
    source: Path
    person: str
    place: Callable[[Media | None], Place] = lambda media: Place()
    group: str = ""  # what a split must not divide, where that is more than the person: the video
    split: str = ""  # the data set's own
    fps: float | None = None  # of a folder of frames
    extra: dict[str, str] = field(default_factory=dict)
    taken_for: str = ""  # one of TAKEN_FOR, where that had to be judged


@dataclass(frozen=True)
class LeftOut:
    """``reason`` is counted, ``detail`` is particular to this one."""

    what: str
    reason: str
    detail: str = ""


class Sources:
    """The videos and folders of frames below a folder, by their names without suffix."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; the folder of the videos is expected")
        self._known: dict[str, Path] = {}
        self._unknown: dict[str, list[Path]] = {}  # of other suffixes; looked into when asked for
        for home, files in walk(folder):
            for name in files:
                if Path(name).suffix.lower() in VIDEOS:
                    self._known.setdefault(Path(name).stem, home / name)
                elif Path(name).suffix.lower() not in IMAGES:
                    self._unknown.setdefault(Path(name).stem, []).append(home / name)
            if home != folder and any(Path(name).suffix.lower() in IMAGES for name in files):
                self._known.setdefault(home.name, home)

    def find(self, *names: str) -> Path | None:
        """Where the first of the names that is there is."""
        for name in names:
            files = [file for file in self._unknown.get(name, ()) if name not in self._known and kind(file) == "video"]
            if name in self._known or files:
                return self._known.get(name) or files[0]
        return None


def walk(folder: Path) -> list[tuple[Path, list[str]]]:
    """Folders and their files, in a fixed order; links are followed, but each folder is visited once."""

    def unreadable(error: OSError) -> None:
        raise UserError(f"the folder {error.filename} cannot be read: {error.strerror}")

    seen: set[str] = set()
    found = []
    for home, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        real = os.path.realpath(home)
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        found.append((Path(home), sorted(name for name in files if name[0] != ".")))
    return found


def lines(file: Path) -> list[str]:
    """Lines of an annotation file, without a byte order mark; bytes that are not UTF-8 are replaced."""
    try:
        return file.read_text("utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None


def number(text: str) -> float:
    """A finite number, or ValueError."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a number")
    return value


def clip_id(name: str) -> str:
    """The name where a manifest allows it, else a like one that ends in a hash of it; at most 90 characters."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,89}", name):
        return name
    clean = re.sub(r"[^A-Za-z0-9._+-]+", "_", name)
    clean = clean if re.match(r"[A-Za-z0-9_]", clean) else f"_{clean}"
    return f"{clean[:80]}-{hashlib.sha1(_bytes(name)).hexdigest()[:8]}"


def split_of(group: str, val: float, test: float) -> str:
    """train, val or test by a hash of the group: no other person's coming or going changes it."""
    share = int.from_bytes(hashlib.sha1(_bytes(f"split {group}")).digest()[:8]) / 2**64
    return "test" if share < test else "val" if share < test + val else "train"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def interval(start: float, end: float, media: Media | None) -> tuple[float, float]:
    """Start and end in s. Raises ValueError where they are no interval, or the source ends before."""
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
        raise ValueError("the annotation's interval is empty")
    if media is not None and 0 < media.length <= start:
        raise ValueError("the interval lies behind the end of the video")
    return start, end


def fitted(start: float, end: float, box: Box, media: Media) -> Place:
    """The interval with the box, px, cut to the picture; without it where little of it lies inside, or it is empty."""
    if not all(map(math.isfinite, box)) or box[2] - box[0] < 1 or box[3] - box[1] < 1:
        return Place(start, end, note=f"{NO_BOX}: it is empty")
    inside = max(box[0], 0), max(box[1], 0), min(box[2], media.width), min(box[3], media.height)
    width, height = max(0, inside[2] - inside[0]), max(0, inside[3] - inside[1])
    if width * height < LEAST_BOX * (box[2] - box[0]) * (box[3] - box[1]):
        return Place(start, end, note=f"{NO_BOX}: it lies outside the picture")
    return Place(start, end, inside)
