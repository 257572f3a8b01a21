"""What each stage has of each clip, against what today's rows and settings ask for. Loads no models."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from expportrait.engine.outputs import endings
from expportrait.engine.record import Outcome, content_key, counted, read_index, source_key
from expportrait.engine.stage import Stage
from expportrait.errors import ClipError, MachineFault, UserError
from expportrait.machine import machine_fault
from expportrait.manifest.clips import Row, read_manifest, shards
from expportrait.manifest.pairs import pair_shards, read_pairs
from expportrait.progress import progress
from expportrait.settings.config import Config
from expportrait.stages import PER_CLIP, PER_PAIR, TRAINED
from expportrait.stages.contracts import (
    TARGETS,
    contracts,
    generator_key,
    home_of,
    settings_of,
    tracks_of,
    transfer_key,
)
from expportrait.store import Store, StoreError
from expportrait.store.checksums import verify

STATUSES = ("ok", "failed", "skipped", "stale", "missing")
READERS = 4  # stores read at once: a shared file system answers late
ALL = ""  # stands for the clip where a stage makes one thing of all


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
        if stage == TARGETS:
            targets = {pair.extra["target"] for pair in self.pairs}
            return [row for row in self.rows if row.clip in targets]
        return self.rows if stage in PER_CLIP else self.pairs

    def shards(self, stage: str) -> dict[str, list[Row]]:
        """Shard -> its members, where the stage is cut into shards."""
        return self.clip_shards if stage in PER_CLIP else self.pair_shards if stage in PER_PAIR else {}

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
    seen = Survey(config, rows, pairs, *cut, contracts(config))
    for stage in seen.stages.values():
        if stage.name in TRAINED:
            seen.cells[stage.name] = {ALL: _training(seen, stage.name)}
            continue
        found, home = _found(seen, stage.name), home_of(config.results, stage.name)
        judge = _Judge(seen, stage)
        cells = {row.clip: judge.cell(row, found.get(row.clip)) for row in seen.members(stage.name)}
        if deep and stage.name != "evaluate" and (not only or stage.name in only):
            cells = _read(home, cells)
        seen.cells[stage.name] = cells
    return seen


class _Judge:
    def __init__(self, seen: Survey, stage: Stage):
        self.seen, self.stage = seen, stage
        self.config = settings_of(stage.name, seen.config)
        named = [value for s in stage.sections for _, value in getattr(self.config, s) if isinstance(value, Path)]
        # a folder holds a file a clip
        self.shared = None if any(map(Path.is_dir, named)) else self.config.identity(stage.sections, ALL)

    def cell(self, row: Row, found: Outcome | None) -> Cell:
        others = self.stage.others(row) if self.stage.others else {p: (p, row.clip) for p in self.stage.parents}
        parents = {name: (stage, self.seen.cells[stage].get(clip)) for name, (stage, clip) in others.items()}
        parents |= {name: (name, self.seen.cells[name][ALL]) for name in self.stage.whole}
        there = found.key if found else None
        for name, (stage, parent) in parents.items():
            if parent is None or parent.key is None or parent.status in ("failed", "skipped"):
                why = (
                    parent.why
                    if parent and parent.status == "skipped"
                    else f"{name}: {parent.why if parent else stage}"
                )
                return Cell("skipped", None, why, there)
        keys = {name: parent.key for name, (_, parent) in parents.items()}
        if self.stage.name == "evaluate":
            try:
                keys |= tracks_of(self.config, row.extra["target"], row.extra["driver"])
            except ClipError as error:
                return Cell("failed", None, error.reason, there)
        key = self._key(row, keys)
        if found is None:
            return Cell("missing", key)
        if found.key != key:
            return Cell("stale", key, found.why, there)
        return Cell(found.status, key, found.why, there)

    def _key(self, row: Row, parents: dict[str, str]) -> str:
        """As ``stage.clip_key``, with the settings hashed once."""
        root = {} if parents else {"row": row.identity(), "made": source_key(row.path)}
        settings = self.shared or self.config.identity(self.stage.sections, row.clip)
        return content_key(self.stage.name, self.stage.version, settings, root | parents)


def _found(seen: Survey, stage: str) -> dict[str, Outcome]:
    """What is there: from the indexes, and from the disk where a shard has none (its job is not done)."""
    home, found, unlisted = home_of(seen.config.results, stage), {}, []
    table = seen.shards(stage)
    for shard, members in table.items():
        file = home / f"{shard}.json"
        if file.exists():
            found |= read_index(file)
        else:
            unlisted += members
    if not table:
        unlisted = seen.members(stage)
    if unlisted:
        names = {path.name for path in home.iterdir()} if home.is_dir() else set()
        told = [ending for ending in (".failed.json", ".json", ".zarr") if ending in endings(stage)]
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


def _training(seen: Survey, name: str) -> Cell:
    """What was trained, against what the clips would be today if all that is to be done goes well."""
    config, parents = seen.config, seen.stages[name].parents
    keys = {}
    for row in sorted(seen.rows, key=lambda row: row.clip):
        cells = {parent: seen.cells[parent][row.clip] for parent in parents}
        if all(cell.key and cell.status not in ("failed", "skipped") for cell in cells.values()):
            keys[row.clip] = {parent: cell.key for parent, cell in cells.items()}
    train = {row.clip for row in seen.rows if row.split == "train"}
    chosen = {clip: of for clip, of in keys.items() if clip in train}
    if not chosen:
        return Cell("skipped", None, f"no clip of the split train can be used for {name}")
    if name == "transfer":
        flat = {clip: of["proxy"] for clip, of in keys.items()}
        wanted = {"clips": {c: key for c, key in flat.items() if c in train},
                  "evaluated": {c: key for c, key in flat.items() if c not in train}}  # fmt: skip
        key = transfer_key(config, wanted["clips"])
    else:
        wanted = {"clips": chosen}
        # pretrained weights are many gigabytes: they are hashed by the stage, not here
        key = generator_key(config, chosen, []) if config.generator.base is None else None
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
