"""The run while it runs: its jobs in the terminal and on a page that renews itself."""

import html
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expportrait.engine.heartbeat import HOST
from expportrait.files import replace_file
from expportrait.machine import writing
from expportrait.status.survey import Survey
from expportrait.status.text import overview, table
from expportrait.status.training import trainings, trainings_page

RECENT = 300.0  # s without a beat, by our clock, after which a job elsewhere that was looked at once is not shown


def busy(beat: dict[str, Any]) -> bool:
    """Whether the job is at work, as far as one can tell after so many looks."""
    elsewhere = beat["alive"] is None and not beat["ended"]
    return bool(beat["alive"]) or (elsewhere and time.time() - beat["updated"] < RECENT)


def pace(beats: list[dict[str, Any]]) -> dict[str, tuple[float, int]]:
    """Stage -> seconds a computed clip, over all its jobs that have told; and its jobs at work."""
    computed: dict[str, int] = {}
    seconds: dict[str, float] = {}
    jobs: dict[str, int] = {}
    for beat in beats:
        stage = beat["stage"]
        computed[stage] = computed.get(stage, 0) + beat["computed"]
        seconds[stage] = seconds.get(stage, 0.0) + beat["seconds"]
        jobs[stage] = jobs.get(stage, 0) + busy(beat)
    return {stage: (seconds[stage] / n, jobs[stage]) for stage, n in computed.items() if n}


def jobs_table(beats: list[dict[str, Any]], every: dict[str, tuple[float, int]]) -> str:
    """One line a job at work: its clips done, or the steps of its training."""
    if not beats:
        return "No job is at work."
    elsewhere = any(beat["host"] != HOST for beat in beats)
    rows = [("stage", "shard", "done", "of", "failed", "s each", "left", "now", "last word", *["host"] * elsewhere)]
    for beat in beats:
        each = beat["seconds"] / beat["computed"] if beat["computed"] else every.get(beat["stage"], (0.0, 0))[0]
        left = _span(each * (beat["total"] - beat["done"])) if each else "?"
        word = f"{_span(time.time() - beat['told'])} ago"
        pace = f"{each:.{1 if each > 1 else 3}f}" if each else "?"
        now = beat["step"] or beat["now"]
        counted = beat["shard"] or beat["unit"], beat["done"], beat["total"], beat["counts"].get("failed", 0)
        rows.append((beat["stage"], *counted, pace, left, now, word, *[beat["host"]] * elsewhere))
    return table(rows)


def at_work_now(beats: list[dict[str, Any]]) -> str:
    """One sentence on the jobs at work; empty where there is none."""
    found = [*filter(busy, beats)]
    jobs = ", ".join(f"{stage} {count}" for stage, count in Counter(beat["stage"] for beat in found).items())
    hosts = {beat["host"] for beat in found} - {HOST}
    where = f", on {len(hosts)} other machine{'s' * (len(hosts) > 1)} such as {min(hosts)}" if hosts else ""
    return f"Jobs at work: {jobs}{where}; `expportrait watch` shows them." if found else ""


def stages_left(survey: Survey, every: dict[str, tuple[float, int]]) -> str:
    """Time left of each stage of clips that has told its pace, at the number of jobs that it has now."""
    rows = [("stage", "to do", "s a clip", "jobs", "left")]
    for stage, about in survey.stages.items():
        counts = survey.counts(stage)
        todo = counts["stale"] + counts["missing"]
        if todo and stage in every and about.kind != "model":
            each, jobs = every[stage]
            rows.append((stage, f"{todo:,}", f"{each:.1f}", jobs, _span(each * todo / jobs) if jobs else "no job yet"))
    return table(rows) if len(rows) > 1 else ""


def screen(survey: Survey, beats: list[dict[str, Any]]) -> str:
    """Everything that ``watch`` shows. ``beats``: ``read_heartbeats``' of the results."""
    every = pace(beats)
    parts = [overview(survey), jobs_table([*filter(busy, beats)], every), stages_left(survey, every), trainings(survey)]
    return "\n\n".join(part for part in parts if part)


