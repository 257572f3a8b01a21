"""Stores that are found damaged are marked: the next run of the stage that made one reads all of its bytes, and makes
it again where they are really damaged.

Snakemake takes a stage for done while its index is there: an index that lists a damaged store is deleted.
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from expportrait.errors import MachineFault
from expportrait.machine import writing

_INDEX = re.compile(r"[^/]+-\d+\.json")


def marker(store: Path) -> Path:
    """``<clip>.damaged`` beside a store: somebody could not read it, and this says why."""
    return store.with_suffix(".damaged")


def doubt(store: Path, why: str) -> None:
    """Write the marker. The store is not deleted: whoever cannot read it may be at fault."""
    with writing(marker(store)):
        marker(store).write_text(why + "\n", "utf-8")


def mark(store: Path, why: str) -> None:
    """Have the next run look at the store, and make it again where it is damaged."""
    doubt(store, why)
    drop_indexes(store.parent, [store.stem])


def found_damaged(stage: str, whys: list[str]) -> MachineFault:
    """What the stage ends with that met such stores, and did what else it could."""
    return MachineFault(f"{stage}: damaged stores, the first one: {whys[0]}. Run snakemake again: it makes them anew, "
                        "and what is done stays done")  # fmt: skip


def drop_indexes(home: Path, clips: Iterable[str]) -> list[Path]:
    """Delete the indexes in a stage's folder that list any of the clips; returns them."""
    wanted, dropped = set(clips), []
    for file in indexes(home):
        with suppress(OSError, ValueError):
            if wanted & json.loads(file.read_bytes()).keys():
                file.unlink()
                dropped.append(file)
    return dropped


def indexes(home: Path) -> list[Path]:
    """The indexes in a stage's folder."""
    return sorted(path for path in home.glob("*.json") if _INDEX.fullmatch(path.name) and not path.name.startswith("."))


def listed(home: Path, clip: str) -> bool:
    """Whether an index says that the clip's store is there."""
    for file in indexes(home):
        with suppress(OSError, ValueError, AttributeError):
            if (json.loads(file.read_bytes()).get(clip) or {}).get("status") == "ok":
                return True
    return False
