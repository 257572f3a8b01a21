"""One clip's part of the report: media in a folder of its own, and the numbers and texts beside them as plain data.

The folder is made once and kept while the keys of the clip's stores stay the same.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from expportrait.config import Report
from expportrait.fit.store import TERMS, load_proxy
from expportrait.head import Head
from expportrait.report import charts, panels
from expportrait.stage import content_key, write_json
from expportrait.store import Store, decode_normals

VERSION = 1  # bump when equal stores give other media
FILE = "card.json"
STRIP = 160  # px, height of the strip of frames


@dataclass
class Card:
    """What the template shows of a clip. Files are names inside the clip's media folder."""

    pictures: list[dict[str, Any]] = field(default_factory=list)  # file, caption, size
    strip: dict[str, Any] = field(default_factory=dict)  # file, width, height
    video: dict[str, Any] | None = None  # file, poster, width, height
    errors: list[dict[str, str]] = field(default_factory=list)  # name, value, unit
    means: dict[str, float] = field(default_factory=dict)
    facts: list[tuple[str, str]] = field(default_factory=list)
    loss: str = ""  # SVG
    per_frame: str = ""  # SVG
    key: str = ""


def make_card(clip: str, results: Path, keys: dict[str, str], media: Path, settings: Report) -> Card:
    """The clip's card, from ``media/<clip>`` where that is up to date. ``keys``: of the stages that are ok.

    Raises StoreError where a store is missing or damaged, ValueError where a head file has changed since the fit.
    """
    look = {name: value for name, value in settings.model_dump().items() if name in ("frames", "size", "video_seconds")}
    key = content_key("report", VERSION, look, keys)
    folder = media / clip
    with suppress(OSError, ValueError, TypeError):
        card = Card(**json.loads((folder / FILE).read_text("utf-8")))
        if card.key == key:
            return card
    stores = {stage: Store(results / stage / f"{clip}.zarr") for stage in keys}
    temporary = media / f".{clip}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        card = _draw(stores, temporary, settings)
        card.key = key
        write_json(temporary / FILE, vars(card))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return card


def _draw(stores: dict[str, Store], folder: Path, settings: Report) -> Card:
    card = Card()
    frames = stores["crop"].lazy("frames")
    count, size = frames.shape[0], settings.size
    chosen = _shown_frame(stores.get("proxy"), count)
    frame = frames[chosen]

    def add(name: str, caption: str, image: np.ndarray) -> None:
        panels.save(image, folder / f"{name}.jpg")
        card.pictures.append({"file": f"{name}.jpg", "caption": caption, "size": len(image)})

    picked = np.unique(np.linspace(0, count - 1, min(settings.frames, count)).round().astype(int))
    panels.save(panels.strip([frames[int(t)] for t in picked], STRIP), folder / "frames.jpg")
    card.strip = {"file": "frames.jpg", "width": STRIP * len(picked), "height": STRIP}
    _crop_facts(stores["crop"], frames.shape, card)
    if "landmarks" in stores:
        store = stores["landmarks"]
        guessed = store["interpolated"]
        note = " (interpolated)" if guessed[chosen] else ""
        add("landmarks", f"landmarks{note}, frame {chosen}", panels.landmarks(frame, store.lazy("points")[chosen], size))
        card.facts.append(("landmarks", f"{store.attrs.get('detector', '')}, {int(guessed.sum())} of {count} frames interpolated"))
    if "geometry" in stores:
        estimate = _as_normals(stores["geometry"].lazy("normals")[chosen])
        add("estimated", "estimated normals", panels.resize(panels.normal_colours(estimate), size))
    if "proxy" in stores:
        _draw_proxy(stores["proxy"], frame, chosen, size, card, add)
    if "control" in stores:
        _draw_control(stores, chosen, folder, settings, card)
    return card


