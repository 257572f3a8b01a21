"""What it costs that a data set grows by 1,000 clips and then loses a tenth, with stages of no weight.

``python benchmarks/grow.py [--clips 36000] [--work FOLDER]``: a finished run of so many clips is made, whose arrays are
links to one clip's, each store having a ``zarr.json`` of its own; then 1,000 rows are added, and after that every tenth
row is removed. Each time: the plan by Snakemake; the loop of every stage over every shard; the report; an export. Told
are CPU seconds, what was computed, and which files of the stores of clips that were there before were read.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.scale import NO_FILES, checkout, fabricate, measure, write_manifest

from expportrait.engine.loop import run
from expportrait.engine.record import write_index, write_json
from expportrait.engine.stage import Clip, Stage
from expportrait.export.command import export
from expportrait.export.folder import Folder
from expportrait.export.layout import HOME
from expportrait.export.plan import Options, make_plan
from expportrait.export.run import RECORDS
from expportrait.manifest.clips import SPLITS, Row, read_manifest, shards
from expportrait.settings.config import Config
from expportrait.settings.files import read_config
from expportrait.stages import PER_CLIP, made, report, with_code
from expportrait.status.survey import survey
from expportrait.store import StoreWriter
from expportrait.store.read import META

ADDED, EVERY = 1000, 10  # rows that come; of how many one goes
FRAMES = np.zeros((5, 64, 64, 3), np.uint8)
EXPORTED = Options(splits=SPLITS, parts=("frames",))


def process(clip: Clip, out: StoreWriter) -> None:
    """The store of a stage of no weight."""
    for parent in clip.parents.values():
        assert parent["x"].sum() == 3
    out.array("x", np.ones(3))
    if clip.work.title.startswith("crop "):
        out.array("frames", FRAMES)
        out.attrs(fps=25.0)


def light(name: str) -> Stage:
    return replace(with_code(name), process=process, load=None, needless=None)


@dataclass
class Reads:
    """Files of stores that are opened, by stage and kind, of the clips that were there."""

    results: Path
    clips: frozenset[str] = frozenset()
    on: bool = False

    def __post_init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if not self.on or event != "open" or ".zarr/" not in str(arguments[0]):
            return
        parts = Path(str(arguments[0])).parts
        place = next(i for i, part in enumerate(parts) if part.endswith(".zarr"))
        if parts[place].removesuffix(".zarr") in self.clips:
            self.counts[parts[place - 1], META if parts[place + 1 :] == (META,) else "arrays"] += 1

    def told(self, clips: int) -> str:
        whole: Counter[str] = Counter()
        for (_, kind), count in self.counts.items():
            whole[kind] += count
        return f"{whole[META] / clips:.2f} zarr.json a clip, {whole['arrays']} files of arrays"


@contextmanager
def watched(what: str, reads: Reads, clips: int) -> Iterator[None]:
    """Print what the block took and read."""
    reads.counts.clear()
    reads.on, clock = True, time.process_time()
    try:
        yield
    finally:
        reads.on = False
    print(f"{what:42} {time.process_time() - clock:6.1f} CPU s  {reads.told(clips)}", flush=True)


def recorded(folder: Path) -> None:
    """Snakemake's records of all jobs, as if it had run them."""
    measure("(Snakemake takes the files for its own)", folder, "snakemake", "--touch", "--forceall", "--cores", "1",
            "--config", "manifest=big.csv", "results=big")  # fmt: skip


def configured(folder: Path) -> Config:
    places = {"manifest": str(folder / "big.csv"), "results": str(folder / "big"), "report": {"max_clips": 0}}
    return read_config(("benchmark", NO_FILES | places))


