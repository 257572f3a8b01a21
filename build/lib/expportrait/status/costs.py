"""The bill of a run: what was spent by stage and data set, and what of it the rules' memory and time should learn."""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import expportrait
from expportrait.engine.costs import read_costs
from expportrait.manifest.clips import CLIPS_A_SHARD, read_manifest, shards
from expportrait.settings.config import Config
from expportrait.stages import STAGES
from expportrait.status.text import table

TOLERANCE = 2  # a rule may ask for this many times what is needed, or for this part of it
MARGIN = 1.5  # what a rule is told to ask for, over what was measured
LEAST = 16  # clips of a data set from which one may judge of others
FLOOR = {"mem_mb": 1000, "runtime": 10}  # MB, min: less is not worth a word
_MEMORY, _TIME = re.compile(r"mem_mb=memory\((\d+)\)"), re.compile(r"runtime=(\d+)")


@dataclass(frozen=True)
class Costs:
    """What a stage took for a data set on a kind of device. Hours are of all that was begun, ``made`` counts what came
    to an end; ``peak_mib`` is the most that the process held during any of it."""

    stage: str
    dataset: str
    device: str
    made: int
    not_made: int
    wall_hours: float
    cpu_hours: float
    wall_seconds: float  # of one that was made, in the mean
    cpu_seconds: float
    peak_mib: float
    peak_of: str  # clip, or process where the peak may be an earlier clip's


@dataclass(frozen=True)
class Advice:
    """A rule that asks for far more or far less than its jobs need: ``setting`` is mem_mb (MB) or runtime (min)."""

    rule: str
    setting: str
    says: int
    needed: float
    write: int


def costs(results: Path) -> list[Costs]:
    """The bill, in the order of stages' names, data sets and devices."""

    def who(line: dict[str, Any]) -> tuple[str, str, str]:
        return line["stage"], line["dataset"], line["device"].partition(":")[0]

    lines = sorted(read_costs(results), key=who)
    return [_sum(of, [*members]) for of, members in groupby(lines, who)]


def _sum(of: tuple[str, str, str], lines: list[dict[str, Any]]) -> Costs:
    made = [line for line in lines if line["made"]]
    own = all(line["peak_of"] == "clip" for line in lines)
    return Costs(
        *of, len(made), len(lines) - len(made), sum(line["wall"] for line in lines) / 3600,
        sum(line["cpu"] for line in lines) / 3600, _mean(made, "wall"), _mean(made, "cpu"),
        max(line["peak_mib"] for line in lines), "clip" if own else "process",
    )  # fmt: skip


def _mean(lines: list[dict[str, Any]], name: str) -> float:
    return sum(line[name] for line in lines) / len(lines) if lines else 0.0


def rules_folder() -> Path:
    """The rules of the checkout in which one stands, else of the one that this code is in."""
    own = Path(expportrait.__file__).parents[2] / "rules"
    return Path("rules") if Path("rules/common.smk").exists() else own


def advice(found: Iterable[Costs], config: Config, rules: Path) -> list[Advice]:
    """The rules whose memory or time is off by more than TOLERANCE, either way. ``rules``: their files' folder."""
    told: list[Advice] = []
    members: dict[str, list[Costs]] = {}
    for one in found:
        if one.made >= (LEAST if one.dataset else 1):
            members.setdefault(one.stage.partition("/")[0], []).append(one)  # jobs of drive fit the targets' heads too
    sizes = _job_sizes(config)
    for rule, parts in members.items():
        minutes: dict[str, float] = {}
        for one in parts:
            minutes[one.stage] = max(minutes.get(one.stage, 0), _job_minutes(one, sizes))
        needed = {"mem_mb": max(one.peak_mib for one in parts) * 1.048576, "runtime": sum(minutes.values())}
        for setting, says in _asked(rules / f"{rule}.smk").items():
            need = max(needed[setting], FLOOR[setting])
            if not need / TOLERANCE <= says <= need * TOLERANCE:
                told.append(Advice(rule, setting, says, needed[setting], _rounded_up(MARGIN * need)))
    return told