def _shown_frame(proxy: Store | None, count: int) -> int:
    """The frame that the pictures show: of a fit the one with the median landmark error, else the middle one."""
    if proxy is None:
        return count // 2
    error = proxy["landmark_error"]
    return int(np.argsort(error, kind="stable")[len(error) // 2])


def _crop_facts(store: Store, shape: tuple[int, ...], card: Card) -> None:
    attrs = store.attrs
    fps = float(attrs.get("fps") or 0)
    length = f"{shape[0]} frames" + (f", {shape[0] / fps:.1f} s at {fps:g} fps" if fps and shape[0] > 1 else "")
    card.facts += [("source", str(attrs.get("source", ""))), ("length", length)]
    if attrs.get("box") is not None:
        x0, y0, x1, y1 = (float(value) for value in np.ravel(attrs["box"])[:4])
        card.facts.append(("crop box", f"x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f} px of the source, shown at {shape[2]} px"))


def _draw_proxy(store: Store, frame: np.ndarray, chosen: int, size: int, card: Card, add) -> None:  # noqa: ANN001
    head = load_proxy(store, load_head(json.dumps(store.attrs["head"], sort_keys=True)))
    normals, coverage = panels.fitted(head, chosen, size)
    colours = panels.normal_colours(normals)
    add("fitted", "fitted normals", colours)
    add("overlay", "fitted head on the frame", panels.overlay(frame, colours, coverage, size))
    for name, image in zip(("right", "left"), panels.two_sides(head, size), strict=True):
        add(name, f"neutral head, from its {name}", image)
    rows = [("landmarks", " %", 100 * store["landmark_error"]), ("normals", "°", store["normal_error"]), ("overlap", "", store["overlap"])]
    card.per_frame = charts.error_chart(rows, chosen)
    for (name, unit, values), against in zip(rows, ("of the inter-ocular distance", "to the estimate", "with the mask"), strict=True):
        if np.isfinite(values).any():
            mean = card.means[name] = float(np.nanmean(values))
            card.errors.append({"name": name, "value": f"{mean:.2f}" if name == "overlap" else f"{mean:.1f}", "unit": unit.strip(), "against": against})
    stages = [(name, int(first)) for name, first in store.attrs["loss_stage"]]
    card.loss = charts.loss_chart(store["loss"], stages, TERMS)
    card.facts.append(("camera", f"focal length {store.attrs['focal']:.0f} px at {store.attrs['size']} px"))
    seconds = store.attrs.get("seconds") or {}
    if seconds:
        parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
        card.facts.append(("fit time", f"{sum(seconds.values()):.0f} s ({parts})"))


def _draw_control(stores: dict[str, Store], chosen: int, folder: Path, settings: Report, card: Card) -> None:
    """Input and control map beside each other: a video, or of a single frame a picture."""
    frames, normals = stores["crop"].lazy("frames"), stores["control"].lazy("normals")
    size = settings.size // 2 * 2

    def pair(t: int) -> np.ndarray:
        control = panels.normal_colours(_as_normals(normals[t]))
        return np.concatenate([panels.resize(frames[t], size), panels.resize(control, size)], axis=1)

    panels.save(pair(chosen), folder / "poster.jpg")
    card.video = {"file": "", "poster": "poster.jpg", "width": 2 * size, "height": size}
    if frames.shape[0] > 1:
        fps = float(stores["crop"].attrs.get("fps") or 25)
        count = min(frames.shape[0], max(2, round(settings.video_seconds * fps)))
        shown: Iterator[np.ndarray] = (pair(t) for t in range(count))
        panels.save_video(folder / "control.mp4", shown, fps)
        card.video["file"] = "control.mp4"


def _as_normals(values: np.ndarray) -> np.ndarray:
    return decode_normals(values) if values.dtype == np.int8 else values.astype(np.float32)


@cache
def load_head(arguments: str) -> Head:
    """The head that a proxy was fitted with, by the JSON of ``Head.load``'s arguments in the store."""
    return Head.load(**json.loads(arguments))
