"""What each stage has of each clip, against what today's rows and settings ask for. Loads no models."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from expportrait.engine.keys import Keys
from expportrait.engine.models import divided, usable
from expportrait.engine.record import Outcome, counted, read_index
from expportrait.engine.stage import ALL, Stage
from expportrait.errors import ClipError, MachineFault, UserError
from expportrait.machine import machine_fault
from expportrait.manifest.clips import Row, read_manifest, shards
from expportrait.manifest.pairs import pair_shards, read_pairs
from expportrait.progress import progress
from expportrait.settings.config import Config
from expportrait.stages import recorded
from expportrait.store import Store, StoreError
from expportrait.store.checksums import verify

STATUSES = ("ok", "failed", "skipped", "stale", "missing")
READERS = 4  # stores read at once: a shared file system answers late


class Cell(NamedTuple):
    """One clip in one stage. ``key``: what a run would give it today, None where it would not come that far.

    ``status``: ok; failed and skipped as recorded, which a run would not change (skipped with a key: nothing
    is to be made of the clip in that stage); stale: made from other settings, rows or parents; missing. The last two
    are what a run would do.
    """

    status: str
    key: str | None = None
    why: str = ""
    found: str | None = None  # the key that is there


@dataclass
class Survey:
    """``cells[stage][clip]``, stages in the order of the pipeline; for stages of pairs ``clip`` is the pair's name."""

    config: Config
    rows: list[Row]
    pairs: list[Row]
    clip_shards: dict[str, list[Row]]
    pair_shards: dict[str, list[Row]]
    stages: dict[str, Stage]
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)

    def members(self, stage: str) -> list[Row]:
        """The clips or pairs of a stage."""
        return self.stages[stage].members(self.rows, self.pairs)

    def shards(self, stage: str) -> dict[str, list[Row]]:
        """Shard -> its members, where the stage is cut into shards."""
        one = self.stages[stage]
        return {"clip": self.clip_shards, "pair": self.pair_shards}[one.kind] if one.sharded else {}

    def damaged(self) -> Iterator[tuple[str, str, Cell]]:
        """(stage, clip, cell) of stores that should be there and cannot be read."""
        return (found for found in self.having("missing") if found[2].why)

    def counts(self, stage: str) -> Counter[str]:
        """Cells by status; those of clips that the stage is not needed for apart, under NOT_NEEDED."""
        return Counter(counted(cell.status, cell.why) for cell in self.cells[stage].values())

    def having(self, *statuses: str) -> Iterator[tuple[str, str, Cell]]:
        """(stage, clip, cell) of these statuses."""
        for stage, cells in self.cells.items():
            for clip, cell in cells.items():
                if cell.status in statuses:
                    yield stage, clip, cell


def survey(config: Config, deep: bool = False, only: Collection[str] = ()) -> Survey:
    """Look at everything. ``deep``: also read every array of every store, or of those of the stages ``only``: cells of
    damaged and lost ones are missing, with a reason.

    Raises UserError for a broken manifest, pairs, index, or a file named in the settings that is not there.
    """
    rows = read_manifest(config.manifest)
    pairs = read_pairs(config.pairs, rows)
    cut = shards(rows, config.shards), pair_shards(pairs, config.shards)
    seen = Survey(config, rows, pairs, *cut, recorded(config))
    for stage in seen.stages.values():
        if stage.kind == "model":
            seen.cells[stage.name] = {ALL: _model(seen, stage)}
            continue
        found = _found(seen, stage)
        judge = _Judge(seen, stage)
        cells = {row.clip: judge.cell(row, found.get(row.clip)) for row in seen.members(stage.name)}
        if deep and stage.form == "zarr" and (not only or stage.name in only):
            cells = _read(stage.home(config.results), cells)
        seen.cells[stage.name] = cells
    return seen


