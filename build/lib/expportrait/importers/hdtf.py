"""HDTF: tables of intervals and boxes for three parts, RD, WDA and WRA."""

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

INTERVAL = re.compile(r"((?:\d{1,9}:)?\d{1,9}:\d{1,9})-((?:\d{1,9}:)?\d{1,9}:\d{1,9})", re.ASCII)


def rows(
    annotations: Annotated[Path, typer.Argument(help="Folder of RD_annotion_time.txt and its companions.")],
    videos: Annotated[Path, typer.Argument(help="Folder of the videos Radio1.mp4 (or YOUTUBE_ID.mp4), or of clips.")],
) -> Iterator[Found | LeftOut]:
    """HDTF: clips of YouTube videos."""
    tables = {name: home / name for home, names in walk(annotations) for name in names}
    parts = sorted(name.removesuffix("_video_url.txt") for name in tables if name.endswith("_video_url.txt"))
    if not parts:
        raise UserError(f"{annotations} holds no file …_video_url.txt; HDTF's folder HDTF_dataset is expected")
    sources = Sources(videos)
    for part in parts:
        kinds = ("video_url", "annotion_time", "crop_wh", "resolution")
        urls, times, crops, heights = (_table(tables.get(f"{part}_{kind}.txt")) for kind in kinds)
        for name in dict.fromkeys([*urls, *times]):
            yield from _video(part, name, urls.get(name, []), times.get(name, []), crops, heights.get(name), sources)


def _table(file: Path | None) -> dict[str, list[str]]:
    """First word of each line, without .mp4 -> its other words."""
    split = [line.split() for line in (lines(file) if file else [])]
    return {words[0].removesuffix(".mp4"): words[1:] for words in split if words}


def _video(
    part: str, name: str, url: list[str], times: list[str], crops: dict[str, list[str]], height: list[str] | None,
    sources: Sources,
) -> Iterator[Found | LeftOut]:  # fmt: skip
    if not times:
        yield LeftOut(name, "the annotation has no interval", f"{part}_annotion_time.txt")
    found = re.search(r"(?:v=|youtu\.be/|embed/|shorts/)([\w-]{11})", " ".join(url), re.ASCII)
    video = found[1] if found else ""
    # the number at the end counts the videos of a politician; the radio's are named by nothing else
    person = name if part == "RD" else name.rstrip("0123456789") or name
    for index, text in enumerate(times):
        clip = f"{name}_{index}"
        match = INTERVAL.fullmatch(text)
        if match is None:
            yield LeftOut(clip, UNREADABLE, f"{part}_annotion_time.txt: {text!r}")
            continue
        common = {"clip": clip, "person": f"hdtf-{person}", "extra": {"video": video, "part": part}}
        ready = sources.find(clip, f"{part}_{name}_{index:03d}")
        source = sources.find(name, f"{part}_{name}", *([video] if video else []))
        if ready:  # cut and cropped already
            yield Found(source=ready, **common)
        elif source is None:
            yield LeftOut(clip, NOT_THERE, f"{name}.mp4" + (f" or {video}.mp4" if video else ""))
        else:
            box, note = _box(crops.get(clip), height)
            place = partial(_place, _seconds(match[1]), _seconds(match[2]), box, note)
            yield Found(source=source, place=place, **common)


def _seconds(text: str) -> float:
    """[h:]m:s"""
    seconds = 0
    for field in text.split(":"):
        seconds = 60 * seconds + int(field)
    return float(seconds)


def _box(crop: list[str] | None, height: list[str] | None) -> tuple[Box | None, str]:
    """x w y h px at the annotated height -> x0 y0 x1 y1 over that height; or why not."""
    if crop is None:
        return None, f"{NO_BOX}: the annotation has none"
    try:
        x, width, y, tall = map(number, crop)
        of = number(height[0]) if height else 0.0
    except (ValueError, IndexError):
        return None, f"{NO_BOX}: the annotation's box or resolution cannot be read"
    if of <= 0:
        return None, f"{NO_BOX}: the annotation's resolution is 0 or missing"
    return (x / of, y / of, (x + width) / of, (y + tall) / of), ""


def _place(start: float, end: float, box: Box | None, note: str, media: Media | None) -> Place:
    start, end = interval(start, end, media)
    if box is None or media is None:
        return Place(start, end, note=note or UNOPENED)
    x0, y0, x1, y1 = (value * media.height for value in box)
    return fitted(start, end, (x0, y0, x1, y1), media)
