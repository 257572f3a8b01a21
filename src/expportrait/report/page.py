"""Puts the page together: ``index.html``, two tables, ``media/<clip>/``, ``pairs/<pair>/`` and a folder of a training's
films, which need nothing but each other."""

import csv
import io
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
from expportrait.engine.record import NOT_NEEDED, counted
from expportrait.errors import MachineFault
from expportrait.files import replace_file
from expportrait.machine import machine_faults
from expportrait.metrics import published
from expportrait.progress import say
from expportrait.report.card import ERRORS, Card, make_card
from expportrait.report.evaluation import NOTES, read_evaluation
from expportrait.report.looks import look_films
from expportrait.report.pairs import make_pair
from expportrait.report.run import STATUSES, Run
from expportrait.report.training import Training, read_trainings
from expportrait.settings.config import Section
from expportrait.store.write import software


@dataclass
class Shown:
    """A clip's or pair's card with what the run knows of it."""

    clip: str
    shard: str
    person: str
    status: str
    stages: list[tuple[str, str, str]]  # name, status or NOT_NEEDED, why
    url: str  # of its media folder
    card: Card
    trouble: str  # why there are no pictures, where there are none
    other: dict[str, Any]  # settings that its stores were made with, where this run has others


def write_page(run: Run, pairs: Run, results: Path, settings: Any, progress: Callable[..., Iterable] = iter) -> Path:
    """results/report/index.html, written last and in one step. ``settings``: sections as attributes."""
    home, chosen = results / "report", settings.report
    media, videos = home / "media", home / "pairs"
    trainings, evaluation = read_trainings(results), read_evaluation(results)
    for one in trainings:
        one.films = look_films(one.looks, one.home, home / one.stage)
    pairs = evaluation.outcomes(pairs)
    clips, mapped = run.cards(chosen.max_clips, chosen.first), pairs.cards(len(pairs.rows), chosen.first)
    moved = mapped[: chosen.max_pairs]
    for folder in (media, videos):
        folder.mkdir(parents=True, exist_ok=True)

    def card(name: str) -> Shown:
        return _shown(name, run, media, settings, lambda: make_card(name, results, run.keys(name), media, chosen))

    def pair(name: str) -> Shown:
        make = lambda: make_pair(pairs.rows[name], results, pairs.keys(name), videos, chosen)  # noqa: E731
        return _shown(name, pairs, videos, settings, make)

    shown = [make(name) for make, name in progress([(card, name) for name in clips] + [(pair, name) for name in moved])]
    shown, driven = shown[: len(clips)], shown[len(clips) :]
    filmed = [one for one in driven if one.card.video]
    troubles, counts = _troubles(run, pairs, trainings), _counts(run, pairs, trainings)
    _write(home / "failures.csv", _csv([("clip", "stage", "status", "why"), *troubles]))
    if evaluation.rows:
        _write(home / "evaluation.csv", _csv(evaluation.csv()))
    else:
        (home / "evaluation.csv").unlink(missing_ok=True)
    page = _environment().get_template("page.html").render(
        title=results.resolve().name,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        totals=_totals(run, pairs),
        statuses=STATUSES,
        columns=(*STATUSES, *[NOT_NEEDED] * any(NOT_NEEDED in count for _, of in counts for _, count in of)),
        counts=counts,
        finished=Counter(one.worst(name) for one in (run, pairs) for name in one.outcomes),
        clips=len(run.outcomes),
        pairs=len(pairs.outcomes),
        means=_told(_means(shown)),
        fits=sum(bool(one.card.means) for one in shown),
        told=_told,
        changed=_flat(settings, exclude_defaults=True),
        versions={"expportrait": expportrait.__version__, "python": platform.python_version()} | software(),
        troubles=troubles[: chosen.max_rows],
        left_out=max(0, len(troubles) - chosen.max_rows),
        shown=shown,
        moved=driven,
        films=filmed[: chosen.max_films],
        more=len(filmed[chosen.max_films :]),
        beyond=len(mapped) - len(moved),
        evaluation=evaluation,
        notes=NOTES,
        table=published.SOURCE,
        starts=evaluation.starts(),
        max_pairs=chosen.max_pairs,
        trainings=[one for one in trainings if one.facts or one.outcome.status == "failed"],
    )  # fmt: skip
    index = _write(home / "index.html", page)
    for folder, names in ((media, clips), (videos, moved)):
        for old in folder.iterdir():
            if old.name not in names and not old.name.startswith("."):
                shutil.rmtree(old, ignore_errors=True)
    return index


def _flat(settings: Any, **options: bool) -> dict[str, Any]:
    """``section.name`` -> value. ``settings``: sections as attributes."""
    sections = {name: s for name, s in vars(settings).items() if isinstance(s, Section)}
    dumps = {name: section.model_dump(mode="json", **options) for name, section in sections.items()}
    return {f"{section}.{name}": value for section, dump in dumps.items() for name, value in dump.items()}


def _shown(name: str, run: Run, media: Path, settings: Any, make: Callable[[], Card]) -> Shown:
    card, trouble = Card(), ""
    try:
        with machine_faults():
            card = make()
    except MachineFault:
        raise
    except Exception as error:  # one clip's damaged store must not cost the page of all the others
        trouble = f"no pictures: {error}"
        say(f"report {name}: {trouble}")
    own = run.rows[name].settings.items()
    given = _flat(settings) | {f"{s}.{setting}": value for s, values in own for setting, value in values.items()}
    return Shown(
        name,
        run.shard[name],
        run.rows[name].person,
        run.worst(name),
        [(stage, counted(outcome.status, outcome.why), outcome.why) for stage, outcome in run.outcomes[name].items()],
        f"{media.name}/{quote(name)}",
        card,
        trouble,
        {setting: value for setting, value in card.settings.items() if setting in given and given[setting] != value},
    )


def _totals(run: Run, pairs: Run) -> list[tuple[str, int]]:
    """What the run is made of: noun, count."""
    rows = run.rows.values()
    found = {"clip": len(rows), "person": len({row.person for row in rows}),
             "data set": len({row.dataset for row in rows}), "shard": len(set(run.shard.values()))}  # fmt: skip
    found |= {"pair": len(pairs.rows)} if pairs.rows else {}
    plural = {"person": "people"}
    return [(noun if count == 1 else plural.get(noun, f"{noun}s"), count) for noun, count in found.items()]


def _counts(run: Run, pairs: Run, trainings: list[Training]) -> list[tuple[str, list[tuple[str, Counter[str]]]]]:
    """What is counted, and its stages with their counts by status."""
    whole = [(training.stage, Counter([training.outcome.status])) for training in trainings]
    groups = [("clips", [*run.counts().items()]), ("whole run", whole)]
    return groups + ([("pairs", [*pairs.counts().items()])] if pairs.rows else [])


def _troubles(run: Run, pairs: Run, trainings: list[Training]) -> list[tuple[str, str, str, str]]:
    """(clip or pair, stage, status, why), the failed ones first. A training has no clip."""
    whole = [("", one.stage, one.outcome.status, one.outcome.why) for one in trainings]
    found = [row for row in whole if row[2] in ("failed", "skipped")] + run.troubles() + pairs.troubles()
    return sorted(found, key=lambda row: row[2] != "failed")


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
    # a lone surrogate, as from a damaged file name, must not cost the page
    return replace_file(file, text.encode(errors="replace"))
