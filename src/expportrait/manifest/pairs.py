"""The table of pairs: which clip's portrait is moved by which clip, and how. Parsed and checked here."""

import csv
import hashlib
import json
from bisect import bisect
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from expportrait.errors import UserError
from expportrait.manifest.clips import NAME, NAMES, Row, default_shards
from expportrait.manifest.tables import opened
from expportrait.settings.sections import Drive

COLUMNS = ("target", "driver")
FROM = ("pose_from", "expression_from")  # clips that give a part of the motion in the driver's place
OWN = tuple(name for name in Drive.model_fields if name != "target_proxy")  # settings that are columns too
KNOWN = (*COLUMNS, "pair", *FROM, *OWN)
ENDINGS = (".side", ".failed")  # what tells a pair's further files from its video and its figures
DATASET = "pairs"  # what ``shards`` in the settings calls them
AT = "@"  # between a target and its frame, in the name of its head; no clip's name has one


def read_pairs(file: Path | None, rows: list[Row]) -> list[Row]:
    """One row a pair, in the order of ``file``; see ``pair_row``. Without a file: ``default_pairs``.

    Raises UserError naming file, line and column, also for a clip that is not in the manifest.
    """
    if file is None:
        return default_pairs(rows)
    clips = {row.clip: row for row in rows}
    pairs: dict[str, Row] = {}
    with opened(file, "pairs") as text:
        reader = csv.DictReader(text, strict=True, skipinitialspace=True)
        columns = _header(reader.fieldnames or (), file)
        for values in reader:
            cells = {name: value for name in columns if (value := (values[name] or "").strip())}
            if cells:
                row = _row(cells, clips, f"{file}, line {reader.line_num}")
                if row.clip in pairs:
                    hint = "" if "pair" in cells else "; give one of them a name of its own, in a column pair"
                    raise UserError(f"{file}, line {reader.line_num}: the pair {row.clip} stands there twice{hint}")
                pairs[row.clip] = row
    if not pairs:
        raise UserError(f"{file} has no pairs: give it one line a pair, target,driver")
    return [*pairs.values()]


def _header(names: Iterable[str], file: Path) -> list[str]:
    """The columns that mean something here. What is nearly the name of one is a mistake; others are the user's own."""
    names = [*names]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise UserError(f"{file}, line 1: there is no column {', '.join(missing)}; `target,driver` is expected")
    for name in names:
        if name in KNOWN and names.count(name) > 1:
            raise UserError(f"{file}, line 1: the column {name} stands there twice")
        close = get_close_matches(name or "", KNOWN, n=1, cutoff=0.85)
        if name not in KNOWN and (close or name == "target_proxy" or (name or "").startswith("gain_")):
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(KNOWN)}"
            raise UserError(f"{file}, line 1: there is no column {name} of pairs{hint}")
    return [name for name in names if name in KNOWN]


