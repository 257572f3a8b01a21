"""One video, from its first frame to its record."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from expportrait.errors import ClipError
from expportrait.importers.split.clips import ALONE, Clip, Left, clips_of
from expportrait.importers.split.watch import Tools, Watch
from expportrait.settings.config import Config
from expportrait.video.reader import FolderReader, open_source

BROKEN = "the video breaks off, or parts of it cannot be decoded"
NEAR = 1e-6  # s


def split(path: str, config: Config, tools: Tools, heard: Callable[[float], None]) -> dict[str, Any]:
    """Clips of a video and what was left out, as JSON values. ``heard`` is told how much of it is done, 0..1.

    Raises ClipError where it cannot be read at all.
    """
    source = open_source(path)
    if isinstance(source, FolderReader):
        raise ClipError(f"{path} is no video; images and folders of frames are clips already: import folder")
    clips: list[dict[str, Any]] = []
    left: list[Left] = []
    ends = 0.0
    for section in Watch(source, tools, config).sections():
        found, out = clips_of(section, config, tools.recogniser.rows)
        clips += [_told(clip) for clip in found]
        left += out
        ends = section.times[-1]
        heard(min(1.0, ends / source.length) if source.length else 0.0)
    if source.truncated:
        left.append(Left(ends, max(ends, source.length), BROKEN))
    return {"length": round(ends, 4), "clips": clips, "left": [asdict(one) for one in joined(left)]}


def joined(left: list[Left]) -> list[Left]:
    """In order of time; what is nobody's and goes on, such as titles, is one line whatever cuts it has."""
    found: list[Left] = []
    last: dict[str, int] = {}  # reason -> its last line
    for one in sorted(left, key=lambda one: (one.start, one.end, one.reason)):
        before = last.get(one.reason)
        if one.reason in ALONE and before is not None and abs(found[before].end - one.start) < NEAR:
            found[before] = Left(found[before].start, one.end, one.reason)
        else:
            last[one.reason] = len(found)
            found.append(one)
    return [Left(round(one.start, 4), round(one.end, 4), one.reason, one.count, round(one.size, 1)) for one in found]


def _told(clip: Clip) -> dict[str, Any]:
    told = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(clip).items()}
    told["row"] = None if clip.row is None else np.round(clip.row, 4).tolist()
    return told
