"""A survey as plain text and as JSON."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from expportrait.engine.record import NOT_NEEDED, counted
from expportrait.status.survey import ALL, STATUSES, Survey

MOST_REASONS = 12
_NUMBER = re.compile(r"([\d,.]+\*?)?")


def table(rows: Iterable[Sequence[object]]) -> str:
    """Returns the rows as aligned columns, columns of numbers to the right. The first row is the heading."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [all(_NUMBER.fullmatch(row[i]) for row in cells[1:]) for i in range(len(widths))]
    lines = (
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)) for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def general(why: str) -> str:
    """A reason without what differs from clip to clip: paths and numbers."""
    return re.sub(r"\b\d+(\.\d+)?\b", "N", re.sub(r"\S*/\S*", "…", why))


def reasons(survey: Survey, status: str = "failed") -> list[dict[str, Any]]:
    """Reasons of failures (or of NOT_NEEDED), most frequent first: stage, why, clips (their number), such_as."""
    counts: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], tuple[str, str]] = {}
    for stage, clip, cell in survey.having("failed", "skipped"):
        if counted(cell.status, cell.why) != status:
            continue
        counts[stage, general(cell.why)] += 1
        example.setdefault((stage, general(cell.why)), (clip, cell.why))
    return [
        {"stage": of[0], "why": example[of][1] if count == 1 else of[1], "clips": count, "such_as": example[of][0]}
        for of, count in counts.most_common()
    ]


def overview(survey: Survey) -> str:
    """The whole data set in a few lines."""
    people = len({row.person for row in survey.rows})
    head = f"{survey.config.manifest}: {len(survey.rows):,} clips of {people:,} people, {len(survey.pairs):,} pairs"
    unneeded = reasons(survey, NOT_NEEDED)
    columns = (*STATUSES, *[NOT_NEEDED] * bool(unneeded))
    rows = [("stage", *columns)]
    for stage in survey.stages:
        counts = survey.counts(stage)
        rows.append((stage, *(f"{counts[status]:,}" for status in columns)))
    text = [f"{head}; results in {survey.config.results}", "", table(rows)]
    for title, found in (("Failed", reasons(survey)), ("Not needed", unneeded)):
        if found:
            lines = [("", "clips", "reason", "such as")]
            lines += [(r["stage"], f"{r['clips']:,}", r["why"], r["such_as"]) for r in found[:MOST_REASONS]]
            text += ["", f"{title}:", table(lines)]
        if len(found) > MOST_REASONS:
            text.append(f"and {len(found) - MOST_REASONS} more reasons: --json has all")
    damaged = [*survey.damaged()]
    if damaged:
        lines = [(stage, clip, cell.why) for stage, clip, cell in damaged[:MOST_REASONS]]
        text += ["", "Damaged or lost (`expportrait retry --deep` has them made again):",
                 table([("stage", "clip", "why"), *lines])]  # fmt: skip
        if len(damaged) > MOST_REASONS:
            text.append(f"and {len(damaged) - MOST_REASONS:,} more: --json has all")
    return "\n".join([*text, "", plan(survey)])


def todo(survey: Survey) -> dict[str, int]:
    """Stage -> clips that a run would compute, or take over where an earlier stage gives them up."""
    counts = {stage: survey.counts(stage) for stage in survey.stages}
    return {
        stage: count["stale"] + count["missing"] for stage, count in counts.items() if count["stale"] + count["missing"]
    }


def plan(survey: Survey) -> str:
    """One sentence on what a run would do."""
    parts = [stage if ALL in survey.cells[stage] else f"{stage} {count:,}" for stage, count in todo(survey).items()]
    if not parts:
        return "A run would compute nothing."
    return "A run would compute: " + ", ".join(parts) + "."


def as_data(survey: Survey) -> dict[str, Any]:
    """The same for machines, with each clip that is not ok."""
    stages = {stage: {status: survey.counts(stage)[status] for status in STATUSES} for stage in survey.stages}
    clips: dict[str, dict[str, dict[str, str]]] = {}
    for stage, clip, cell in survey.having(*STATUSES[1:]):
        clips.setdefault(clip or "all clips", {})[stage] = {"status": cell.status, "why": cell.why}
    config = survey.config
    return {
        "manifest": str(config.manifest), "results": str(config.results), "clips": len(survey.rows),
        "pairs": len(survey.pairs), "stages": stages, "failed": reasons(survey),
        "not_needed": reasons(survey, NOT_NEEDED), "todo": todo(survey), "not_ok": clips,
        "damaged": [{"stage": stage, "clip": clip, "why": cell.why} for stage, clip, cell in survey.damaged()],
    }  # fmt: skip
