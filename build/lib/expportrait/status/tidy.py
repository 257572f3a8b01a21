"""Trying failed clips again, and removing what no row and no key needs. Both keep to the folders of known stages."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from expportrait.engine.costs import ENDING, read_bill
from expportrait.engine.damage import doubt, drop_indexes, indexes
from expportrait.engine.heartbeat import DEAD, Pulse, named, read_heartbeats
from expportrait.engine.stage import ALL, RECORDS, Stage
from expportrait.errors import UserError
from expportrait.machine import writing
from expportrait.manifest.pairs import clip_of, portrait
from expportrait.progress import say
from expportrait.stages import PIPELINE
from expportrait.status.survey import Cell, Survey, on_disk
from expportrait.store import Store, StoreError

DAY = 86400.0
_TEMPORARY = re.compile(r"\..+\.tmp(\.old)?")
_WORK = re.compile(r"work-[0-9a-f]{32}")
_OF = {"clip": "clip of the manifest", "pair": "pair", "model": "clip of the manifest"}


@dataclass(frozen=True)
class Waste:
    """Something to be removed, and why."""

    path: Path
    why: str
    bytes: int


def check_idle(results: Path) -> None:
    """Raises UserError while jobs or a Snakemake may be at work on the results, whoever started them and where. A job
    of another machine that was killed lately is looked at for two minutes."""
    pulse, told = Pulse(), False
    while True:
        beats = pulse.feel(read_heartbeats(results, runs=True))
        for beat in beats:
            if beat["alive"]:
                raise UserError(f"process {beat['pid']} on {beat['host']} is at work on {named(beat)}: wait for its "
                                "end, or stop it")  # fmt: skip
        unknown = [beat for beat in beats if beat["alive"] is None]
        if not unknown:
            break
        if not told:
            say(f"looking for up to {DEAD} s whether jobs of other machines are still at work, such as "
                f"{named(unknown[0])} on {unknown[0]['host']}")  # fmt: skip
        told = True
        time.sleep(1)
    with suppress(OSError):
        if any(Path(".snakemake", "locks").iterdir()):
            raise UserError("a Snakemake is at work in this folder, or was killed: wait for its end, or "
                            "`snakemake --unlock`")  # fmt: skip


def to_retry(
    survey: Survey, stages: Iterable[str] = (), reason: str = "", clips: Iterable[str] = ()
) -> list[tuple[str, str, Cell]]:
    """(stage, clip, cell) of failed and damaged ones; of a clip's pairs too. ``reason``: part of the text, any case.
    The stores of ``clips`` are read to the end."""
    stages, clips = set(stages), set(clips)
    parts = {pair.clip: {pair.clip, *pair.extra.values()} for pair in survey.pairs}

    def meant(stage: str, clip: str) -> bool:
        return (not stages or stage in stages) and (not clips or bool(clips & parts.get(clip, {clip, clip_of(clip)})))

    damaged = [*survey.damaged()]
    for stage, clip, cell in survey.having("ok") if clips else ():
        if meant(stage, clip) and (why := _damage(survey, stage, clip)):
            damaged.append((stage, clip, cell._replace(status="missing", why=why)))
    return [
        (stage, clip, cell)
        for stage, clip, cell in (*survey.having("failed"), *damaged)
        if meant(stage, clip) and reason.lower() in cell.why.lower()
    ]


def _damage(survey: Survey, stage: str, clip: str) -> str:
    """Why a store that should be there cannot be read, empty where it can."""
    if clip == ALL or survey.stages[stage].form != "zarr":
        return ""
    try:
        Store(survey.stages[stage].result(survey.config.results, clip)).check(read=True)
    except StoreError as error:
        return str(error)
    return ""


def retry(survey: Survey, chosen: Iterable[tuple[str, str, Cell]]) -> list[Path]:
    """Forget these failures; returns the indexes that were deleted, which is what makes Snakemake run their jobs."""
    by_stage: dict[str, set[str]] = {}
    for stage, clip, cell in chosen:
        result = survey.stages[stage].result(survey.config.results, clip)
        with writing(result.parent):
            if cell.status == "failed":
                result.with_name(f"{clip}{RECORDS[0]}").unlink(missing_ok=True)
                if survey.stages[stage].form == "json":
                    result.unlink(missing_ok=True)
            else:
                doubt(result, cell.why)
        by_stage.setdefault(stage, set()).add(clip)
    dropped = []
    for stage, clips in by_stage.items():
        if job := survey.stages[stage].by:
            stage, clips = job, {p.clip for p in survey.pairs if portrait(p) in clips}
        dropped += _reopen(survey.config.results, survey.stages[stage], clips)
    return dropped


def _reopen(results: Path, stage: Stage, clips: set[str]) -> list[Path]:
    """Delete what Snakemake takes for the clips' work in that stage: their indexes, or the table of all pairs."""
    if not stage.table:
        return drop_indexes(stage.home(results), clips)
    table = results / stage.table
    there = [table] if table.exists() else []
    with writing(table):
        table.unlink(missing_ok=True)
    return there


