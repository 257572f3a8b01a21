"""What became of every clip in every stage, or of every pair, from the stages' indexes."""

from collections import Counter
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Literal

from expportrait.engine.record import Outcome, counted, read_index
from expportrait.manifest.clips import Row

STATUSES = ("ok", "failed", "skipped", "missing")
MISSING = Outcome("missing", None, "not run yet")


@dataclass(frozen=True)
class Run:
    """``outcomes[clip][stage]`` is there for every clip and every stage. A run of pairs has them for clips."""

    rows: dict[str, Row]
    shard: dict[str, str]
    stages: tuple[str, ...]
    outcomes: dict[str, dict[str, Outcome]]

    def counts(self) -> dict[str, Counter[str]]:
        """Clips by status, for each stage; those that it is not needed for apart, under NOT_NEEDED."""
        return {
            stage: Counter(counted(of[stage].status, of[stage].why) for of in self.outcomes.values())
            for stage in self.stages
        }

    def keys(self, clip: str) -> dict[str, str]:
        """Of the stages whose store is whole."""
        return {stage: o.key for stage, o in self.outcomes[clip].items() if o.status == "ok" and o.key is not None}

    def worst(self, clip: str) -> str:
        """failed if any stage failed, else skipped, else missing, else ok. Stages that do not need it do not count."""
        found = {counted(outcome.status, outcome.why) for outcome in self.outcomes[clip].values()}
        return next((status for status in ("failed", "skipped", "missing") if status in found), "ok")

    def troubles(self) -> list[tuple[str, str, str, str]]:
        """(clip, stage, status, why): the failed ones, then the skipped ones, each by clip and stage."""
        return [
            (clip, stage, status, self.outcomes[clip][stage].why)
            for status in ("failed", "skipped")
            for clip in sorted(self.outcomes)
            for stage in self.stages
            if counted(self.outcomes[clip][stage].status, self.outcomes[clip][stage].why) == status
        ]

    def cards(self, most: int, first: Literal["spread", "failed"]) -> list[str]:
        """Clips to show, of those that the first stage made: one of each shard in turn, with ``failed`` those that
        failed first."""
        shards: dict[str, list[str]] = {}
        for clip in sorted(self.outcomes):
            if self.outcomes[clip][self.stages[0]].status == "ok":
                shards.setdefault(self.shard[clip], []).append(clip)
        turn = [clip for clip in chain.from_iterable(zip_longest(*shards.values())) if clip is not None]
        if first == "failed":
            turn.sort(key=lambda clip: self.worst(clip) != "failed")
        return turn[:most]


def read_run(shards: dict[str, list[Row]], results: Path, stages: tuple[str, ...]) -> Run:
    """A shard without index is missing in that stage; an index that cannot be read raises UserError."""
    rows = {row.clip: row for members in shards.values() for row in members}
    outcomes: dict[str, dict[str, Outcome]] = {clip: {} for clip in rows}
    for stage in stages:
        for shard, members in shards.items():
            file = results / stage / f"{shard}.json"
            index = read_index(file) if file.exists() else {}
            for row in members:
                outcomes[row.clip][stage] = index.get(row.clip, MISSING)
    return Run(rows, {row.clip: shard for shard, members in shards.items() for row in members}, stages, outcomes)