class _Judge:
    def __init__(self, seen: Survey, stage: Stage):
        self.seen, self.stage = seen, stage
        self.keys = Keys(stage, seen.config)
        self.keys.settings()  # says so, where a file is missing, also when no clip comes so far

    def cell(self, row: Row, found: Outcome | None) -> Cell:
        parents = self.stage.parents_of(row, self.seen.config)
        parents = {name: (stage, self.seen.cells[stage].get(clip)) for name, (stage, clip) in parents.items()}
        there = found.key if found else None
        for name, (stage, parent) in parents.items():
            if parent is None or parent.key is None or parent.status in ("failed", "skipped"):
                why = (
                    parent.why
                    if parent and parent.status == "skipped"
                    else f"{name}: {parent.why if parent else stage}"
                )
                return Cell("skipped", None, why, there)
        try:
            key = self.keys.of(row, {name: parent.key for name, (_, parent) in parents.items()})
        except ClipError as error:
            return Cell("failed", None, error.reason, there)
        if found is None:
            return Cell("missing", key)
        if found.key != key:
            return Cell("stale", key, found.why, there)
        return Cell(found.status, key, found.why, there)


def _found(seen: Survey, stage: Stage) -> dict[str, Outcome]:
    """What is there: from the indexes, and from the disk where a shard has none (its job is not done)."""
    home, found, unlisted = stage.home(seen.config.results), {}, []
    table = seen.shards(stage.name)
    for shard, members in table.items():
        file = home / f"{shard}.json"
        if file.exists():
            found |= read_index(file)
        else:
            unlisted += members
    if not table:
        unlisted = seen.members(stage.name)
    if unlisted:
        names = {path.name for path in home.iterdir()} if home.is_dir() else set()
        told = [ending for ending in (".failed.json", ".json", ".zarr") if ending in stage.endings]
        for row in unlisted:
            outcome = on_disk(home, [name for ending in told if (name := row.clip + ending) in names])
            if outcome is not None:
                found[row.clip] = outcome
    return found


def on_disk(home: Path, names: Iterable[str]) -> Outcome | None:
    """What the first of these records and stores that can be read says, without opening more than one small file."""
    for name in names:
        with suppress(OSError, ValueError, KeyError, TypeError):
            path = home / name
            if name.endswith(".zarr"):
                return Outcome("ok", json.loads((path / "zarr.json").read_bytes())["attributes"]["key"])
            record = json.loads(path.read_bytes())
            return Outcome(record.get("status", "ok"), record["key"], record.get("why", ""))
    return None


def _read(home: Path, cells: dict[str, Cell]) -> dict[str, Cell]:
    """The cells after the stores that they claim were read. Raises MachineFault where the machine cannot."""
    pool = ThreadPoolExecutor(READERS, "read stores")
    try:
        done = pool.map(lambda clip: _verified(home, clip, cells[clip]), cells)
        return dict(zip(cells, progress(done, len(cells), f"reading {home}"), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def _verified(home: Path, clip: str, cell: Cell) -> Cell:
    if cell.status != "ok":
        return cell
    try:
        store = Store(home / f"{clip}.zarr")
        verify(store)
        key = store.attrs.get("key")
    except StoreError as error:
        if fault := machine_fault(error):
            raise MachineFault(f"{home / clip}.zarr cannot be read: {fault}") from error
        return cell._replace(status="missing", why=str(error), found=None)
    return cell if key == cell.key else cell._replace(status="stale", found=key)


def _model(seen: Survey, stage: Stage) -> Cell:
    """What was trained, against what the clips would be today if all that is to be done goes well."""
    config, name = seen.config, stage.name

    def key_of(parent: str, clip: str) -> str | None:
        cell = seen.cells[parent][clip]
        return None if cell.status in ("failed", "skipped") else cell.key

    wanted = divided(stage, seen.rows, usable(stage, seen.rows, config, key_of))
    if not wanted["clips"]:
        return Cell("skipped", None, f"no clip of the split train can be used for {name}")
    # pretrained weights are many gigabytes: they are hashed by the stage, not here
    section, _, setting = stage.weights.partition(".")
    known = not setting or getattr(getattr(config, section), setting) is None
    key = Keys(stage, config).of_model(wanted["clips"], []) if known else None
    try:
        index = json.loads((config.results / name / "index.json").read_text("utf-8"))
    except FileNotFoundError:
        return Cell("missing", key or "unknown")
    except (OSError, ValueError) as error:
        raise UserError(f"{config.results / name / 'index.json'} cannot be read ({error}); delete it") from None
    found = index.get("key")
    same = found == key if key else True
    if same and all(index.get(part) == value for part, value in wanted.items()):
        return Cell("ok", found, "", found)
    return Cell("stale", key or "unknown", "", found)
