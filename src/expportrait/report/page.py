"""Puts the page together: ``index.html``, ``failures.csv`` and ``media/<clip>/``, which need nothing but each other."""

import csv
import io
import os
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader

import expportrait
from expportrait.config import Section
from expportrait.errors import MachineFault
from expportrait.faults import machine_faults
from expportrait.progress import say
from expportrait.report.card import ERRORS, Card, make_card
from expportrait.report.run import STATUSES, Run
from expportrait.store import software


@dataclass
class Shown:
    """A clip's card with what the run knows of it."""

    clip: str
    shard: str
    person: str
    status: str
    stages: list[tuple[str, str, str]]  # name, status, why
    url: str  # of its media folder
    card: Card
    trouble: str  # why there are no pictures, where there are none
    other: dict[str, Any]  # settings that its stores were made with, where this run has others


def write_page(run: Run, results: Path, settings: Any, progress: Callable[..., Iterable] = iter) -> Path:
    """results/report/index.html, written last and in one step. ``settings``: sections as attributes."""
    home = results / "report"
    media = home / "media"
    media.mkdir(parents=True, exist_ok=True)
    clips = run.cards(settings.report.max_clips, settings.report.first)
    shown = [_shown(clip, run, results, media, settings) for clip in progress(clips)]
    troubles = run.troubles()
    _write(home / "failures.csv", _csv([("clip", "stage", "status", "why"), *troubles]))
    page = _environment().get_template("page.html").render(
        title=results.resolve().name,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        totals=_totals(run),
        statuses=STATUSES,
        counts=[(stage, counts) for stage, counts in run.counts().items()],
        finished=Counter(run.worst(clip) for clip in run.outcomes),
        clips=len(run.outcomes),
        means=_told(_means(shown)),
        fits=sum(bool(one.card.means) for one in shown),
        told=_told,
        changed=_flat(settings, exclude_defaults=True),
        versions={"expportrait": expportrait.__version__, "python": platform.python_version()} | software(),
        troubles=troubles[: settings.report.max_rows],
        left_out=max(0, len(troubles) - settings.report.max_rows),
        shown=shown,
    )  # fmt: skip
    index = _write(home / "index.html", page)
    for folder in media.iterdir():
        if folder.name not in clips and not folder.name.startswith("."):
            shutil.rmtree(folder, ignore_errors=True)
    return index


def _flat(settings: Any, **options: bool) -> dict[str, Any]:
    """``section.name`` -> value. ``settings``: sections as attributes."""
    sections = {name: s for name, s in vars(settings).items() if isinstance(s, Section)}
    dumps = {name: section.model_dump(mode="json", **options) for name, section in sections.items()}
    return {f"{section}.{name}": value for section, dump in dumps.items() for name, value in dump.items()}


def _shown(clip: str, run: Run, results: Path, media: Path, settings: Any) -> Shown:
    card, trouble = Card(), ""
    try:
        with machine_faults():
            card = make_card(clip, results, run.keys(clip), media, settings.report)
    except MachineFault:
        raise
    except Exception as error:  # one clip's damaged store must not cost the page of all the others
        trouble = f"no pictures: {error}"
        say(f"report {clip}: {trouble}")
    row, given = run.rows[clip], _flat(settings)
    return Shown(
        clip,
        run.shard[clip],
        row.person,
        run.worst(clip),
        [(stage, outcome.status, outcome.why) for stage, outcome in run.outcomes[clip].items()],
        f"media/{quote(clip)}",
        card,
        trouble,
        {name: value for name, value in card.settings.items() if name in given and given[name] != value},
    )


def _totals(run: Run) -> list[tuple[str, int]]:
    """What the run is made of: noun, count."""
    rows = run.rows.values()
    found = {"clip": len(rows), "person": len({row.person for row in rows}),
             "data set": len({row.dataset for row in rows}), "shard": len(set(run.shard.values()))}  # fmt: skip
    plural = {"person": "people"}
    return [(noun if count == 1 else plural.get(noun, f"{noun}s"), count) for noun, count in found.items()]


def _told(means: dict[str, float]) -> list[tuple[str, str, str]]:
    """Means as name, text and what they are measured against."""
    digits = {"overlap": 2}
    return [
        (name, f"{means[name]:.{digits.get(name, 1)}f}{unit}", against)
        for name, _, _, unit, against in ERRORS
        if name in means
    ]


def _means(shown: list[Shown]) -> dict[str, float]:
    """Means over the fits on the page."""
    values = {name: [one.card.means[name] for one in shown if name in one.card.means] for name, *_ in ERRORS}
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def _environment() -> Environment:
    folder = Path(__file__).parent
    return Environment(loader=FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _csv(rows: list[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write(file: Path, text: str) -> Path:
    """Never seen half-written."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    # a lone surrogate, as from a damaged file name, must not cost the page
    temporary.write_text(text, "utf-8", errors="replace", newline="\n")
    temporary.replace(file)
    return file