def waste(survey: Survey, stale: bool = False, now: float | None = None) -> list[Waste]:
    """What no row needs; with ``stale`` also stores of another key than today's. Raises UserError where the manifest
    has nothing to do with the results."""
    results, now = survey.config.results, now or time.time()
    found, used, alien = [], 0, 0
    for stage in PIPELINE.values():
        if stage.kind not in _OF:
            continue
        of = "target of a pair" if stage.by else _OF[stage.kind]
        members = stage.members(survey.rows, survey.pairs)
        # of a stage that other settings would have, all of them
        needed = survey.cells.get(stage.name, {row.clip: Cell("skipped") for row in members})
        home = stage.home(results)
        obsolete = _obsolete_indexes(survey, stage, home)
        known = {f"{clip}{ending}": clip for clip in needed for ending in stage.endings}
        for path in _inside(home):
            if _TEMPORARY.fullmatch(path.name):
                if now - _newest(path) > DAY:
                    found.append((path, "left behind by a job that was killed"))
            elif ALL in needed:
                if (
                    _WORK.fullmatch(path.name)
                    and path.name[5:] not in _current(home, needed[ALL])
                    and now - _newest(path) > DAY
                ):
                    found.append((path, "checkpoints of an earlier training"))
            elif path.name.endswith(ENDING):
                clips = {line["clip"] for line in read_bill(path)}
                if clips and not clips & needed.keys():
                    found.append((path, "what was spent on clips and pairs that are no more"))
            elif path in obsolete:
                found.append((path, "index of a shard that is no more"))
            elif clip := known.get(path.name):
                used += 1
                if stale and path.suffix == ".zarr" and _key_differs(home, clip, needed[clip]):
                    found.append((path, "made from other settings, rows or parents"))
            elif path.name.endswith(stage.endings):
                alien += 1
                found.append((path, f"no {of}"))
    found += _media(survey)
    if alien and not used:
        raise UserError(f"nothing in {results} belongs to {survey.config.manifest}: is this the right manifest?")
    return [Waste(path, why, _size(path)) for path, why in found]


def remove(things: Iterable[Waste]) -> None:
    for thing in things:
        with writing(thing.path):
            if thing.path.is_dir():
                shutil.rmtree(thing.path)
            else:
                thing.path.unlink(missing_ok=True)


def _inside(folder: Path) -> Iterator[Path]:
    """What lies in a folder; links lead elsewhere and are left alone."""
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if not path.is_symlink())


def _obsolete_indexes(survey: Survey, stage: Stage, home: Path) -> set[Path]:
    table = survey.shards(stage.name) if stage.sharded else {}
    return {file for file in indexes(home) if table and file.stem not in table.keys() | survey.cells[stage.name]}


def _current(home: Path, cell: Cell) -> set[str | None]:
    with suppress(OSError, ValueError):
        return {cell.key, cell.found, json.loads((home / "index.json").read_bytes()).get("key")}
    return {cell.key, cell.found}


def _key_differs(home: Path, clip: str, cell: Cell) -> bool:
    """Against the key in the store itself; a clip that is skipped or failed today needs no store."""
    there = on_disk(home, [f"{clip}.zarr"])
    return there is not None and (there.key != cell.key or cell.status in ("failed", "skipped"))


def _media(survey: Survey) -> Iterator[tuple[Path, str]]:
    known = {row.clip for row in (*survey.rows, *survey.pairs)}
    for path in _inside(survey.config.results / "report" / "media"):
        if path.name not in known and not path.name.startswith("."):
            yield path, "pictures of a clip that is no more"
        elif _TEMPORARY.fullmatch(path.name) and time.time() - _newest(path) > DAY:
            yield path, "left behind by a job that was killed"


def _newest(path: Path) -> float:
    """When anything in it was last written, Unix s."""
    with suppress(OSError):
        return max(file.stat().st_mtime for file in (path, *path.rglob("*")))
    return time.time()


def _size(path: Path) -> int:
    """Bytes on the disk."""
    if path.is_file():
        return path.stat().st_size
    return sum(os.stat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)
