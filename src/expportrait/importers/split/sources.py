"""The videos that are to be cut: files, folders, or a table; each with a name of its own."""

import csv
import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from expportrait.errors import UserError
from expportrait.importers.common import clip_id, walk
from expportrait.manifest.clips import COLUMNS, NAME, SPLITS, default_shards
from expportrait.manifest.tables import opened
from expportrait.video.kinds import kind

TAKEN = ("dataset", "split", "rev")  # columns of the manifest that a table of videos may have; of the others, none
FIGURES = ("frames", "face_size", "coverage", "roll", "sharpness", "brightness", "likeness")  # columns that are added
CLIPS_A_SOURCE = 8  # as a guess, so that a shard of videos is some 16 of them


@dataclass(frozen=True)
class Source:
    """A video. ``name``: what its clips' names begin with. ``given``: what its line says beyond where it is."""

    name: str
    path: Path
    given: dict[str, str] = field(default_factory=dict)


def named(paths: list[Path]) -> list[Source]:
    """Videos and all videos below folders, in a fixed order, each once. Raises UserError where there is none."""
    files: dict[str, tuple[Path, str]] = {}
    for path in paths:
        if not path.is_dir():
            files.setdefault(os.path.realpath(path), (path, path.stem))
            continue
        for home, names in walk(path):
            for file in (home / name for name in names):
                if kind(file) == "video":
                    files.setdefault(os.path.realpath(file), (file, file.stem))
    if not files:
        raise UserError(f"{', '.join(map(str, paths))}: there is no video")
    return _distinct([(path, stem, {}) for path, stem in files.values()])


def listed(table: Path) -> list[Source]:
    """The videos of a table with the column ``source``, relative to its folder, and where wanted ``name``; the columns
    ``dataset``, ``split`` and ``rev`` are those of the manifest, all others are carried along to each clip."""
    found: list[tuple[Path, str, dict[str, str]]] = []
    with opened(table, "table of videos") as text:
        reader = csv.DictReader(text, strict=True, skipinitialspace=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        wrong = [name for name in header if name in (*COLUMNS, *FIGURES) and name not in ("source", *TAKEN)]
        if "source" not in header:
            raise UserError(f"{table}, line 1: there is no column source, {'only ' if header else 'nothing'}"
                            f"{', '.join(header)}; one line a video, its values separated by commas, is expected"
                            )  # fmt: skip
        if wrong or len({*header}) < len(header):
            raise UserError(f"{table}, line 1: the column {wrong[0]} is one that cutting fills in; call yours otherwise"
                            if wrong else f"{table}, line 1: a column stands there twice")  # fmt: skip
        reader.fieldnames = header
        for line in reader:
            if any(surplus := line.get(None, [])):
                raise UserError(f"{table}, line {reader.line_num}: {len(surplus)} more values than columns; quote a "
                                "value that has a comma")  # fmt: skip
            cells = {name: (value or "").strip() for name, value in line.items() if name}
            if not any(cells.values()):
                continue
            where, source = f"{table}, line {reader.line_num}", cells.pop("source")
            if not source:
                raise UserError(f"{where}, column source: empty; name a video")
            if cells.get("split", "") not in ("", *SPLITS):
                raise UserError(f"{where}, column split: {cells['split']!r} is none of {', '.join(SPLITS)}")
            if not NAME.fullmatch(cells.get("dataset") or "_"):
                raise UserError(f"{where}, column dataset: {cells['dataset']!r} is not a name")
            path = Path(os.path.normpath(table.parent / Path(source).expanduser()))
            found.append((path, cells.pop("name", "") or path.stem, cells))
    if not found:
        raise UserError(f"{table} has no videos: give it one line a video, with the column source")
    return _distinct(found)


def _distinct(found: list[tuple[Path, str, dict[str, str]]]) -> list[Source]:
    """With names that are ids: where several are equal, all of them end in a hash of the path."""
    count = Counter(clip_id(name)[:80] for _, name, _ in found)
    sources, seen = [], set()
    for path, name, given in found:
        own = clip_id(name)[:80]
        if count[own] > 1:
            own = f"{own[:70]}-{hashlib.sha1(os.fsencode(path)).hexdigest()[:8]}"
        if own in seen:
            raise UserError(f"{path} stands among the videos twice")
        seen.add(own)
        sources.append(Source(own, path, given))
    return sources


def shard_count(sources: list[Source], configured: int) -> int:
    """Among how many jobs the videos are shared out."""
    return configured or default_shards(CLIPS_A_SOURCE * len(sources))


def of_shard(sources: list[Source], shard: int, count: int) -> list[Source]:
    """Those whose names fall to that shard; a video that comes or goes moves no other one."""
    return [one for one in sources if int.from_bytes(hashlib.sha1(one.name.encode()).digest()) % count == shard]


def told(sources: list[Source]) -> list[str]:
    """What the records of these videos depend on, as far as their table says it."""
    return [f"{one.name} {one.path} {one.given.get('rev', '')}" for one in sources]
