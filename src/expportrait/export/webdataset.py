"""Layout ``webdataset``: a tar a shard, ``train/hdtf-0003.tar``, whose members ``KEY.frames.mp4``, ``KEY.control.mp4``,
``KEY.head.npz`` …, ``KEY.json`` are one sample each by what stands before the first dot.

The key is the clip's name, a dot in it being ``=``, which no name has. A clip's files are spooled until its shard is
whole, and taken from the old shard where they have not changed: a clip that comes or goes makes nothing else anew.
"""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from expportrait.engine.record import read_record, write_json
from expportrait.errors import MachineFault
from expportrait.export.layout import HOME, Layout, Made, as_json, by_place, papers, size
from expportrait.files import beside, sha256
from expportrait.machine import writing

if TYPE_CHECKING:
    from expportrait.export.layout import Sample

SPOOL, SHARDS = f"{HOME}/spool", f"{HOME}/shards"
BLOCK = 1 << 20


class WebDataset(Layout):
    name = "webdataset"
    loose = False
    about = (
        "WebDataset: POSIX tars, members of a sample one behind the other, named alike up to the first dot "
        "(`base_plus_ext` of webdataset's `tariterators`). Not tried with the "
        "webdataset package itself."
    )

    def __init__(self) -> None:
        self._shards: dict[str, Any] = {}  # as they were before this run

    def file(self, sample: "Sample", name: str) -> str:
        return f"{SPOOL}/{sample.clip}/{name}"

    def there(self, out: Path, record: Mapping[str, Any]) -> bool:
        if super().there(out, record):
            return True
        return self._before(out, record["place"]).get(record["clip"]) == record["key"]

    def _before(self, out: Path, place: str) -> dict[str, str]:
        """Clip -> key, of a shard that is whole."""
        if place not in self._shards:
            shard = read_record(out / _record(place))
            whole = shard and size(out / f"{place}.tar") == shard["bytes"]
            self._shards[place] = shard["clips"] if whole else {}
        return self._shards[place]

    def place_done(self, out: Path, made: Sequence[Made]) -> None:
        _shard(out, made[0].sample.place, made)
        for one in made:
            shutil.rmtree(out / SPOOL / one.sample.clip, ignore_errors=True)

    def finish(self, out: Path, made: Sequence[Made]) -> dict[str, str]:
        places = by_place(made)
        for file in (out / SHARDS).rglob("*.json"):
            place = file.relative_to(out / SHARDS).with_suffix("").as_posix()
            if place not in places:
                (out / f"{place}.tar").unlink(missing_ok=True)
                file.unlink()
        sums = {f"{place}.tar": _shard(out, place, of) for place, of in places.items()}
        shutil.rmtree(out / SPOOL, ignore_errors=True)
        return sums

    def split_lines(self) -> dict[str, Any]:
        return {"ending": "*.tar"}


def key(clip: str) -> str:
    """What the clip's members begin with."""
    return clip.replace(".", "=")


def _record(place: str) -> str:
    return f"{SHARDS}/{place}.json"


def _members(made: Made) -> list[tuple[str, str, int, bytes | None]]:
    """Name, sha256, bytes, and the content where it is not a file."""
    files = [(f"{key(made.sample.clip)}.{name}", of["sha256"], of["bytes"], None) for name, of in made.files.items()]
    text = as_json(papers(made)).encode()
    return [*files, (f"{key(made.sample.clip)}.json", hashlib.sha256(text).hexdigest(), len(text), text)]


def _shard(out: Path, place: str, made: Sequence[Made]) -> str:
    """Write the shard where it is not there as it should be; its sha256."""
    tar, file = out / f"{place}.tar", out / _record(place)
    members = {one.sample.clip: _members(one) for one in made}
    listed = json.dumps([[name, sum_, bytes_] for of in members.values() for name, sum_, bytes_, _ in of])
    digest = hashlib.sha256(listed.encode()).hexdigest()
    shard = read_record(file)
    if shard and shard["digest"] == digest and shard["bytes"] == size(tar):
        return shard["sha256"]
    temporary = beside(tar)
    try:
        with writing(tar):
            tar.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as written, _Old(tar) as old:
                _fill(out, written, old, made, members)
            about = {"digest": digest, "bytes": size(temporary), "sha256": sha256(temporary)}
            temporary.replace(tar)
    finally:
        temporary.unlink(missing_ok=True)
    write_json(file, about | {"clips": {one.sample.clip: one.sample.key for one in made}})
    return about["sha256"]


class _Old:
    """The members of a shard that is to be replaced; none where there is none that can be read."""

    def __init__(self, tar: Path):
        self._path = tar

    def __enter__(self) -> "_Old":
        self._tar, self._members = None, {}
        with suppress(OSError, tarfile.TarError):
            self._tar = tarfile.open(self._path)
            self._members = {member.name: member for member in self._tar}
        return self

    def open(self, name: str) -> BinaryIO | None:
        return self._tar.extractfile(self._members[name]) if name in self._members else None

    def __exit__(self, *_: object) -> None:
        if self._tar:
            self._tar.close()


def _fill(out: Path, written: BinaryIO, old: _Old, made: Sequence[Made], members: dict) -> None:
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for one in made:
            for (name, sum_, bytes_, text), of in zip(members[one.sample.clip], [*one.files.values(), {}], strict=True):
                header = tarfile.TarInfo(name)  # of no time and of nobody: equal samples are equal bytes
                header.size = bytes_
                spooled = out / of["file"] if of else None
                source = (
                    io.BytesIO(text) if text is not None else spooled.open("rb") if spooled.exists() else old.open(name)
                )
                if source is None:
                    raise _lost(out, one, name)
                with source:
                    checked = _Checked(source)
                    tar.addfile(header, checked)
                if checked.sum() != sum_:
                    raise _lost(out, one, name)


class _Checked:
    """A file that is read once, and its sha256."""

    def __init__(self, file: BinaryIO):
        self._file, self._sum = file, hashlib.sha256()

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self._sum.update(data)
        return data

    def sum(self) -> str:
        return self._sum.hexdigest()


def _lost(out: Path, made: Made, name: str) -> MachineFault:
    """Forget clip and shard, so that the next run makes them anew."""
    (out / HOME / "clips" / f"{made.sample.clip}.json").unlink(missing_ok=True)
    (out / _record(made.sample.place)).unlink(missing_ok=True)
    told = f"{out}: {name} of the shard {made.sample.place} has changed since it was made"
    return MachineFault(f"{told}; run the export again: it makes the shard anew")
