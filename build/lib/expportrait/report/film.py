"""Films of the page: all panels of a film are in one file, so that none can be ahead of another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from expportrait.settings.config import Report
from expportrait.show import panels
from expportrait.video.mark import Mark
from expportrait.video.write import write_mp4

KEYS = 12  # frames from key frame to key frame: the slider jumps about in the film


def film(
    names: list[str],
    at: Callable[[int, int], list[np.ndarray]],
    count: int,
    fps: float,
    shown: int,
    folder: Path,
    settings: Report,
    mark: Mark | None = None,
) -> dict[str, Any]:
    """What the template shows of the first ``settings.video_seconds`` of ``count`` frames, made in ``folder``.

    ``at(t, size)``: the panels ``names`` of frame t, (size, size, 3) u8 RGB each. ``shown``: the frame pictured before
    the film is played; where it lies beyond the film's end, the middle one is taken. A single frame is a picture alone.
    ``mark``: what the film says of itself.
    """  # fmt: skip
    size = settings.size // 2 * 2  # H.264 wants even sides
    length = min(count, max(2, round(settings.video_seconds * fps)))
    shown = shown if shown < length else length // 2
    picture = panels.grid(at(shown, size))
    panels.save(picture, folder / "film.jpg")
    if count > 1:
        pictures = (panels.grid(at(t, size)) for t in range(length))
        write_mp4(folder / "film.mp4", pictures, fps, crf=22, keys=KEYS, mark=mark)
    return {
        "file": "film.mp4" if count > 1 else "",
        "poster": "film.jpg",
        "shown": shown,
        "width": picture.shape[1],
        "height": picture.shape[0],
        "panels": names,
        "columns": panels.columns(len(names)),
        "frames": length,
        "of": count,
        "fps": fps,
    }
