"""The trainings of a run, at work or done: their last step in words, and their last looks."""

import html
import os
from pathlib import Path
from typing import Any

from expportrait.engine.log import in_words, last_row, newest_log
from expportrait.engine.looks import LOOKS_FILE, NOISE, Look, look_in_words, read_looks, sensitivity
from expportrait.report.looks import look_charts
from expportrait.status.survey import Survey
from expportrait.status.text import table

LOOKS = 5  # rows of the table
FIGURES = {"psnr": ("PSNR", ".2f"), "aed": ("AED", ".4f"), "csim": ("CSIM", ".3f")}


def trainings(survey: Survey) -> str:
    """A line a training that has a log, and below it what its last looks saw; empty where there is none."""
    parts = []
    for stage, log in _logs(survey):
        if row := last_row(log):
            done = "" if log.parent.name == "model" else ", not finished"
            parts.append(f"{stage} at step {row['step'] + 1:,}{done}: {in_words(row)}")
        if looks := read_looks(log.with_name(LOOKS_FILE)):
            parts.append(looks_table(looks[-LOOKS:]))
            parts += [f"newest film: {log.parent / film}" for film in [_film(looks)] if film]
    return "\n".join(parts)


def trainings_data(survey: Survey) -> dict[str, Any]:
    """The same for machines: of each stage the last row of its log, and all looks."""
    return {stage: {"log": str(log), "last": last_row(log), "looks": read_looks(log.with_name(LOOKS_FILE))}
            for stage, log in _logs(survey)}  # fmt: skip


def looks_table(looks: list[Look]) -> str:
    """A line a look."""
    head = ("look at step", "clip", "loss", *(f"{low:g}-{high:g}" for low, high in NOISE.values()), "control")
    rows = [(*head, *(name for name, _ in FIGURES.values()))]
    for look in looks:
        control = f"{sensitivity(look):+.0%}" if "wrong" in look else ""
        losses = (f"{look[name]:.4g}" for name in ("loss", *NOISE))
        figures = (format(look[name], form) if name in look else "" for name, (_, form) in FIGURES.items())
        rows.append((f"{look['step']:,}", f"{look['clip']} ({look['of']})", *losses, control, *figures))
    return table(rows)


def trainings_page(survey: Survey, page: Path) -> str:
    """The looks of a training that is not finished, as HTML: curves, and the newest film where it lies, seen from the
    folder of ``page``. The report has those of one that is."""
    parts = []
    for stage, log in _logs(survey):
        looks = read_looks(log.with_name(LOOKS_FILE)) if log.parent.name != "model" else []
        row = last_row(log)
        if not looks or not row:
            continue
        charts = "".join(f"<figure>{chart}<figcaption>{html.escape(caption)}</figcaption></figure>"
                         for caption, chart in look_charts(looks, int(row["step"]) + 1))  # fmt: skip
        parts.append(f'<h2>{stage}: looks</h2><div class="charts">{charts}</div>')
        if film := _film(looks):
            seen = next(look for look in reversed(looks) if look.get("film") == film)
            place = html.escape(Path(os.path.relpath(log.parent / film, page.parent)).as_posix())
            told = html.escape(f"step {seen['step']:,}, {seen['clip']}: {look_in_words(seen)}")
            video = f'src="{place}" poster="{place.removesuffix("mp4")}jpg" controls muted loop playsinline'
            parts.append(f'<figure><video {video} preload="none"></video><figcaption>{told}</figcaption></figure>')
    return "\n".join(parts)


def _logs(survey: Survey) -> list[tuple[str, Path]]:
    stages = (stage for stage in survey.stages.values() if stage.kind == "model")
    found = ((stage.name, newest_log(stage.home(survey.config.results))) for stage in stages)
    return [(name, log) for name, log in found if log]


def _film(looks: list[Look]) -> str:
    return next((look["film"] for look in reversed(looks) if "film" in look), "")
