"""Stage ``report``: one HTML page on the whole run (docs/report.md)."""

from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any

from expportrait.engine.heartbeat import at_work
from expportrait.manifest.clips import Row
from expportrait.progress import progress
from expportrait.report.page import write_page
from expportrait.report.run import read_run
from expportrait.stages import PER_CLIP, PER_PAIR, made


def run(
    rows: list[Row], results: Path, settings: Any, shards: dict[str, list[Row]], pair_shards: dict[str, list[Row]]
) -> Path:
    """Writes results/report/index.html last, and returns it. Stages without index yet count as missing."""
    with at_work(results, "report", 0, "pictures") as beat:

        def shown(cards: list) -> Iterable:
            beat.tell(total=len(cards))
            return progress(beat.each(cards, itemgetter(1)), len(cards), "report")

        clips, pairs = read_run(shards, results, made(PER_CLIP, settings)), read_run(pair_shards, results, PER_PAIR)
        return write_page(clips, pairs, results, settings, shown)
