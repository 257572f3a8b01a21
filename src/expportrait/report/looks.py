"""What was seen at the looks at a training: curves, and films with their figures."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from expportrait.engine.looks import NOISE, Look, look_in_words, sensitivity
from expportrait.machine import writing
from expportrait.report.charts import Points, looks_chart

FILMS = 6  # of the newest looks


def held_out(looks: list[Look]) -> Points:
    """Their loss, to be drawn beside the training's."""
    return {f"{looks[-1]['of']} loss": _points(looks, "loss")} if looks else {}


def look_charts(looks: list[Look], steps: int) -> list[tuple[str, str]]:
    """Caption and chart (SVG), over ``steps`` of training; those of which there is nothing are left out."""
    by_noise = {f"{low:g} to {high:g}": _points(looks, name) for name, (low, high) in NOISE.items()}
    follows = {"control maps": _points(looks, "wrong", lambda look: 100 * sensitivity(look))}
    charts = [
        ("loss by noise level, 1 being noise alone", by_noise, True),
        ("control sensitivity: % by which the loss grows with other control maps", follows, False),
        ("AED of the film against the truth, lower is better", {"AED": _points(looks, "aed")}, False),
        ("CSIM of the film with the truth, 1 is the same face", {"CSIM": _points(looks, "csim")}, False),
        ("PSNR of the film against the truth, dB", {"PSNR": _points(looks, "psnr")}, False),
    ]
    steps = max([steps, *(look["step"] for look in looks)])  # one may be ahead of the log, which a kill cut short
    made = ((caption, looks_chart(points, steps, caption, log)) for caption, points, log in charts)
    return [(caption, chart) for caption, chart in made if chart]


def look_films(looks: list[Look], home: Path, media: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Title, figures and film of the newest looks, as the page's player wants them; files are copied from ``home`` into
    ``media``, and what else lies there goes."""
    shown, kept = [], set()
    for look in [look for look in reversed(looks) if "film" in look][:FILMS]:
        film = home / look["film"]
        poster = film.with_suffix(".jpg")
        if not (film.exists() and poster.exists()):
            continue
        media.mkdir(parents=True, exist_ok=True)
        for file in (film, poster):
            with writing(media / file.name):
                shutil.copy(file, media / file.name)
            kept.add(file.name)
        frames, panels = int(look["frames"]), look["panels"].split()
        about = {
            "file": film.name, "poster": poster.name, "shown": frames // 2, "frames": frames, "of": frames,
            "fps": look["fps"], "width": int(look["width"]), "height": int(look["height"]), "panels": panels,
            "columns": len(panels),
        }  # fmt: skip
        shown.append((f"step {look['step']:,}, {look['of']} clip {look['clip']}", look_in_words(look), about))
    for old in media.glob("look-*"):
        if old.name not in kept:
            old.unlink()
    return shown


def _points(looks: list[Look], name: str, value: Callable[[Look], float] | None = None) -> np.ndarray:
    """(n, 2): step and value, of the looks that have it."""
    found = [(look["step"], value(look) if value else look[name]) for look in looks if name in look]
    return np.array([point for point in found if np.isfinite(point[1])], float).reshape(-1, 2)
