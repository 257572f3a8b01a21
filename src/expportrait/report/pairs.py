"""One pair's part of the report: its side-by-side video, or without a generated one, what the generator would get."""

import os
import shutil
from pathlib import Path

import numpy as np

from expportrait.engine.keys import content_key
from expportrait.manifest.clips import Row
from expportrait.render.picture import normals_to_rgb
from expportrait.report.card import Card, kept, recorded
from expportrait.settings.config import Report
from expportrait.show import panels
from expportrait.store import Store, decode_normals
from expportrait.video.reader import VideoReader
from expportrait.video.write import write_mp4

VERSION = 2  # bump when equal stores give other media
PANELS = ("reference", "driver", "control map", "result")
CARRIED = ("reference", "driver", "appearance", "magenta: not seen in the reference")


def make_pair(pair: Row, results: Path, keys: dict[str, str], media: Path, settings: Report) -> Card:
    """The pair's card, from ``media/<pair>`` where that is up to date. ``keys``: of the stages that are ok.

    Its pictures are the panels of its video, from left to right. Raises StoreError where a store is missing or damaged.
    """
    drive = Store(results / "drive" / f"{pair.clip}.zarr")
    video = results / "reenact" / f"{pair.clip}.side.mp4"
    made = "reenact" in keys and video.is_file()
    look = {} if made else {"size": settings.size, "video_seconds": settings.video_seconds}

    def draw(folder: Path) -> Card:
        stores = [drive]
        card = Card()
        crops = {name: Store(results / "crop" / f"{pair.extra[name]}.zarr") for name in ("target", "driver")}
        count, fps = drive.lazy("normals").shape[0], float(crops["driver"].attrs.get("fps") or 25)
        if made:
            stores.append(Store(results / "reenact" / f"{pair.clip}.zarr"))
            count, fps = stores[1].lazy("frames").shape[0], float(stores[1].attrs.get("fps") or fps)
            card.video = _linked(video, folder, count, fps, "side", PANELS)
        else:
            card.video = _driven(drive, crops, folder, fps, settings)
        carried = results / "appearance" / f"{pair.clip}.side.mp4"
        if "appearance" in keys and carried.is_file():
            card.appearance = _linked(carried, folder, count, fps, "appearance", CARRIED)
        recorded(card, stores)
        length = f"{count} frames, {count / fps:.1f} s at {fps:.4g} fps" if count > 1 else "one frame"
        card.facts = [("reference", f"frame {drive.attrs['reference']} of the target"), ("length", length)]
        card.facts += _made_with(card.settings)
        return card

    return kept(media / pair.clip, content_key("report pair", VERSION, look, keys | {"video": made}), draw)


def _linked(video: Path, folder: Path, count: int, fps: float, name: str, shown: tuple[str, ...]) -> dict:
    """A stage's own video of the panels ``shown``, and a frame of it, in ``folder`` under that name."""
    _, frame = next(VideoReader(video, count // 2 / fps, None).frames())
    poster = f"{name}.jpg"
    panels.save(frame, folder / poster)
    film = {"file": "", "poster": poster, "width": frame.shape[1], "height": frame.shape[0], "panels": shown}
    if count > 1:
        link(video, folder / f"{name}.mp4")
        film["file"] = f"{name}.mp4"
    return film


def _driven(drive: Store, crops: dict[str, Store], folder: Path, fps: float, settings: Report) -> dict:
    """Reference, driver and control map, of the first seconds."""
    normals, coverage, frames = drive.lazy("normals"), drive.lazy("coverage"), crops["driver"].lazy("frames")
    size = settings.size // 2 * 2  # H.264 wants even sides
    reference = panels.resize(crops["target"].lazy("frames")[drive.attrs["reference"]], size)

    def beside(t: int) -> np.ndarray:
        control = normals_to_rgb(decode_normals(normals[t]), coverage[t] / 255)
        return np.hstack([reference, panels.resize(frames[t], size), panels.resize(control, size)])

    count = min(normals.shape[0], max(2, round(settings.video_seconds * fps)))
    panels.save(beside(count // 2), folder / "poster.jpg")
    film = {"file": "", "poster": "poster.jpg", "width": 3 * size, "height": size, "panels": PANELS[:3]}
    if count > 1:
        write_mp4(folder / "control.mp4", (beside(t) for t in range(count)), fps, crf=22)
        film["file"] = "control.mp4"
    return film


def link(source: Path, target: Path) -> None:
    """A second name of the file where the file system can do that, else a copy. Videos are replaced, never changed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _made_with(settings: dict) -> list[tuple[str, str]]:
    """What tells this pair's video from another's, as recorded in the stores."""
    told = {
        "dynamic offsets": "{drive.offsets}",
        "target's head from": "{drive.target_proxy}",
        "head pose": "{drive.pose}",
        "sampling": "{reenact.steps} steps, seed {reenact.seed}",
    }
    facts = []
    for name, form in told.items():
        for setting, value in settings.items():
            form = form.replace("{" + setting + "}", str(value))
        if "{" not in form:
            facts.append((name, form))
    return facts
