"""CelebV-HQ: one JSON file with an interval and a box a clip."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from expportrait.errors import UserError
from expportrait.importers.common import (
    NO_BOX,
    NOT_THERE,
    UNOPENED,
    UNREADABLE,
    Found,
    LeftOut,
    Media,
    Place,
    Sources,
    fitted,
    interval,
)

MARGIN = 0.02  # of the picture, added on each side by the data set's own script


def rows(
    annotations: Annotated[Path, typer.Argument(help="celebvhq_info.json.")],
    videos: Annotated[Path, typer.Argument(help="Folder of the videos YOUTUBE_ID.mp4, or of clips cut already.")],
) -> Iterator[Found | LeftOut]:
    """CelebV-HQ: clips of YouTube videos."""
    try:
        clips = json.loads(annotations.read_text("utf-8-sig"))["clips"].items()
    except OSError as error:
        raise UserError(f"{annotations} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{annotations} is not celebvhq_info.json: a JSON object with 'clips' is expected") from None
    sources = Sources(videos)
    for key, clip in clips:
        try:
            video = clip["ytb_id"]  # the key cannot be split, ids hold _
            start, end = (float(clip["duration"][name]) for name in ("start_sec", "end_sec"))
            box = [float(clip["bbox"][side]) for side in ("left", "top", "right", "bottom")] if "bbox" in clip else None
            if not isinstance(video, str) or not video:
                raise ValueError("ytb_id is not a text")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            yield LeftOut(key, UNREADABLE, f"{type(error).__name__}: {error}")
            continue
        common = {"clip": key, "person": video, "extra": {"video": video, "emotion": _emotion(clip)}}
        ready, source = sources.find(key), sources.find(video)
        if ready and key != video:  # cut and cropped already
            yield Found(source=ready, **common)
        elif source is None:
            yield LeftOut(key, NOT_THERE, f"{video}.mp4")
        else:
            yield Found(source=source, place=partial(_place, start, end, box), **common)


def _emotion(clip: dict[str, Any]) -> str:
    """One word; where it changes within the clip, those words in their order."""
    try:
        labels = clip["attributes"]["emotion"]["labels"]
        words = [labels] if isinstance(labels, str) else [str(label["emotion"]) for label in labels]
    except (KeyError, TypeError):
        return ""
    return " ".join(dict.fromkeys(words))


def _place(start: float, end: float, box: list[float] | None, media: Media | None) -> Place:
    start, end = interval(start, end, media)
    if box is None or media is None:
        return Place(start, end, note=f"{NO_BOX}: the annotation has none" if box is None else UNOPENED)
    left, top, right, bottom = (
        min(max(value + side * MARGIN, 0), 1) for value, side in zip(box, (-1, -1, 1, 1), strict=True)
    )
    x, y = (left + right) * media.width / 2, (top + bottom) * media.height / 2
    half = min((right - left) * media.width, (bottom - top) * media.height) // 2  # the square of the shorter side
    return fitted(start, end, (x - half, y - half, x + half, y + half), media)