def _row(cells: dict[str, str], clips: dict[str, Row], where: str) -> Row:
    """One line of the table, checked."""
    for column in (*COLUMNS, *(name for name in FROM if name in cells)):
        name = cells.get(column, "")
        if name not in clips:
            close = get_close_matches(name, clips, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{where}, column {column}: the manifest has no clip {name!r}{hint}")
    own = cells.get("pair", "")
    if own and (not NAME.fullmatch(own) or own.endswith(ENDINGS)):
        raise UserError(f"{where}, column pair: {own!r} is not a name ({NAMES}, not ending in {' or '.join(ENDINGS)})")
    if own in clips:
        raise UserError(f"{where}, column pair: {own!r} is the name of a clip; give the pair another one")
    settings = {}
    for column in OWN:
        if column in cells:
            try:
                settings[column] = _value(column, cells[column])
            except ValueError as error:
                raise UserError(f"{where}, column {column}: {cells[column]!r}: {error}") from None
    taken = {name: cells[name] for name in FROM if name in cells}
    return pair_row(clips[cells["target"]], clips[cells["driver"]], own, taken, settings)


@lru_cache(4096)
def _value(column: str, text: str) -> Any:
    """What a cell says of a setting; several of a list with blanks between. Raises ValueError with what is expected."""
    given = text.replace(",", " ").split() if column == "hold" else text
    try:
        return getattr(Drive(**{column: given}), column)
    except ValidationError as invalid:
        message = invalid.errors()[0]["msg"]
        raise ValueError(message[0].lower() + message[1:]) from None


def default_pairs(rows: list[Row]) -> list[Row]:
    """Each test clip by itself, and by one clip of another person: of the test split where there is one. The choice
    depends on the clips' names alone."""
    tested = sorted((row for row in rows if row.split == "test"), key=lambda row: row.clip)
    rings = [
        sorted((_hash(row.clip), row.clip, row) for row in members) for members in (tested, rows if tested else [])
    ]
    pairs = []
    for target in tested:
        pairs.append(pair_row(target, target))
        drivers = (_next(ring, target) for ring in rings)
        driver = next((row for row in drivers if row is not None), None)
        if driver is not None:
            pairs.append(pair_row(target, driver))
    return pairs


def _next(ring: list[tuple[int, str, Row]], target: Row) -> Row | None:
    """The first clip of another person after the target's own place in a ring of hashes: an added clip takes over few
    pairs, where a choice by position in the table would shuffle them all."""
    start = bisect(ring, (_hash(f"{target.clip} is driven by"), "", target))
    around = (ring[(start + step) % len(ring)][2] for step in range(len(ring)))
    return next((row for row in around if row.person != target.person), None)


def pair_name(target: str, driver: str) -> str:
    """``<target>__<driver>``; where that may be read in two ways, the length of the target's name follows:
    ``a__b__c__1`` is a driven by b__c, ``a__b__c__4`` is a__b driven by c. No two pairs have one name, and no name ends
    like the files that lie beside another pair's store (``<pair>.side.mp4``, ``<pair>.failed.json``)."""
    name = f"{target}__{driver}"
    twofold = "__" in name[: len(target) + 1] or "__" in name[len(target) + 1 :]
    return f"{name}__{len(target)}" if twofold or driver.endswith(ENDINGS) else name


def pair_row(
    target: Row, driver: Row, name: str = "", taken: dict[str, str] | None = None, drive: dict[str, Any] | None = None
) -> Row:
    """A pair as the stages take it: ``clip`` is its ``name``, ``pair_name`` where it has none of its own; ``extra``
    holds those of the two clips, and of those that give a part of the motion (``taken``, by FROM); ``settings`` what it
    has of its own of the section drive; ``person`` the target's, ``split`` the target's. ``rev`` changes with all that
    its name does not say. ``place`` is the driver's: its films have that sound."""
    clips, own = {"target": target.clip, "driver": driver.clip} | (taken or {}), drive or {}
    rev = json.dumps([clips, own], sort_keys=True) if name or taken or own else ""
    name = name or pair_name(target.clip, driver.clip)
    return Row(name, DATASET, name, driver.place, person=target.person, split=target.split, rev=rev, extra=clips,
               settings={"drive": own} if own else {})  # fmt: skip


def portrait(pair: Row) -> str:
    """What the head of a pair's target is called: the clip, and the frame where the pair has one of its own."""
    frame = pair.settings.get("drive", {}).get("reference")
    return pair.extra["target"] if frame is None else f"{pair.extra['target']}{AT}{frame}"


def clip_of(name: str) -> str:
    """The clip of a name that may be a portrait's."""
    return name.partition(AT)[0]


def portraits(rows: list[Row], pairs: list[Row]) -> list[Row]:
    """The rows of the pairs' targets; one for each frame that pairs have of their own, which it has as a setting."""
    wanted: dict[str, dict[str, dict]] = {}
    for pair in pairs:
        own = {name: value for name, value in pair.settings.get("drive", {}).items() if name == "reference"}
        wanted.setdefault(pair.extra["target"], {})[portrait(pair)] = {"drive": own} if own else {}
    return [
        row._replace(clip=name, settings=own) if own else row
        for row in rows
        for name, own in sorted(wanted.get(row.clip, {}).items())
    ]


def pair_shards(pairs: list[Row], configured: dict[str, int]) -> dict[str, list[Row]]:
    """Shard name -> its pairs. The pairs of one target stay together: they share its fit from the reference frame."""
    count = pair_count(pairs, configured)
    table: dict[str, list[Row]] = {}
    for row in pairs:
        table.setdefault(f"{DATASET}-{_hash(row.extra['target']) % count:04d}", []).append(row)
    return {name: sorted(table[name], key=lambda row: row.clip) for name in sorted(table)}


def pair_count(pairs: list[Row], configured: dict[str, int]) -> int:
    """Number of shards: as configured, else by the number of pairs."""
    return configured.get(DATASET) or (default_shards(len(pairs)) if pairs else 1)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha1(text.encode()).digest())
