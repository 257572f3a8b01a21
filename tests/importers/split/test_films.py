"""Films by a seed: what `import split` makes of them, by what is known of each of their frames."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from expportrait.demo.motion import FPS
from expportrait.engine.stage import Clip
from expportrait.manifest.clips import read_manifest
from expportrait.settings.config import Config
from expportrait.stages import crop

from . import films, truth

SHORTEST = 2.0  # s: split.min_seconds
REAL = tuple(name for name, file in films.REAL.items() if (films.CLIPS / file).exists())


def run(*arguments, **options):
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "expportrait", "import", "split", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def cut(folder, *videos, **options):
    """Rows, and what was left out."""
    out = folder / "my.csv"
    done = run(*videos, "--out", out, "--jobs", 1, cwd=folder, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    with out.with_name("my.left_out.csv").open(newline="") as text:
        return read_manifest(out), [*csv.DictReader(text)]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    film, folder = films.film(1, short=True), tmp_path_factory.mktemp("short")
    return film, *cut(folder, film.write(folder / "film.mp4"))


def judge(film, rows):
    found = truth.score(film, rows, SHORTEST)
    assert max(found.strays.values()) <= 1, "cuts are found to a frame"
    assert all(len(people) == 1 for people in found.people.values()), found.people
    assert found.kept >= 0.95, found.lost
    names = {row.clip: row.person for row in rows}
    pairs = {(*people, names[clip]) for clip, people in found.people.items()}
    true, told = ({pair[n] for pair in pairs} for n in (0, 1))
    assert len(pairs) == len(true) == len(told), f"a name a person, and a person a name: {sorted(pairs)}"


def accounted(film, rows, left):
    """Each frame is in a clip, or left out with a reason."""
    seen = np.zeros(len(film.frames), bool)
    for row in rows:
        seen[truth.frames_of(row).start : truth.frames_of(row).stop] = True
    for line in left:
        assert line["reason"]
        seen[round(float(line["start"]) * FPS) : round(float(line["end"]) * FPS)] = True
    assert seen.all(), np.flatnonzero(~seen)


@pytest.mark.slow
def test_a_film_is_cut_into_clips_of_one_person(short):
    film, rows, left = short
    judge(film, rows)
    accounted(film, rows, left)
    reasons = {line["reason"] for line in left}
    assert {"no face", "a dissolve or fade"} <= reasons
    for row in rows:
        assert row.end - row.start >= SHORTEST and float(row.extra["face_size"]) >= Config().split.min_face


@pytest.mark.slow
def test_crop_takes_the_person_that_a_row_names(short):
    film, rows, _ = short
    starts = [row.start for row in rows]
    two = [row for row in rows if starts.count(row.start) == 2]
    assert len(two) == 2 and two[0].person != two[1].person
    tools, boxes = crop.load(None, "cpu"), []
    for row in two:
        row = row._replace(end=row.start + 1)
        out = Kept()
        settings = Config()
        crop.process(Clip(row, {}, settings, tools, "cpu"), out)
        boxes.append(out.said["box"])
        (who,) = truth.follow(film, row)
        face = next(one.box for one in film.shown[truth.frames_of(row)[0]] if one.person == who)
        middle = (face[:2] + face[2:]) / 2
        box = np.array(out.said["box"])
        assert (np.abs((box[:2] + box[2:]) / 2 - middle) < 0.3 * (face[3] - face[1])).all()
    assert abs(boxes[0][0] - boxes[1][0]) > 300


class Kept:
    """A store that only remembers what was said of the clip."""

    def stream(self, *_, **__):
        return self

    def append(self, frames): ...

    def array(self, *_, **__): ...

    def attrs(self, **said):
        self.said = said


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_films_of_all_that_there_is(tmp_path, seed):
    film = films.film(seed, (*films.PEOPLE, *REAL))
    rows, left = cut(tmp_path, film.write(tmp_path / f"film{seed}.mp4"))
    judge(film, rows)
    accounted(film, rows, left)


def little(folder, count=5):
    """Videos of some seconds, each a little different."""
    made = []
    for n in range(count):
        frames = [films.make.scene(270, 480, (120 + 4 * n + 0.3 * t, 0, 0.9), seed=n) for t in range(70 + 5 * n)]
        made.append(films.make.video(folder / f"v{n}.mp4", frames, FPS))
    return made


SMALL = ("--min-face", 60)


@pytest.mark.slow
def test_a_broken_source_stops_no_other_and_nothing_is_done_twice(tmp_path):
    videos = little(tmp_path, 2)
    videos.append(shutil.copy(videos[0], tmp_path / "ünï 名, 2.mp4"))
    videos.append(films.make.video(tmp_path / "one frame.mp4", [films.make.scene(270, 480, (120, 0, 0.9))], FPS))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(videos[0].read_bytes()[:900])
    out = tmp_path / "my.csv"
    missing = tmp_path / "missing.mp4"
    done = run(*videos, broken, missing, "--out", out, *SMALL, "--jobs", 1, cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("split: ") and "gone" not in line]
    assert len(told) == 2 and any("broken.mp4 cannot be read" in line for line in told)
    assert any("missing.mp4 cannot be read: No such file" in line for line in told)
    with (tmp_path / "my.left_out.csv").open(newline="") as text:
        left = {line["what"].partition("-")[0]: line["reason"] for line in csv.DictReader(text)}
    assert left == {"broken": "the source cannot be used", "missing": "the source cannot be used",
                    "one_frame": "the face is there too briefly"}  # fmt: skip
    assert {row.path.name for row in read_manifest(out)} == {"v0.mp4", "v1.mp4", "ünï 名, 2.mp4"}
    before = out.read_bytes()
    records = {file: file.stat().st_mtime_ns for file in (tmp_path / "my.split").iterdir()}
    again = run(*videos, broken, missing, "--out", out, *SMALL, "--jobs", 1, "--force", cwd=tmp_path)
    assert again.returncode == 0 and out.read_bytes() == before
    assert records == {file: file.stat().st_mtime_ns for file in (tmp_path / "my.split").iterdir()}
    refused = run(*videos, "--out", out, cwd=tmp_path)
    assert refused.returncode == 1 and refused.stderr.startswith("expportrait: ") and "--force" in refused.stderr


@pytest.mark.long
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path):
    videos = little(tmp_path)
    whole = tmp_path / "whole.csv"
    assert run(*videos, "--out", whole, *SMALL, "--jobs", 2, cwd=tmp_path).returncode == 0
    out, home, dice = tmp_path / "my.csv", tmp_path / "my.split", np.random.default_rng(5)
    command = [sys.executable, "-m", "expportrait", "import", "split", *map(str, (*videos, "--out", out, *SMALL))]
    kept: dict[str, tuple[int, int]] = {}
    for count in range(1, 4):
        started = subprocess.Popen([*command, "--jobs", "1"], cwd=tmp_path, stderr=subprocess.DEVNULL)
        while started.poll() is None and len([*home.glob("v*.json")]) < count:
            os.sched_yield()
        try:
            started.wait(float(dice.uniform(0, 0.6)))
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        now = {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in home.glob("v*.json")}
        assert kept.items() <= now.items(), "what is finished is not done again"
        kept = now
    assert run(*videos, "--out", out, *SMALL, "--jobs", 2, "--force", cwd=tmp_path).returncode == 0
    assert {*home.glob("v*.json")} == {home / f"v{n}.json" for n in range(len(videos))}
    assert out.read_bytes() == whole.read_bytes()
    for left in ("my.left_out.csv", "whole.left_out.csv"):
        assert Path(tmp_path / left).exists()
    assert (tmp_path / "my.left_out.csv").read_bytes() == (tmp_path / "whole.left_out.csv").read_bytes()
