"""The table of clips: one row, one clip, one store a stage. Parsed and checked here, and cut into shards."""

import csv
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from operator import attrgetter, itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from expportrait.errors import UserError
from expportrait.manifest.tables import opened

REQUIRED = ("clip", "dataset", "source")
COLUMNS = (*REQUIRED, "start", "end", "box", "person", "split", "rev", "fps", "face")
IDENTITY = ("source", "start", "end", "box", "rev", "fps")  # what the pixels of a clip depend on
SPLITS = ("train", "val", "test")
CLIPS_A_SHARD = 128
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")  # of clips, data sets and pairs
NAMES = "letters, digits and . _ + -, at most 100, not starting with . + or -"


class Row(NamedTuple):
    """One clip. ``source`` as written, ``place`` the same seen from here, through the manifest's folder; times in
    seconds."""

    clip: str
    dataset: str
    source: str
    place: str | Path
    start: float | None = None
    end: float | None = None
    box: tuple[float, float, float, float] | None = None  # x0 y0 x1 y1, px of the source
    person: str = ""  # the clip itself where the column is empty
    split: str = "train"
    rev: str = ""
    fps: float | None = None  # frames a second of a folder of images; the setting crop.folder_fps where empty
    extra: Mapping[str, str] = MappingProxyType({})
    settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({})  # of its own, by section, as a pair may have
    face: tuple[float, float, float, float] | None = None  # x0 y0 x1 y1, px of the source: whose, where the row starts

    @property
    def path(self) -> Path:
        """Where the source is. (Made when asked for: 36,000 of them would be a fifth of reading a manifest.)"""
        return Path(self.place)

    def identity(self) -> dict:
        """What the pixels of the clip depend on; the root of every key."""
        known = {"source": self.source, "start": self.start, "end": self.end, "box": self.box, "rev": self.rev}
        later = {"fps": self.fps, "face": self.face}  # columns that keys had not at first
        return known | {name: value for name, value in later.items() if value}


def read_manifest(file: Path) -> list[Row]:
    """All rows, in the order of the file. Raises UserError naming file, line and column."""
    with opened(file, "manifest") as text:
        reader = csv.reader(text, strict=True)
        header = _header(next(reader, []), file)
        extra = [name for name in header if name and name not in COLUMNS]
        rows = [_row(cells, header, extra, file, reader.line_num) for cells in reader if "".join(cells).strip()]
    if not rows:
        raise UserError(f"{file} has no clips: give it one row a clip, with the columns {', '.join(REQUIRED)}")
    twice = [clip for clip, count in Counter(row.clip for row in rows).items() if count > 1]
    if twice:
        raise UserError(f"{file}, column clip: {twice[0]!r} stands in more than one row; ids have to be unique")
    return rows


def _header(cells: list[str], file: Path) -> list[str]:
    header = [cell.strip() for cell in cells]
    missing = [name for name in REQUIRED if name not in header]
    if missing and header:
        other = next((name for sign, name in ((";", "semicolons"), ("\t", "tabs")) if sign in cells[0]), None)
        hint = f"; its values seem to be separated by {other}, commas are expected" if other else ""
        raise UserError(f"{file}, line 1: there is no column {', '.join(missing)}{hint}")
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise UserError(f"{file}, line 1: the column {twice[0]} stands there twice")
    return header


