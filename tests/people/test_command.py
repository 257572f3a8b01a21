"""The command on made-up crops of the public-domain portraits, and on films of real people cut in two."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner

from benchmarks import real_films as films
from expportrait.cli import app
from expportrait.demo.portrait import SOURCES
from expportrait.engine.loop import run
from expportrait.manifest.clips import read_manifest
from expportrait.people.faces import Reader
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.store import StoreWriter
from expportrait.video.reader import open_source

from ..video import make

SIZE, FRAMES = 256, 12
FACES = {"collins": (astronaut()[:300, 76:376], (112, 50, 186, 160)), "hopper": (SOURCES["hopper"].read(), None)}


def picture(who, seed=0):
    """(256,256,3) u8 of a person, each a little different, and the face's box in it."""
    if who is None:
        return make.wall(SIZE, SIZE).copy(), (90, 90, 170, 170)
    frame, box = FACES[who]
    if box is None:
        frame, box = frame[60:400, 90:430], (110, 60, 250, 250)
    scale = SIZE / len(frame)
    frame = cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(seed).normal(0, 4, frame.shape)
    return (frame + noise).clip(0, 255).astype(np.uint8), tuple(scale * v for v in box)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Makes crops and a manifest of clips (name, person, split, who is seen in its frames, by runs), and runs the
    command there: what it says, and the lines of its table by their finding."""
    monkeypatch.chdir(tmp_path)

    def project(*clips, options=(), keep=False):
        lines = ["clip,dataset,source,person,split"]
        for number, (clip, person, split, *seen) in enumerate(clips):
            lines.append(f"{clip},d,{clip}.mp4,{person},{split}")
            if keep or not seen:
                continue
            frames = [picture(seen[t * len(seen) // FRAMES], 100 * number + t) for t in range(FRAMES)]
            with StoreWriter(tmp_path / "results" / "crop" / f"{clip}.zarr", {"key": f"{clip} {seen}"}) as out:
                out.array("frames", np.stack([frame for frame, _ in frames]))
                out.array("track", np.array([[t, *box] for t, (_, box) in enumerate(frames)]))
        (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
        done = CliRunner().invoke(app, ["people", "--manifest", "m.csv", *options])
        if done.exit_code:
            return str(done.exception), {}
        return done.output, table(tmp_path / "results")

    return project


def table(results):
    found = {}
    if (results / "people" / "people.csv").exists():
        with (results / "people" / "people.csv").open(encoding="utf-8", newline="") as text:
            for line in csv.DictReader(text):
                found.setdefault(line["finding"], []).append(line)
    return found


def test_one_person_under_two_names_leaks_and_is_shown(project, tmp_path):
    said, found = project(
        ("a1", "ann", "train", "collins"), ("a2", "ann", "train", "collins"), ("h", "", "train", "hopper"),
        ("x", "", "test", "collins"),
    )  # fmt: skip
    assert [*found] == ["same"] and [line["person"] for line in found["same"]] == ["ann", "x"]
    ann, x = found["same"]
    assert ann["clips"] == "2" and ann["clip"] in ("a1", "a2") and ann["like"] == "x" and x["like"] == "ann"
    assert float(x["cosine"]) > 0.6 and x["leak"] == "train test" and (ann["split"], x["split"]) == ("train", "test")
    assert "one person under several names: 1 (ann = x)" in said and "which leaks: 1 (ann = x)" in said
    with Image.open(tmp_path / "results" / "people" / "people.jpg") as sheet:
        faces = np.asarray(sheet.convert("RGB"), float)[36:148, 10:]
    first, second, third = (faces[:, 122 * n : 122 * n + 112] for n in range(3))
    assert np.abs(first - second).mean() < 15 and first.std() > 30 and third.std() < 3


def test_two_people_under_one_name_and_a_stranger_who_has_a_name(project):
    said, found = project(
        ("a1", "ann", "train", "collins"), ("a2", "ann", "train", "collins"), ("a3", "ann", "train", "hopper"),
        ("h", "grace", "val", "hopper"),
    )  # fmt: skip
    (wrong,) = found["different"]
    assert (wrong["person"], wrong["clip"]) == ("ann", "a3") and float(wrong["cosine"]) < 0.3
    assert {(line["person"], line["clip"]) for line in found["same"]} == {("ann", "a3"), ("grace", "h")}
    assert "not the person that they are named for: 1 (a3)" in said and "ann = grace" in said


def test_a_clip_that_changes_its_face_and_one_without(project):
    said, found = project(("mixed", "", "train", *["collins"] * 2, "hopper"), ("wall", "", "train", None))
    (mixed,) = found["within"]
    assert mixed["clip"] == "mixed" and mixed["frames"] == "9 11" and float(mixed["cosine"]) < 0.3
    assert [line["clip"] for line in found["unseen"]] == ["wall"] and "same" not in found
    assert "another face in some frames: 1 (mixed)" in said and "without a face that is recognised: 1 (wall)" in said


def test_what_was_looked_at_is_not_looked_at_again(project, tmp_path, monkeypatch):
    clips = [("a", "", "train", "collins"), ("h", "", "train", "hopper"), ("later", "", "train")]
    said, _ = project(*clips, options=("--shard", "d-0000"))
    assert said == "2 of 3 clips have a crop, 2 of them looked at now\n"
    assert not (tmp_path / "results" / "people" / "people.csv").exists()
    looks = []
    monkeypatch.setattr(Reader, "look", lambda reader, crop, look=Reader.look: looks.append(1) or look(reader, crop))
    said, found = project(*clips, keep=True)
    assert said.startswith("2 of 3 clips have a crop, 0 of them") and not looks and not found
    shutil.rmtree(tmp_path / "results" / "crop" / "h.zarr")
    said, found = project(("a", "", "train"), ("h", "", "test", "collins"))  # a crop made anew
    assert len(looks) == 1 and {line["person"] for line in found["same"]} == {"a", "h"}
    (tmp_path / "results" / "people" / "d-0000.npz").write_bytes(b"PK broken")
    assert project(*clips, keep=True)[0].startswith("2 of 3 clips have a crop, 2 of them looked at now")


def test_thresholds_and_mistakes(project, tmp_path):
    clips = ("a", "", "train", "collins"), ("x", "", "train", "collins")
    assert "same" not in project(*clips, options=("--same", "0.9999"))[1]
    assert "--same 0.1 is below --different 0.3" in project(*clips, options=("--same", "0.1"), keep=True)[0]
    shutil.rmtree(tmp_path / "results" / "crop")
    assert "has no crop of the 2 clips of m.csv" in project(*clips, keep=True)[0]


def test_a_damaged_crop_is_named_and_left_out(project, tmp_path):
    clips = ("a", "", "train", "collins"), ("x", "", "train", "collins"), ("h", "", "train", "hopper")
    project(*clips)
    shutil.rmtree(tmp_path / "results" / "people")
    for lost in (tmp_path / "results" / "crop" / "x.zarr" / "frames" / "c").rglob("*"):
        if lost.is_file():
            lost.unlink()
    said, found = project(*clips, keep=True)
    assert "2 of 3 clips have a crop" in said and "x.zarr is damaged" in said and "same" not in found


@pytest.mark.slow
@pytest.mark.skipif(not films.CLIPS.is_dir(), reason="there are no films beside the project")
def test_films_of_one_person_cut_in_two(tmp_path, monkeypatch):
    """All pairs, and no others."""
    monkeypatch.chdir(tmp_path)
    lines = ["clip,dataset,source,start,end,split"]
    for name in films.ONE_PERSON:
        times = [time for time, _ in open_source(films.CLIPS / name).frames(64)]
        middle = times[len(times) // 2] - times[0]
        lines += [f"{Path(name).stem}-a,real,{films.CLIPS / name},,{middle:.3f},train",
                  f"{Path(name).stem}-b,real,{films.CLIPS / name},{middle:.3f},,test"]  # fmt: skip
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    config = Config(results=tmp_path / "results", crop={"size": 256, "min_face": 60})
    index = run(with_code("crop"), read_manifest(tmp_path / "m.csv"), config)
    assert {outcome.status for outcome in index.values()} == {"ok"}
    done = CliRunner().invoke(app, ["people", "--manifest", "m.csv"])
    assert done.exit_code == 0, done.output
    found = table(tmp_path / "results")
    assert [*found] == ["same"]
    names = {}
    for line in found["same"]:
        names.setdefault(line["group"], set()).add(line["person"])
        assert line["leak"] == "train test" and float(line["cosine"]) > 0.6
    stems = [Path(name).stem for name in films.ONE_PERSON]
    assert sorted(map(sorted, names.values())) == sorted([f"{stem}-a", f"{stem}-b"] for stem in stems)
