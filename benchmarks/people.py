"""Who is who in films of one person each, cut in two, and in the demo's: cosines, what it costs, and the picture.

``python benchmarks/people.py FOLDER [--picture people.jpg]``: FOLDER has the films that real_films.py names. The
picture shows only what may be shown: public-domain portraits, and films under CC BY 4.0.
"""

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import real_films as films
from expportrait.manifest.clips import read_manifest
from expportrait.people.compare import alike
from expportrait.people.faces import LOOKS, Reader, read_shard

NAMES = 36_000
FREE = ("small_face_640x480.mkv", "hand_over_face_640x480.mkv", "low_resolution_480x270.gif")
ONE_PLACE = {FREE[2]: (157, 1, 337, 181), FREE[0]: (250, 84, 379, 213)}  # where the faces are alike in place and size
COLUMNS = ("clip", "dataset", "source", "start", "end", "person", "split")


def halves(names: tuple[str, ...]) -> list[tuple]:
    """Rows of a manifest: each film from its start to its middle, and from there on."""
    rows = []
    for name in names:
        times = [time for time, _ in films.open_source(films.CLIPS / name).frames(64)]
        middle, stem = f"{times[len(times) // 2] - times[0]:.3f}", name.split("_")[0]
        rows.append((f"{stem}-a", "films", films.CLIPS / name, "", middle, "", "train"))
        rows.append((f"{stem}-b", "films", films.CLIPS / name, middle, "", "", "test"))
    return rows


def command(folder: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "expportrait", *words, "--manifest", "m.csv"], cwd=folder, text=True,
                          stdout=subprocess.PIPE, check=True)  # fmt: skip
    return done.stdout


def prepare(folder: Path, rows: list[tuple]) -> None:
    """The manifest, and its crops."""
    with (folder / "m.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    (folder / "m.yaml").write_text("crop: {min_face: 40, cut: 255}\n")
    command(folder, "crop")


def figures(folder: Path) -> None:
    """Cosines between halves and between people, CPU time a clip, and that of comparing many names."""
    prepare(folder, halves(films.ONE_PERSON))
    rows, reader = read_manifest(folder / "m.csv"), Reader()
    started = time.process_time()
    shard, count, _ = read_shard(folder / "x.npz", rows, folder / "results" / "crop", reader)
    print(f"CPU seconds a clip, {LOOKS} frames each: {(time.process_time() - started) / count:.2f}")
    single = shard.rows.astype(np.float32)
    means = np.nanmean(single, axis=1)
    cosines, film = means @ means.T, np.arange(len(means)) // 2
    between = cosines[film[:, None] != film]
    print("halves of one film:", " ".join(f"{cosines[i, i + 1]:.2f}" for i in range(0, len(means), 2)))
    print(f"two people: mean {between.mean():.2f}, most {between.max():.2f}")
    flat, who = single.reshape(-1, single.shape[-1]), np.repeat(film, LOOKS)
    one, same = flat @ flat.T, who[:, None] == who
    print(
        f"single frames: one person {np.nanmin(one[same]):.2f} or more, two people {np.nanmax(one[~same]):.2f} or less"
    )
    print(command(folder, "people"))
    rng = np.random.default_rng(0)
    many = np.repeat(rng.normal(size=(NAMES // 3, 128)).astype(np.float32), 3, 0)
    many += np.float32(0.5) * rng.normal(size=many.shape).astype(np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    started = time.process_time()
    found = alike(many, np.arange(NAMES), 0.5)
    print(f"{NAMES:,} names of {len(set(found.group.tolist())):,}: {time.process_time() - started:.0f} CPU seconds")


def picture(folder: Path, file: Path) -> None:
    """The sheet of a manifest with all kinds of mistakes, of films that may be shown."""
    rows = halves(FREE[:2])
    demo = folder / "demo"
    demo.mkdir()
    for name in ("astronaut-smile", "astronaut-turn", "hopper-talk"):
        (folder / "d.csv").write_text(f"clip,dataset,source\n{name},demo,demo/{name}.mp4\n")
        subprocess.run([sys.executable, "-m", "expportrait", "demo", "--manifest", "d.csv"], cwd=folder, check=True)
    rows += [("eileen-1", "demo", demo / "astronaut-smile.mp4", "", "", "eileen", "train"),
             ("grace-1", "demo", demo / "hopper-talk.mp4", "", "", "grace", "train"),
             ("grace-2", "demo", demo / "hopper-talk.mp4", "1", "", "grace", "train"),
             ("grace-3", "demo", demo / "astronaut-turn.mp4", "", "", "grace", "train")]  # fmt: skip
    mixed = [cv2.resize(frame[y0:y1, x0:x1], (480, 480), interpolation=cv2.INTER_CUBIC)
             for name, (x0, y0, x1, y1) in ONE_PLACE.items() for frame in films.film(name, 3)]  # fmt: skip
    (folder / "mixed").mkdir()
    for t, frame in enumerate(mixed):
        cv2.imwrite(str(folder / "mixed" / f"{t:03}.png"), frame[..., ::-1])
    rows.append(("mixed", "films", folder / "mixed", "", "", "", "train"))
    prepare(folder, rows)
    print(command(folder, "people"))
    file.write_bytes((folder / "results" / "people" / "people.jpg").read_bytes())


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the films.")],
    to: Annotated[Path | None, typer.Option("--picture", help="Write the picture of docs/people.md.")] = None,
) -> None:
    films.CLIPS = folder.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        figures(Path(scratch))
    if to:
        with tempfile.TemporaryDirectory() as scratch:
            picture(Path(scratch), to)


if __name__ == "__main__":
    typer.run(main)