def _job_sizes(config: Config) -> dict[str, int]:
    """Data set -> clips of its largest shard, where the settings name the number of its shards."""
    sizes: dict[str, int] = {}
    for shard, rows in shards(read_manifest(config.manifest), config.shards).items() if config.shards else ():
        dataset = shard.rpartition("-")[0]
        if dataset in config.shards:
            sizes[dataset] = max(sizes.get(dataset, 0), len(rows))
    return sizes


def _job_minutes(one: Costs, sizes: dict[str, int]) -> float:
    """What a job takes: of a shard, of all pairs in evaluate, or of a training from its start, interruptions or not."""
    if one.dataset == "":
        return one.wall_hours * 60 / one.made
    clips = one.made if one.stage == "evaluate" else sizes.get(one.dataset, CLIPS_A_SHARD)
    return one.wall_seconds * clips / 60


def _asked(file: Path) -> dict[str, int]:
    """What a rule's file asks for: mem_mb and runtime, as far as they stand in it."""
    try:
        text = file.read_text("utf-8")
    except OSError:
        return {}
    patterns = {"mem_mb": _MEMORY, "runtime": _TIME}
    return {name: int(said[1]) for name, pattern in patterns.items() if (said := pattern.search(text))}


def _rounded_up(number: float) -> int:
    """To two digits: 12,345 becomes 13,000."""
    unit = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit


def bill(config: Config) -> str:
    """The bill as text."""
    found = costs(config.results)
    if not found:
        return f"There is no bill in {config.results}: nothing was computed there since bills are written."
    rows = [("stage", "data set", "device", "made", "not made", "wall h", "CPU h", "s each", "CPU s each", "peak MiB")]
    rows += [_row(one) for one in sorted(found, key=lambda one: _place(one.stage))]
    totals = sum(one.wall_hours for one in found), sum(one.cpu_hours for one in found)
    most = max(one.peak_mib for one in found)
    rows.append(("all", "", "", "", "", *(f"{hours:,.2f}" for hours in totals), "", "", f"{most:,.0f}"))
    text = [table(rows)]
    if any(one.peak_of == "process" for one in found):
        text.append("* the peak of the process so far: the kernel did not let it begin anew with each clip")
    folder = rules_folder()
    told = advice(found, config, folder)
    if told:
        lines = [("rule", "", "says", "needed", "write")]
        lines += [(a.rule, a.setting, f"{a.says:,}", f"{a.needed:,.0f}", f"{a.write:,}") for a in told]
        head = (
            f"Off by more than a factor of {TOLERANCE} in {folder}, for jobs of {CLIPS_A_SHARD} clips or of as many "
            "as `shards` makes them (mem_mb in MB, runtime in minutes):"
        )
        text += ["", head, table(lines)]
    return "\n".join(text)


def _row(one: Costs) -> tuple[str, ...]:
    return (
        one.stage, one.dataset, one.device, f"{one.made:,}", f"{one.not_made:,}", f"{one.wall_hours:,.2f}",
        f"{one.cpu_hours:,.2f}", f"{one.wall_seconds:,.1f}", f"{one.cpu_seconds:,.1f}",
        f"{one.peak_mib:,.0f}{'*' * (one.peak_of == 'process')}",
    )  # fmt: skip


def _place(stage: str) -> int:
    """In the order of the pipeline."""
    name = stage.partition("/")[0]
    return STAGES.index(name) if name in STAGES else len(STAGES)


def bill_as_data(config: Config) -> dict[str, Any]:
    """The same for machines."""
    found = costs(config.results)
    told = advice(found, config, rules_folder())
    return {"costs": [asdict(one) for one in found], "rules": [asdict(one) for one in told]}
