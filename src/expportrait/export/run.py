"""An export, clip by clip: each one's files are made apart, put in their places, and then recorded.

A run that was killed goes on behind the last record; what the last clip had in its places by then is written again,
with the same bytes. What is recorded and no longer wanted is removed.
"""

import shutil
from itertools import groupby
from pathlib import Path
from typing import Any

from expportrait.engine.record import read_record, write_json
from expportrait.errors import UserError
from expportrait.export import facts
from expportrait.export.layout import HOME, Layout, Made, Sample, size
from expportrait.export.parts import Making
from expportrait.export.plan import Options, Plan
from expportrait.files import new_folder, replace_file, sha256
from expportrait.machine import writing
from expportrait.manifest.pairs import pair_name
from expportrait.progress import progress
from expportrait.store import Store

RECORDS, SUMS = f"{HOME}/clips", "SHA256SUMS"
WHOLE = {"clip", "key", "keys", "place", "files", "facts"}  # of a record


def open_export(out: Path, layout: Layout) -> None:
    """Raises UserError where ``out`` holds something else than an export of that layout."""
    about = read_record(out / HOME / "about.json")
    if about is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there and is no export; name a new folder by --out")
    if about is not None and about.get("layout") != layout.name:
        raise UserError(f"{out} is an export of the layout {about.get('layout')}; name another folder by --out")


def made_before(plan: Plan, layout: Layout, out: Path) -> dict[str, dict[str, Any]]:
    """Clip -> its record, of those whose files are there as their stores have them now, perhaps in another shard's
    place. No store is opened."""
    found = {}
    for sample in plan.samples:
        record = _record(out / RECORDS / f"{sample.clip}.json")
        fits = record and record["key"] == sample.key and (layout.loose or record["place"] == sample.place)
        if fits and layout.there(out, record):
            found[sample.clip] = record
    return found


def _record(file: Path) -> dict[str, Any] | None:
    """What is recorded of a clip; None where there is nothing, or not all of it."""
    record = read_record(file)
    return record if isinstance(record, dict) and record.keys() >= WHOLE else None


def make_all(
    plan: Plan, layout: Layout, results: Path, out: Path, options: Options, before: dict[str, dict[str, Any]]
) -> list[Made]:
    """All samples of the plan, those made that are not there ``before``. Raises StoreError where a store is damaged."""
    write_json(out / HOME / "about.json", {"layout": layout.name})
    made: list[Made] = []
    bar = iter(progress(plan.samples, len(plan.samples), "export"))
    for _, samples in groupby(plan.samples, key=lambda sample: sample.place):
        of = []
        for _ in samples:
            sample = next(bar)
            record = before.get(sample.clip) or _make(sample, layout, results, out, options)
            if record["place"] != sample.place:
                record = _moved(record, sample, layout, out)
            if record["keys"] != sample.keys:  # another store has other figures; the files are as they should be
                record = _recorded(out, sample, record["files"], stores_of(results, sample))
            of.append(Made(sample, record["files"], record["facts"]))
        layout.place_done(out, of)
        made += of
    next(bar, None)
    return made


def _make(sample: Sample, layout: Layout, results: Path, out: Path, options: Options) -> dict[str, Any]:
    stores = {stage: store.check() for stage, store in stores_of(results, sample).items()}
    crop = stores["crop"]
    times = crop["timestamps"].tolist() if "timestamps" in crop else ()
    with writing(out), new_folder(out / HOME / "making" / sample.clip) as folder:
        making = Making(stores, folder, float(crop.attrs.get("fps") or 25), times, options.crf)
        names = layout.make(sample, making)
        files = {name: _put(out, folder / name, layout.file(sample, name)) for name in names}
    shutil.rmtree(out / HOME / "making" / sample.clip, ignore_errors=True)
    old = _record(out / RECORDS / f"{sample.clip}.json")
    for stale in {of["file"] for of in (old["files"] if old else {}).values()} - {of["file"] for of in files.values()}:
        (out / stale).unlink(missing_ok=True)
    return _recorded(out, sample, files, stores)


def _moved(record: dict[str, Any], sample: Sample, layout: Layout, out: Path) -> dict[str, Any]:
    """A data set that grows to the double has other shards: the clip's files go into another one's folder."""
    files = {name: of | {"file": layout.file(sample, name)} for name, of in record["files"].items()}
    with writing(out):
        for name, of in files.items():
            old, new = out / record["files"][name]["file"], out / of["file"]
            new.parent.mkdir(parents=True, exist_ok=True)
            old.replace(new)
            _drop_empty(old.parent, out)
    record = record | {"place": sample.place, "files": files}
    write_json(out / RECORDS / f"{sample.clip}.json", record)
    return record


def _recorded(out: Path, sample: Sample, files: dict[str, Any], stores: dict[str, Store]) -> dict[str, Any]:
    file = out / RECORDS / f"{sample.clip}.json"
    record = {"clip": sample.clip, "key": sample.key, "keys": dict(sample.keys), "place": sample.place, "files": files}
    record["facts"] = facts.read(stores, out)
    write_json(file, record)
    # sorted in the file: as a later run reads it, so that both write the same tables
    return read_record(file) or record


def stores_of(results: Path, sample: Sample) -> dict[str, Store]:
    return {stage: Store(store_of(results, stage, sample)) for stage in sample.keys}


def store_of(results: Path, stage: str, sample: Sample) -> Path:
    name = pair_name(sample.clip, sample.clip) if stage == "appearance" else sample.clip
    return results / stage / f"{name}.zarr"


def _put(out: Path, made: Path, file: str) -> dict[str, Any]:
    place, about = out / file, {"file": file, "bytes": size(made), "sha256": sha256(made)}
    place.parent.mkdir(parents=True, exist_ok=True)
    made.replace(place)
    return about


def remove_unwanted(plan: Plan, out: Path) -> int:
    """Files and records of clips that the plan has not; how many clips."""
    wanted, count = {sample.clip for sample in plan.samples}, 0
    for file in sorted((out / RECORDS).glob("*.json")):
        if file.stem not in wanted:
            record = _record(file)
            for of in (record["files"] if record else {}).values():
                (out / of["file"]).unlink(missing_ok=True)
                _drop_empty((out / of["file"]).parent, out)
            file.unlink()
            count += 1
    return count


def _drop_empty(folder: Path, out: Path) -> None:
    while folder != out and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def write_sums(out: Path, sums: dict[str, str]) -> None:
    """SHA256SUMS, as ``sha256sum -c`` reads it, and nothing left of what an earlier one names and this does not. Empty
    sums are worked out."""
    old = (out / SUMS).read_text("utf-8").splitlines() if (out / SUMS).exists() else []
    for file in {line.partition("  ")[2] for line in old} - sums.keys():
        (out / file).unlink(missing_ok=True)
        _drop_empty((out / file).parent, out)
    lines = [f"{sum_ or sha256(out / file)}  {file}\n" for file, sum_ in sorted(sums.items())]
    with writing(out / SUMS):
        replace_file(out / SUMS, "".join(lines).encode())


def bytes_of(out: Path, sums: dict[str, str]) -> int:
    """Of all files that the export holds."""
    return sum(size(out / file) for file in sums)
