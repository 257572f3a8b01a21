"""The table of pairs: which clip's portrait is moved by which clip. Parsed and checked here."""

import csv
import hashlib
from bisect import bisect
from difflib import get_close_matches
from pathlib import Path

from expportrait.errors import UserError
from expportrait.manifest.clips import Row, default_shards

COLUMNS = ("target", "driver")
ENDINGS = (".side", ".failed")  # what tells a pair's further files from its video and its figures
DATASET = "pairs"  # what ``shards`` in the settings calls them


def read_pairs(file: Path | None, rows: list[Row]) -> list[Row]:
    """One row a pair, in the order of ``file``; see ``pair_row``. Without a file: ``default_pairs``.

    Raises UserError naming file, line and column, also for a clip that is not in the manifest.
    """
    if file is None:
        return default_pairs(rows)
    clips = {row.clip: row for row in rows}
    pairs: dict[str, Row] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True, skipinitialspace=True)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{file}, line 1: there is no column {', '.join(missing)}; `target,driver` is expected")
            for cells in reader:
                names = [(cells[column] or "").strip() for column in COLUMNS]
                if not any(names):
                    continue
                for column, name in zip(COLUMNS, names, strict=True):
                    if name not in clips:
                        close = get_close_matches(name, clips, n=1)
                        hint = f"; did you mean {close[0]!r}?" if close else ""
                        raise UserError(f"{file}, line {reader.line_num}, column {column}: the manifest has no clip "
                                        f"{name!r}{hint}")  # fmt: skip
                row = pair_row(*(clips[name] for name in names))
                if row.clip in pairs:
                    raise UserError(f"{file}, line {reader.line_num}: the pair {row.clip} stands there twice")
                pairs[row.clip] = row
    except OSError as error:
        raise UserError(f"the pairs {file} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a table of comma-separated values in UTF-8: {error}") from None
    if not pairs:
        raise UserError(f"{file} has no pairs: give it one line a pair, target,driver")
    return [*pairs.values()]


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


def pair_row(target: Row, driver: Row) -> Row:
    """A pair as the stages take it: ``clip`` is its name, ``extra`` holds those of the two clips, ``person`` the
    target's, ``split`` the target's. ``place`` is the driver's: its films have that sound. No key depends on it."""
    name = pair_name(target.clip, driver.clip)
    return Row(name, DATASET, name, driver.place, person=target.person, split=target.split,
               extra={"target": target.clip, "driver": driver.clip})  # fmt: skip


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
