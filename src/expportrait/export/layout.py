"""What the layouts share: where a clip's files go, and the tables beside them."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expportrait.files import replace_file
from expportrait.machine import writing
from expportrait.manifest.clips import Row

if TYPE_CHECKING:
    from expportrait.export.parts import Making

HOME = ".export"  # folder of what the export itself remembers


@dataclass(frozen=True)
class Sample:
    """A clip to be handed over. ``place``: its split and shard. ``keys``: by stage, of the stores that it is made from,
    and that figures of it are from. ``parts``: names. ``key`` changes with whatever changes its media."""

    row: Row
    place: str
    keys: Mapping[str, str]
    parts: tuple[str, ...]
    key: str
    text: str

    @property
    def clip(self) -> str:
        return self.row.clip


@dataclass(frozen=True)
class Made:
    """A sample whose files are there. ``files``: by the name that the part gave (``frames.mp4``), path in the export,
    bytes and sha256. ``facts``: of the stores, as ``facts.read`` has them."""

    sample: Sample
    files: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any]

    def file(self, part: str) -> str | None:
        """Where a part is, whatever its ending; None where the clip has none."""
        return next((of["file"] for name, of in self.files.items() if name.partition(".")[0] == part), None)


class Layout:
    """A folder as a reader wants it. ``needs``: parts without which a clip is left out. ``parts``: those that are
    handed over where nothing is said; None for all. ``papers_inside``: what the manifest says of a clip is in its media
    files. ``loose``: each clip's files lie by themselves. ``about``: which description of the layout was followed."""

    name = ""
    needs: tuple[str, ...] = ("frames",)
    parts: tuple[str, ...] | None = None
    papers_inside = False
    choice = True  # of parts
    loose = True
    about = ""

    def file(self, sample: Sample, name: str) -> str:
        """Where the file that a part calls ``name`` goes, relative to the export."""
        raise NotImplementedError

    def make(self, sample: Sample, making: "Making") -> list[str]:
        """Write the sample's files into ``making.folder``; their names."""
        from expportrait.export.parts import PARTS, there

        wanted = (PARTS[name] for name in sample.parts)
        return [part.make(part, making) for part in wanted if there(part, making.stores)]

    def there(self, out: Path, record: Mapping[str, Any]) -> bool:
        """Whether the files of a clip's record are where it says, by their sizes."""
        return all(size(out / of["file"]) == of["bytes"] for of in record["files"].values())

    def place_done(self, out: Path, made: Sequence[Made]) -> None:
        """All samples of a split's shard are there."""

    def finish(self, out: Path, made: Sequence[Made]) -> dict[str, str]:
        """Write the tables; path -> sha256 (empty: to be found out) of what the export holds beside the files of the
        samples' records, or instead of them."""
        raise NotImplementedError

    def remarks(self, made: Sequence[Made]) -> list[str]:
        """Sentences on what may surprise whoever reads the export."""
        return []

    def split_lines(self) -> dict[str, Any]:
        """For the head of the data card: what a hub needs to find the samples."""
        return {}


def size(file: Path) -> int:
    """In bytes; -1 where it is not there."""
    try:
        return file.stat().st_size
    except OSError:
        return -1


def of_files(made: Sequence[Made]) -> dict[str, str]:
    """Path -> sha256 of the samples' own files."""
    return {of["file"]: of["sha256"] for one in made for of in one.files.values()}


def by_split(made: Iterable[Made]) -> dict[str, list[Made]]:
    found: dict[str, list[Made]] = {}
    for one in made:
        found.setdefault(one.sample.row.split, []).append(one)
    return found


def by_place(made: Iterable[Made]) -> dict[str, list[Made]]:
    """The same by split and shard."""
    found: dict[str, list[Made]] = {}
    for one in made:
        found.setdefault(one.sample.place, []).append(one)
    return found


def papers(made: Made) -> dict[str, Any]:
    """What is known of a clip: its row of the manifest, its figures, how it was made."""
    row, facts = made.sample.row, made.facts
    said = {"clip": row.clip, "dataset": row.dataset, "person": row.person, "split": row.split, "source": row.source}
    if row.start is not None:
        said["start"] = row.start
    if row.end is not None:
        said["end"] = row.end
    return said | {"text": made.sample.text, "columns": dict(row.extra), "keys": dict(made.sample.keys)} | dict(facts)


def write(out: Path, file: str, text: str) -> str:
    """A text file of the export, whole or not at all; returns its path."""
    with writing(out / file):
        replace_file(out / file, text.encode())
    return file


def as_json(data: Any) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore", restval="")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def columns_of(made: Sequence[Made]) -> list[str]:
    """The manifest's further columns, in its order."""
    return list(dict.fromkeys(name for one in made for name in one.sample.row.extra if name != "text"))