def _span(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 90:
        return f"{max(0, seconds):.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="{every}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }}
  h1 {{ font-size: 1.2rem; }}
  pre {{ font: 13px/1.45 ui-monospace, monospace; overflow-x: auto; }}
  .bar {{ display: grid; grid-template-columns: 9rem 1fr 12rem; gap: .2rem 1rem; align-items: center; }}
  .track {{ display: flex; height: .9rem; background: #8884; border-radius: .2rem; overflow: hidden; }}
  .ok {{ background: #2a8a57; }} .failed {{ background: #c0392b; }} .skipped {{ background: #b99443; }}
  .stale {{ background: #6a7fb5; }} small {{ opacity: .75; }} h2 {{ font-size: 1rem; }}
  figure {{ margin: 0; }} figcaption {{ font-size: 12px; opacity: .75; }} video {{ max-width: 100%; }}
  .charts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }}
  .chart {{ width: 100%; max-width: 500px; font: 11px system-ui, sans-serif; }}
  .chart text {{ fill: currentColor; opacity: .75; }} .chart .end {{ text-anchor: end; }}
  .chart line {{ stroke-width: 1; }} .chart .grid {{ stroke: #8884; }} .chart polyline {{ fill: none; }}
  .chart .dot {{ fill: none; }} .chart .s0 {{ stroke: currentColor; }} .chart .s1 {{ stroke: #4a8bd6; }}
  .chart .s2 {{ stroke: #d0592f; }} .chart .s3 {{ stroke: #2a8a57; }}
</style>
<h1>{title}</h1>
<p><span id="when" data-when="{stamp}">As of {when}.</span>
<small>Green ok, red failed, ochre skipped, blue to be made anew, grey missing.</small></p>
<div class="bar">
{bars}
</div>
<pre>{text}</pre>
{looks}
<script>
  for (const film of document.querySelectorAll("video")) {{
    film.addEventListener("mouseenter", () => film.play());
    film.addEventListener("mouseleave", () => film.pause());
  }}
  const when = document.getElementById("when");
  const minutes = (Date.now() / 1000 - when.dataset.when) / 60;
  if (minutes > {late}) when.textContent += " Nothing has been written for " + Math.round(minutes) +
    " minutes: the run has ended, or no `expportrait watch` is running.";
</script>
</html>
"""


def write_page(survey: Survey, beats: list[dict[str, Any]], text: str, every: float) -> Path:
    """results/report/status.html around ``screen``'s text, self-contained, replaced in one step."""
    trained = {beat["stage"]: beat for beat in beats if busy(beat) and beat["unit"] == "steps"}
    file = survey.config.results / "report" / "status.html"
    now, results = time.time(), html.escape(str(survey.config.results))
    page = PAGE.format(
        every=max(2, round(every)), title=f"Status of {results}", text=html.escape(text),
        when=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"), stamp=round(now),
        bars="\n".join(_bar(survey, stage, trained.get(stage)) for stage in survey.stages),
        late=max(2, round(every / 20)), looks=trainings_page(survey, file),
    )  # fmt: skip
    with writing(file):
        return replace_file(file, page.encode())


def _bar(survey: Survey, stage: str, training: dict[str, Any] | None) -> str:
    """Of its clips, or of the steps of a training that is at work."""
    counts, unit = survey.counts(stage), ""
    if training:
        counts, unit = Counter(ok=training["done"], missing=training["total"] - training["done"]), " steps"
    total = max(1, counts.total())
    parts = "".join(
        f'<span class="{status}" style="width:{100 * counts[status] / total:.2f}%"></span>'
        for status in ("ok", "failed", "skipped", "stale")
    )
    share = f"{counts['ok']:,} of {counts.total():,}{unit}"
    return f'<span>{stage}</span><span class="track">{parts}</span><small>{share}</small>'
