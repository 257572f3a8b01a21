"""Which clips are handed over, where each goes, and what decides whether what lies there is still right.

Only indexes are read here, one a shard and stage: no store is opened for a clip that a stage's index lists.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from expportrait.engine.keys import content_key
from expportrait.engine.record import NOT_NEEDED, Outcome, read_index, state
from expportrait.errors import UserError
from expportrait.export.layout import Layout, Sample
from expportrait.export.parts import PARTS
from expportrait.manifest.clips import COLUMNS, Row, shards
from expportrait.manifest.pairs import DATASET, pair_name
from expportrait.report.run import MISSING, read_run
from expportrait.settings.config import Config

TOLD = ("landmarks", "geometry", "proxy")  # stages whose figures are told, whatever is handed over
VERSION = 1  # bump when equal stores give other files


@dataclass(frozen=True)
class Options:
    """What the command says beside the manifest. ``text``: the caption of clips that have none in the column of that
    name. ``parts``: names; empty for all that there are."""

    splits: tuple[str, ...] = ("train",)
    only: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    text: str = "A portrait video of one person."
    crf: int = 12


@dataclass
class Plan:
    """``left_out``: clip and why, of the manifest's other rows. ``without``: parts, and how many samples lack them."""

    samples: list[Sample] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    without: Counter[str] = field(default_factory=Counter)


def make_plan(rows: list[Row], config: Config, layout: Layout, options: Options) -> Plan:
    """Raises UserError for a part, a split or a column that is not there."""
    wanted = _wanted_parts(layout, options)
    needed = {PARTS[name].stage: name for name in (*options.parts, *layout.needs)}
    stages = dict.fromkeys(("crop", *TOLD, *(PARTS[name].stage for name in wanted)))
    tests = _tests(rows, options.only)
    members = shards(rows, config.shards)
    clip_stages = tuple(stage for stage in stages if stage != "appearance")
    outcomes = read_run(members, config.results, clip_stages).outcomes
    pairs = _pairs(config) if "appearance" in stages else {}
    plan = Plan()
    for shard, of in members.items():
        for row in of:
            why = _why_not(row, tests, options.splits)
            found = {stage: _there(outcomes[row.clip][stage], config, stage, row.clip) for stage in clip_stages}
            if own := pairs.get(pair_name(row.clip, row.clip)):  # the clip's own portrait, driven by the clip
                found["appearance"] = own
            why = why or _why_unmade(found, {"crop": "frames"} | needed)
            if why:
                plan.left_out.append((row.clip, why))
                continue
            keys = {stage: str(outcome.key) for stage, outcome in found.items() if outcome.status == "ok"}
            parts = tuple(name for name in wanted if PARTS[name].stage in keys)
            plan.without.update(name for name in wanted if name not in parts)
            plan.samples.append(_sample(row, f"{row.split}/{shard}", keys, parts, layout, options))
    plan.samples.sort(key=lambda sample: (sample.place, sample.clip))
    plan.left_out.sort()
    return plan


def _sample(
    row: Row, place: str, keys: dict[str, str], parts: tuple[str, ...], layout: Layout, options: Options
) -> Sample:
    text = row.extra.get("text") or options.text
    made = {"layout": layout.name, "parts": parts, "crf": options.crf}
    if layout.papers_inside:
        made |= {"text": text, "row": {**row.extra, "person": row.person}}
    of = {"crop", *(PARTS[name].stage for name in parts)} | ({"landmarks"} if "reference" in parts else set())
    key = content_key("export", VERSION, made, {stage: value for stage, value in keys.items() if stage in of})
    return Sample(row, place, keys, parts, key, text)


def _wanted_parts(layout: Layout, options: Options) -> list[str]:
    if options.parts and not layout.choice:
        raise UserError(
            f"--part {options.parts[0]}: the layout {layout.name} has only its own, {', '.join(layout.needs)}"
        )
    for name in options.parts:
        if name not in PARTS:
            close = get_close_matches(name, PARTS, n=1)
            hint = f"; did you mean {close[0]}?" if close else f", only {', '.join(PARTS)}"
            raise UserError(f"--part {name}: there is no such part{hint}")
    chosen = {*options.parts, *layout.needs} if options.parts else set(layout.parts or PARTS)
    return [name for name in PARTS if name in chosen]


def _tests(rows: list[Row], only: Sequence[str]) -> dict[str, set[str]]:
    """Column -> the values of which a row has to have one."""
    tests: dict[str, set[str]] = {}
    known = {name for row in rows[:1] for name in row.extra} | set(COLUMNS)
    for text in only:
        column, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise UserError(f"--only {text}: write it as column=value, such as licence=CC-BY-4.0")
        if column not in known:
            close = get_close_matches(column, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f", only {', '.join(sorted(known))}"
            raise UserError(f"--only {text}: the manifest has no column {column}{hint}")
        tests.setdefault(column, set()).add(value)
    return tests


def cell(row: Row, column: str) -> str:
    """What the manifest says there, as text."""
    if column not in COLUMNS:
        return row.extra.get(column, "")
    value = getattr(row, column)
    if column == "box":
        return " ".join(f"{number:g}" for number in value or ())
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _why_not(row: Row, tests: dict[str, set[str]], splits: Sequence[str]) -> str:
    if row.split not in splits:
        return f"its split is {row.split}"
    for column, values in tests.items():
        if cell(row, column) not in values:
            return f"{column} is not {' or '.join(value or 'empty' for value in sorted(values))}"
    return ""


def _there(outcome: Outcome, config: Config, stage: str, clip: str) -> Outcome:
    """Of a clip that no index has, what its stage's folder has: single commands write no index."""
    home = config.results / stage
    if outcome is MISSING and (home / f"{clip}.zarr").exists():
        return state(home, clip)
    return outcome


def _why_unmade(found: Mapping[str, Outcome], needed: Mapping[str, str]) -> str:
    for stage, part in needed.items():
        outcome = found.get(stage, MISSING)
        if outcome.status != "ok":
            why = outcome.why if outcome.why.startswith((stage, f"{NOT_NEEDED}: ")) else f"{stage}: {outcome.why}"
            return f"{why} (needed for {part})" if outcome is MISSING else why
    return ""


def _pairs(config: Config) -> dict[str, Outcome]:
    """Pair -> what became of it in the stage appearance."""
    files = sorted((config.results / "appearance").glob(f"{DATASET}-*.json"))
    return {name: outcome for file in files for name, outcome in read_index(file).items()}