def finished(folder: Path, out: Path) -> None:
    """The run and the export of all rows of the manifest, as links of the first clip's."""
    config = configured(folder)
    seen, first = survey(config), read_manifest(config.manifest)[0]
    fabricate(seen)
    stages = made(PER_CLIP, config)
    for name in stages:
        index = run(light(name), [first], config)
        assert index[first.clip].status == "ok", index
        template = config.results / name / f"{first.clip}.zarr"
        about = json.loads((template / META).read_text())
        arrays = [part.name for part in template.iterdir() if part.is_dir()]
        for row in seen.rows[1:]:
            home = template.with_name(f"{row.clip}.zarr")
            home.mkdir()
            for array in arrays:
                os.symlink(template / array, home / array)
            about["attributes"] |= {"key": seen.cells[name][row.clip].key, "clip": row.clip}
            (home / META).write_text(json.dumps(about))
    rows, layout = read_manifest(config.manifest), Folder()
    (folder / "one.csv").write_text("".join((folder / "big.csv").read_text().splitlines(keepends=True)[:2]))
    one = out.with_name("one")
    export(config.model_copy(update={"manifest": folder / "one.csv"}), layout, one, EXPORTED)
    record = json.loads((one / RECORDS / f"{first.clip}.json").read_text())
    film = one / record["files"]["frames.mp4"]["file"]
    shutil.copytree(one / HOME, out / HOME)
    for sample in make_plan(rows, config, layout, EXPORTED).samples:
        file = layout.file(sample, "frames.mp4")
        (out / file).parent.mkdir(parents=True)
        os.link(film, out / file)
        own = {"clip": sample.clip, "key": sample.key, "keys": dict(sample.keys), "place": sample.place}
        of = record["files"]["frames.mp4"] | {"file": file}
        write_json(out / RECORDS / f"{sample.clip}.json", record | own | {"files": {"frames.mp4": of}})


def update(what: str, folder: Path, out: Path, reads: Reads, before: list[Row]) -> None:
    """Plan and bring all up to date."""
    config = configured(folder)
    rows = read_manifest(config.manifest)
    kept = {row.clip for row in before} & {row.clip for row in rows}
    reads.clips, old = frozenset(row.clip for row in before), shards(before, config.shards)
    print(f"\n{what}: {len(rows):,} clips, {len(kept):,} of them there")
    measure("plan", folder, "snakemake", "-n", "--config", "manifest=big.csv", "results=big")
    cut = shards(rows, config.shards)
    changed = {shard: members for shard, members in cut.items() if members != old.get(shard)}
    for name in made(PER_CLIP, config):
        computed, stage = 0, light(name)
        with watched(f"{name}, {len(changed)} of {len(cut)} shards", reads, len(kept)):
            for shard, members in changed.items():
                there = {row.clip: (config.results / name / f"{row.clip}.zarr" / META).exists() for row in members}
                index = run(stage, members, config)
                assert all(outcome.status == "ok" for outcome in index.values()), index
                write_index(config.results / name / f"{shard}.json", index)
                computed += len(members) - sum(there.values())
        assert computed == len(rows) - len(kept), computed
    with watched("report", reads, len(kept)):
        report.run(rows, config.results, config, cut, {})
    with watched("export folder", reads, len(kept)):
        told = export(config, Folder(), out, EXPORTED)
    print("  " + next(line for line in told if line.startswith("made")))


def main(
    clips: int = 36_000, work: Annotated[Path | None, typer.Option(help="empty, kept; else a temporary one")] = None
) -> None:
    os.environ["EXPPORTRAIT_PROGRESS"] = "0"
    with tempfile.TemporaryDirectory() as name:
        folder = (work or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        out = folder / "handed_over"
        checkout(folder)
        reads = Reads(folder / "big")
        write_manifest(folder, range(clips))
        clock = time.monotonic()
        finished(folder, out)
        print(f"{clips:,} clips made in {time.monotonic() - clock:.0f} s")
        rows = read_manifest(folder / "big.csv")
        update("nothing changed", folder, out, reads, rows)
        recorded(folder)
        write_manifest(folder, range(clips + ADDED))
        update(f"{ADDED:,} rows added", folder, out, reads, rows)
        recorded(folder)
        rows = read_manifest(folder / "big.csv")
        write_manifest(folder, [i for i in range(clips + ADDED) if i % EVERY])
        update("a tenth removed", folder, out, reads, rows)


if __name__ == "__main__":
    typer.run(main)