def _row(values: list[str], header: list[str], extra: list[str], file: Path, line: int) -> Row:
    """One line of the table, checked. Of a plan of 36,000 clips this is a tenth: empty columns cost nothing here."""
    if any(map(str.strip, values[len(header) :])):
        surplus = len(values) - len(header)
        raise UserError(f"{file}, line {line}: {surplus} more values than columns; quote a value that has a comma")
    cells = dict(zip(header, map(str.strip, values), strict=False))

    def wrong(column: str, why: str) -> UserError:
        return UserError(f"{file}, line {line}, column {column}: {why}")

    def numbers(column: str, count: int) -> list[float]:
        try:
            found = [float(number) for number in cells[column].split()]
        except ValueError:
            found = []
        if len(found) != count or not all(map(math.isfinite, found)):
            raise wrong(column, f"{cells[column]!r} is not {'a number' if count == 1 else f'{count} numbers'}")
        return found

    clip, dataset, source = (cells.get(column, "") for column in REQUIRED)
    if not (NAME.fullmatch(clip) and NAME.fullmatch(dataset)):
        column, name = ("dataset", dataset) if NAME.fullmatch(clip) else ("clip", clip)
        raise wrong(column, f"{name!r} is not a name ({NAMES})")
    if not source:
        raise wrong("source", "empty; name a video, an image or a folder of frames")

    def rectangle(column: str) -> tuple[float, ...]:
        x0, y0, x1, y1 = sides = tuple(numbers(column, 4))
        if x0 >= x1 or y0 >= y1:
            raise wrong(column, f"{cells[column]!r} is empty; x0 y0 x1 y1 with x0 < x1 and y0 < y1 is expected")
        return sides

    start = end = fps = box = face = None
    if cells.get("start"):
        (start,) = numbers("start", 1)
        if start < 0:
            raise wrong("start", f"{start:g} s is before the beginning")
    if cells.get("end"):
        (end,) = numbers("end", 1)
        if end <= (start or 0):
            raise wrong("end", f"{end:g} s is not after the start, {start or 0:g} s")
    if cells.get("box"):
        box = rectangle("box")
    if cells.get("face"):
        face = rectangle("face")
    if cells.get("fps"):
        (fps,) = numbers("fps", 1)
        if fps <= 0:
            raise wrong("fps", f"{fps:g} is not a number of frames a second")
    split = cells.get("split") or "train"
    if split not in SPLITS:
        raise wrong("split", f"{split!r} is none of {', '.join(SPLITS)}")
    place = os.path.normpath(os.path.join(os.path.dirname(file), os.path.expanduser(source)))
    others = {name: cells[name] for name in extra if name in cells}
    return Row(clip, dataset, source, place, start, end, box, cells.get("person") or clip, split, cells.get("rev", ""),
               fps, others, face=face)  # fmt: skip


def mixed_splits(rows: list[Row]) -> list[str]:
    """Persons who stand in more than one split: scores on them say little about new people."""
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.person, set()).add(row.split)
    return sorted(person for person, names in splits.items() if len(names) > 1)


def shard_counts(rows: list[Row], configured: dict[str, int]) -> dict[str, int]:
    """Data set -> number of its shards: as configured, else by its size."""
    return {
        name: configured.get(name) or default_shards(total) for name, total in Counter(r.dataset for r in rows).items()
    }


def shards(rows: list[Row], configured: dict[str, int]) -> dict[str, list[Row]]:
    """Shard name -> its rows by clip id, independent of the rows' order."""
    counts = shard_counts(rows, configured)
    table: dict[str, list[Row]] = {}
    for row in rows:
        index = int.from_bytes(hashlib.sha1(row.clip.encode()).digest()) % counts[row.dataset]
        table.setdefault(f"{row.dataset}-{index:04d}", []).append(row)
    return {name: sorted(table[name], key=lambda row: row.clip) for name in sorted(table)}


def default_shards(clips: int) -> int:
    """The power of two nearest to clips / 128, so that it changes only when a data set doubles."""
    return 2 ** max(0, round(math.log2(clips / CLIPS_A_SHARD)))


def digest(rows: list[Row], *columns: str) -> str:
    """Changes with the clips' ids and these columns, by default those of their identity; not with the rows' order."""
    lines = map(attrgetter("clip", *(columns or IDENTITY)), rows)
    told = repr(sorted(lines, key=itemgetter(0)))
    if not columns and (faces := sorted((row.clip, row.face) for row in rows if row.face)):
        told += repr(faces)  # of rows without one nothing changes
    return hashlib.sha256(told.encode()).hexdigest()[:16]
