"""One clip's part of the report: media in a folder of its own, and the numbers and texts beside them as plain data.

The folder is made once and kept while the keys of the clip's stores stay the same.
"""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from expportrait.engine.keys import content_key
from expportrait.engine.record import write_json
from expportrait.files import new_folder
from expportrait.fit.terms.table import TERMS
from expportrait.render.picture import normals_to_rgb
from expportrait.report import charts
from expportrait.report.film import film
from expportrait.settings.config import Report
from expportrait.settings.files import made_with
from expportrait.show import panels
from expportrait.store import Store, decode_normals
from expportrait.store.frames import Frames

VERSION = 4  # bump when equal stores give other media
FILE = "card.json"
STRIP, BAR = 160, 8  # px, height of the strip of frames, and of the bar below it


# what is shown, array of the proxy store, factor, unit, and what it is measured against
ERRORS = (
    ("landmarks", "landmark_error", 100, " %", "of the inter-ocular distance"),
    ("normals", "normal_error", 1, "°", "to the estimate"),
    ("overlap", "overlap", 1, "", "with the mask"),
)


@dataclass
class Card:
    """What the template shows of a clip. Files are names inside the clip's media folder."""

    pictures: list[dict[str, Any]] = field(default_factory=list)  # file, caption, size
    strip: dict[str, Any] = field(default_factory=dict)  # file, width, height
    title: str = ""  # of a pair: who is driven by whom
    video: dict[str, Any] | None = None  # as report.film.film describes it
    means: dict[str, float] = field(default_factory=dict)  # over the frames, by the names in ERRORS
    facts: list[tuple[str, str]] = field(default_factory=list)
    losses: list[tuple[str, str]] = field(default_factory=list)  # caption, SVG
    per_frame: str = ""  # SVG
    settings: dict[str, Any] = field(default_factory=dict)  # section.name -> value, as recorded in the stores
    key: str = ""


def make_card(clip: str, results: Path, keys: dict[str, str], media: Path, settings: Report) -> Card:
    """The clip's card, from ``media/<clip>`` where that is up to date. ``keys``: of the stages that are ok.

    Raises StoreError where a store is missing or damaged, ValueError where a head file has changed since the fit.
    """
    look = {name: value for name, value in settings.model_dump().items() if name in ("frames", "size", "video_seconds")}
    key = content_key("report", VERSION, look, keys)

    def draw(folder: Path) -> Card:
        stores = {stage: Store(results / stage / f"{clip}.zarr") for stage in keys}
        return recorded(_draw(stores, folder, settings), stores.values())

    return kept(media / clip, key, draw)


def kept(folder: Path, key: str, draw: Callable[[Path], Card]) -> Card:
    """The card in ``folder`` where it was made with ``key``, else what ``draw`` returns after filling the folder."""
    with suppress(OSError, ValueError, TypeError):
        card = Card(**json.loads((folder / FILE).read_text("utf-8")))
        if card.key == key:
            return card
    with new_folder(folder) as made:
        card = draw(made)
        card.key = key
        write_json(made / FILE, vars(card))
    return card


def recorded(card: Card, stores: Iterable[Store]) -> Card:
    """``card`` with the settings that the stores were made with."""
    for store in stores:
        for section, values in made_with(store.attrs.get("settings", {})).items():
            card.settings |= {f"{section}.{name}": value for name, value in values.items()}
    return card


def _draw(stores: dict[str, Store], folder: Path, settings: Report) -> Card:
    card, size = Card(), settings.size
    frames = stores["crop"].lazy("frames")
    count = frames.shape[0]
    chosen = _shown_frame(stores.get("proxy"), count)
    frame = frames[chosen]

    def picture(name: str, caption: str, image: np.ndarray) -> None:
        panels.save(image, folder / f"{name}.jpg")
        card.pictures.append({"file": f"{name}.jpg", "caption": caption, "size": len(image)})

    picked = np.unique(np.linspace(0, count - 1, min(settings.frames, count)).round().astype(int))
    aside = _set_aside(stores.get("proxy"), count)
    image = panels.strip([frames[int(t)] for t in picked], STRIP, aside[picked])
    if aside.any():
        image = np.concatenate([image, panels.timeline(aside, image.shape[1], BAR)])
    panels.save(image, folder / "frames.jpg")
    card.strip = {"file": "frames.jpg", "width": image.shape[1], "height": image.shape[0]}
    card.facts += _crop_facts(stores["crop"].attrs, frames.shape)
    if aside.any():
        told = "of the frames below they have a border, in the bar, which is the whole clip, a colour"
        card.facts.append(("set aside", f"{int(aside.sum())} of {count} frames, whose landmarks are guesses; {told}"))
    if "landmarks" in stores:
        store = stores["landmarks"]
        guessed = store["interpolated"]
        caption = f"landmarks, frame {chosen}" + (" (interpolated)" if guessed[chosen] else "")
        picture("landmarks", caption, panels.landmarks(frame, store.lazy("points")[chosen], size))
        told = f"{store.attrs.get('detector', '')}, {int(guessed.sum())} of {count} frames interpolated"
        card.facts.append(("landmarks", told))
    if "geometry" in stores:
        colours = normals_to_rgb(decode_normals(stores["geometry"].lazy("normals")[chosen]), background=0)
        picture("estimated", "estimated normals", panels.resize(colours, size))
    if "proxy" in stores:
        store = stores["proxy"]
        head = panels.load_fitted(store)
        normals, coverage = panels.fitted(head, chosen, size)
        colours = normals_to_rgb(normals, coverage, background=0)
        picture("fitted", "fitted normals", colours)
        picture("overlay", "fitted head on the frame", panels.overlay(frame, colours, coverage, size))
        for side, image in zip(("right", "left"), panels.two_sides(head, size), strict=True):
            picture(side, f"neutral head, from its {side}", image)
        _chart(store, chosen, card)
    if "control" in stores:
        card.video = _film(stores, chosen, folder, settings)
    return card


