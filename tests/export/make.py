"""A small finished run: stores as the stages write them, packed as video where they do, with indexes and a manifest."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from expportrait.engine.record import Outcome, write_index
from expportrait.manifest.clips import read_manifest, shards
from expportrait.store import StoreWriter, encode_normals, videocodec
from tests.generator.make import ball

FRAMES, SIZE = 20, 64  # more than a chunk, and not a whole number of them
STAGES = ("crop", "landmarks", "geometry", "proxy", "control", "latents")
KEPT = TemporaryDirectory(prefix="stores")
ROWS = (  # clip, person, split, licence, source URL, text
    ("a.one", "ann", "train", "CC-BY-4.0", "https://example.org/1", "Ann, who laughs"),
    ("b", "bob", "train", "CC0-1.0", "", ""),
    ("c", "cy", "val", "CC-BY-4.0", "https://example.org/3", ""),
)


def make_run(folder: Path, frames: int = FRAMES, rows: tuple = ROWS) -> Path:
    """Stores of ``rows`` in ``folder/results``; the manifest."""
    manifest = folder / "my.csv"
    lines = [
        f'{clip},d,{clip}.mp4,{person},{split},{licence},{url},"{text}"'
        for clip, person, split, licence, url, text in rows
    ]
    manifest.write_text("\n".join(["clip,dataset,source,person,split,licence,source_url,text", *lines]) + "\n")
    for number, (clip, *_) in enumerate(rows):
        make_stores(folder / "results", clip, number, frames)
    index(folder)
    return manifest


def index(folder: Path, shards_of: dict[str, int] | None = None) -> None:
    """Write the indexes of the stores that are there. ``shards_of``: how many a data set has."""
    members = shards(read_manifest(folder / "my.csv"), shards_of or {})
    for stage in STAGES:
        for shard, of in members.items():
            found = {row.clip: Outcome("ok", f"{stage} {row.clip}") for row in of
                     if (folder / "results" / stage / f"{row.clip}.zarr").exists()}  # fmt: skip
            write_index(folder / "results" / stage / f"{shard}.json", found)


def make_stores(results: Path, clip: str, number: int, frames: int) -> None:
    """Stores of a clip in all stages, copies of those that were made before."""
    kept = Path(KEPT.name) / f"{clip}-{number}-{frames}"
    if not kept.exists():
        _make_stores(kept, clip, number, frames)
    for stage in STAGES:
        shutil.rmtree(results / stage / f"{clip}.zarr", ignore_errors=True)
    shutil.copytree(kept, results, dirs_exist_ok=True)


def _make_stores(results: Path, clip: str, number: int, frames: int) -> None:
    pictures, normals, coverage = ball(frames, number, (40 + 60 * number, 120, 250 - 50 * number), SIZE)
    rng = np.random.default_rng(number)
    with _store(results, "crop", clip) as out:
        _packed(out, "frames", pictures, videocodec.COLOURS)
        out.array("timestamps", np.arange(frames) / 25)
        out.attrs(fps=25.0, face=100.0 + number, face_coverage=1.0, source_size=[640, 360], box=[0, 0, 64, 64])
    with _store(results, "landmarks", clip) as out:
        out.array("points", rng.random((frames, 478, 3), np.float32))
        out.array("confidence", rng.random((frames, 478), np.float32))
        out.array("interpolated", np.zeros(frames, bool))
        out.attrs(found=1.0, files={"face.task": "ab" * 32})
    with _store(results, "geometry", clip) as out:
        _packed(out, "normals", encode_normals(normals), videocodec.VECTORS)
        _packed(out, "mask", coverage, videocodec.TRUST)
        _packed(out, "confidence", coverage // 2, videocodec.TRUST)
        _packed(out, "depth", coverage.astype(np.float16) / 100, videocodec.DEPTH)
    with _store(results, "proxy", clip) as out:
        out.array("shape", rng.random(4, np.float32))
        out.array("expression", rng.random((frames, 4), np.float32))
        out.array("landmark_error", 0.01 + rng.random(frames, np.float32) / 100)
        out.array("loss", np.zeros((3, 2), np.float32))
        out.attrs(focal=200.0, head_sha256="cd" * 32)
    with _store(results, "control", clip) as out:
        _packed(out, "normals", encode_normals(normals), videocodec.VECTORS)
        out.array("coverage", coverage)
    with _store(results, "latents", clip) as out:
        starts = list(range(0, frames - 8, 4)) or [0]
        out.array("windows", rng.random((len(starts), 16, 3, 4, 4)).astype(np.float16))
        out.array("reference_latents", rng.random((1, 16, 1, 4, 4)).astype(np.float16))
        out.attrs(codec={"codec": "wan", "vae_sha256": "ef" * 32}, size=32, window=9, starts=starts, references=[0])


def _store(results: Path, stage: str, clip: str) -> StoreWriter:
    attrs = {"key": f"{stage} {clip}", "version": 1, "settings": {"crop": {"size": SIZE}}}
    return StoreWriter(results / stage / f"{clip}.zarr", attrs)


def _packed(out: StoreWriter, name: str, array: np.ndarray, qp: int) -> None:
    out.stream(name, len(array), array.shape[1:], array.dtype, qp).append(array)
