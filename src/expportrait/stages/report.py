"""Stage ``report``: one HTML page on the whole run (docs/report.md)."""

from functools import partial
from pathlib import Path
from typing import Any

from expportrait.config import SECTIONS
from expportrait.manifest import Row
from expportrait.progress import progress
from expportrait.report.page import write_page
from expportrait.report.run import read_run
from expportrait.stage import Stage
from expportrait.stages import PER_CLIP, PER_PAIR


def build(
    rows: list[Row], results: Path, settings: Any, shards: dict[str, list[Row]], pair_shards: dict[str, list[Row]]
) -> Path:
    """Writes results/report/index.html last, and returns it. Stages without index yet count as missing."""
    run, pairs = read_run(shards, results, PER_CLIP), read_run(pair_shards, results, PER_PAIR)
    return write_page(run, pairs, results, settings, partial(progress, desc="report"))


STAGE = Stage(name="report", version=2, sections=SECTIONS, parents=(), process=None)  # the page shows all settings