def _shown_frame(proxy: Store | None, count: int) -> int:
    """The frame that the pictures show: of a fit the one with the median landmark error, else the middle one."""
    if proxy is None:
        return count // 2
    error = proxy["landmark_error"]
    return int(np.argsort(error, kind="stable")[len(error) // 2])


def _set_aside(proxy: Store | None, count: int) -> np.ndarray:
    """(T,) bool: frames whose landmarks the fit did not believe."""
    if proxy is None or "landmarks_aside" not in proxy:
        return np.zeros(count, bool)
    return proxy["landmarks_aside"].astype(bool)


def _crop_facts(attrs: dict[str, Any], shape: tuple[int, ...]) -> list[tuple[str, str]]:
    count, fps = shape[0], float(attrs.get("fps") or 0)
    source = str(attrs.get("source", ""))
    if attrs.get("source_size"):
        source += ", {} × {} px".format(*attrs["source_size"])
    length = f"{count} frames" if count > 1 else "one frame"
    if fps and count > 1:
        length += f", {count / fps:.1f} s at {fps:.4g} fps"
    if len(attrs.get("shots") or ()) > 1 and attrs.get("shot"):
        length += ", frames {} to {}, of {} shots".format(attrs["shot"][0], attrs["shot"][1] - 1, len(attrs["shots"]))
    facts = [("source", source), ("length", length)]
    if attrs.get("box"):
        x0, y0, x1, y1 = (round(value) for value in attrs["box"])
        box = f"x {x0} to {x1}, y {y0} to {y1} px of the source, now {shape[2]} px"
        facts.append(("crop box", box + (", padded" if any(attrs.get("padded") or ()) else "")))
    if attrs.get("rotated"):
        facts.append(("turned", f"by {attrs['rotated']} degrees, clockwise: faces lay so in the source"))
    if attrs.get("face"):
        facts.append(
            ("face", f"{attrs['face']:.0f} px in the source, in {attrs.get('face_coverage', 1):.0%} of the frames")
        )
    return facts


def _chart(store: Store, chosen: int, card: Card) -> None:
    """The fit's numbers: means, curves, camera and times."""
    rows = [(name, unit, factor * store[array].astype(float)) for name, array, factor, unit, _ in ERRORS]
    card.per_frame = charts.error_chart(rows, chosen)
    card.means = {name: float(np.nanmean(values)) for name, _, values in rows if np.isfinite(values).any()}
    card.losses = _losses(store)
    card.facts.append(("camera", f"focal length {store.attrs['focal']:.0f} px at {store.attrs['size']} px"))
    seconds = store.attrs.get("seconds") or {}
    if seconds:
        parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
        card.facts.append(("fit time", f"{sum(seconds.values()):.0f} s: {parts}"))


LOSSES = {  # caption -> groups of terms, of which each chart draws its own
    "data terms and the sum of all": ("sum", "data"),
    "priors": ("priors",),
    "temporal terms": ("smoothness",),
    "terms of the offset fields": ("offsets",),
}
UNWEIGHTED = "by an older version: before their weights, without priors"


def _losses(store: Store) -> list[tuple[str, str]]:
    """Caption and chart of every group of terms that the store has; older ones have five terms, without weights."""
    array = store.lazy("loss")
    terms, loss = array.attrs["terms"], store["loss"]
    stages = [(name, int(first)) for name, first in store.attrs["loss_stage"]]
    found = []
    for caption, groups in LOSSES.items():
        names = tuple(name for group in groups for name in TERMS[group] if name in terms)
        chart = charts.loss_chart(loss[:, [terms.index(name) for name in names]], stages, names)
        if chart:
            found.append((caption if array.attrs.get("weighted") else f"{caption}, {UNWEIGHTED}", chart))
    return found


def _film(stores: dict[str, Store], chosen: int, folder: Path, settings: Report) -> dict[str, Any]:
    """Input and control map beside each other."""
    frames, normals = Frames(stores["crop"], "frames", kept=0), Frames(stores["control"], "normals", kept=0)

    def at(t: int, size: int) -> list[np.ndarray]:
        control = normals_to_rgb(decode_normals(normals[t]), background=0)
        return [panels.resize(frames[t], size), panels.resize(control, size)]

    fps = float(stores["crop"].attrs.get("fps") or 25)
    return film(["input", "control map"], at, len(frames), fps, chosen, folder, settings)
