"""VFHQ: one text file a clip, named Clip+VIDEO+Pn+Cn+Ffirst-last.txt."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from expportrait.errors import UserError
from expportrait.importers.common import (
    NO_BOX,
    NOT_THERE,
    UNOPENED,
    UNREADABLE,
    Box,
    Found,
    LeftOut,
    Media,
    Place,
    Sources,
    fitted,
    interval,
    lines,
    number,
    walk,
)

SAME_RATE = 0.005  # relative difference up to which annotation and file count the same frames


def rows(
    annotations: Annotated[Path, typer.Argument(help="Folder with the Clip+….txt files, at any depth.")],
    videos: Annotated[Path, typer.Argument(help="Folder of the videos YOUTUBE_ID.mp4, or of clips cut already.")],
) -> Iterator[Found | LeftOut]:
    """VFHQ: clips of YouTube videos, or the distributed folders of frames."""
    sources = Sources(videos)
    files = [home / name for home, names in walk(annotations) for name in names if name.endswith(".txt")]
    files = [file for file in files if "+" in file.name]
    if not files:
        raise UserError(f"{annotations} holds no file Clip+….txt; unpack VFHQ's meta_info.zip there")
    for file in files:
        yield _clip(file, sources)


def _clip(file: Path, sources: Sources) -> Found | LeftOut:
    parts = file.stem.split("+")  # and by nothing else: ids hold - and _
    span = re.fullmatch(r"F(\d{1,9})-(\d{1,9})", parts[-1], re.ASCII)
    if len(parts) != 5 or parts[0] != "Clip" or not parts[1] or span is None:
        return LeftOut(file.name, "the file's name is not Clip+video+person+clip+frames", str(file))
    video, person = parts[1:3]
    try:
        fps, size, box = _read(file)
    except ValueError as error:
        return LeftOut(file.stem, UNREADABLE, f"{file}: {error}")
    official = "test" if any(re.search(r"VFHQ.?Test", part, re.IGNORECASE) for part in file.parts) else ""
    common = {
        "clip": file.stem, "person": f"{video}+{person}", "group": video, "split": official, "extra": {"video": video},
    }  # fmt: skip
    ready, source = sources.find(file.stem, "+".join(parts[:4])), sources.find(video)
    if ready:  # cut and cropped already
        return Found(source=ready, fps=fps if ready.is_dir() else None, **common)
    if source is None:
        return LeftOut(file.stem, NOT_THERE, f"{video}.mp4")
    return Found(source=source, place=partial(_place, int(span[1]), int(span[2]), fps, size, box), **common)


def _read(file: Path) -> tuple[float | None, tuple[float, float] | None, Box | None]:
    """Frames a second, width and height of the annotated video, x0 y0 x1 y1 px; None for what is 0 or missing."""
    words = {found[0].rstrip(":"): found for line in lines(file) if (found := line.replace(",", " ").split())}
    width, height, fps = (number(words[name][-1]) if name in words else 0.0 for name in ("W", "H", "FPS"))
    corners = tuple(map(number, words["CROP"][-4:])) if "CROP" in words else ()
    if len(corners) not in (0, 4):
        raise ValueError("CROP has no four numbers")
    return fps if fps > 0 else None, (width, height) if width > 0 and height > 0 else None, corners or None


def _place(
    first: int, last: int, fps: float | None, size: tuple[float, float] | None, box: Box | None, media: Media | None
) -> Place:
    """The frames first + 1 to last - 1, as the data set's own scripts take them."""
    rate = fps
    if media and media.fps > 0 and (fps is None or abs(media.fps / fps - 1) < SAME_RATE):
        rate = media.fps  # the same frames, at the exact rate: 29.97 for an annotated 30
    if rate is None:
        raise ValueError("neither the annotation nor the file says how many frames a second")
    start, end = interval((first + 0.5) / rate, (last - 0.5) / rate, media)
    if box is None or size is None:
        missing = "box" if box is None else "size of the picture that its box refers to"
        return Place(start, end, note=f"{NO_BOX}: the annotation has no {missing}")
    if media is None:
        return Place(start, end, note=UNOPENED)
    x, y = media.width / size[0], media.height / size[1]
    return fitted(start, end, (box[0] * x, box[1] * y, box[2] * x, box[3] * y), media)
