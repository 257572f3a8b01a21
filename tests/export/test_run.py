"""Resuming, growing and shrinking, choosing, the command."""

import shutil
import signal
import subprocess
import sys
import time

import pytest
import typer.testing

from expportrait.cli import app
from expportrait.errors import MachineFault, UserError
from expportrait.export import parts, run
from expportrait.store import StoreError
from tests.export.conftest import content, hand_over
from tests.export.make import ROWS, index, make_run, make_stores

LAYOUTS = ["folder", "webdataset"]  # files in their places, and in shards


def marks(out):
    """When each file was written."""
    return {file: (out / file).stat().st_mtime_ns for file in content(out)}


@pytest.fixture
def counted(monkeypatch):
    """The clips whose frames are made into films."""
    made = []
    real = run._make

    def make(sample, *rest):
        made.append(sample.clip)
        return real(sample, *rest)

    monkeypatch.setattr(run, "_make", make)
    return made


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_second_run_makes_nothing_and_changes_nothing(name, finished, tmp_path, counted):
    hand_over(finished, name, tmp_path / "out")
    before, first = content(tmp_path / "out"), list(counted)
    told = hand_over(finished, name, tmp_path / "out")
    assert first == ["a.one", "b"] == counted
    assert "made 0, kept 2" in "\n".join(told)
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("name", LAYOUTS)
def test_growing_and_shrinking_touch_only_what_comes_and_goes(name, tmp_path, counted):
    make_run(tmp_path, rows=ROWS[:1])
    hand_over(tmp_path, name, tmp_path / "out")
    small = content(tmp_path / "out")
    make_run(tmp_path, rows=ROWS)
    counted.clear()
    hand_over(tmp_path, name, tmp_path / "out", splits=("train", "val"))
    assert counted == ["b", "c"]
    hand_over(tmp_path, name, tmp_path / "anew", splits=("train", "val"))
    assert content(tmp_path / "out") == content(tmp_path / "anew")
    make_run(tmp_path, rows=ROWS[:1])
    hand_over(tmp_path, name, tmp_path / "out")
    assert content(tmp_path / "out") == small


@pytest.mark.parametrize("name", ["folder", "videox-fun", "webdataset"])
def test_clips_that_are_in_other_shards_now_are_moved(name, tmp_path, counted):
    make_run(tmp_path)
    hand_over(tmp_path, name, tmp_path / "out", shards={"d": 1})
    counted.clear()
    index(tmp_path, shards_of={"d": 3})
    hand_over(tmp_path, name, tmp_path / "out", shards={"d": 3})
    if name != "webdataset":  # whose shards are packed anew
        assert not counted
    hand_over(tmp_path, name, tmp_path / "anew", shards={"d": 3})
    assert content(tmp_path / "out") == content(tmp_path / "anew")


def test_a_changed_store_is_handed_over_anew(tmp_path, counted):
    from expportrait.engine.record import read_index, write_index

    make_run(tmp_path)
    hand_over(tmp_path, "folder", tmp_path / "out")
    make_stores(tmp_path / "results", "b", 7, 20)
    file = tmp_path / "results" / "crop" / "d-0000.json"
    found = read_index(file)
    write_index(file, found | {"b": type(found["b"])("ok", "another")})
    counted.clear()
    hand_over(tmp_path, "folder", tmp_path / "out")
    assert counted == ["b"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_new_papers_and_figures_make_tables_not_films(name, tmp_path, counted):
    from expportrait.engine.record import read_index, write_index

    make_run(tmp_path, rows=ROWS[:2])
    hand_over(tmp_path, name, tmp_path / "out", parts=("frames",))
    make_run(tmp_path, rows=(ROWS[0], (*ROWS[1][:3], "MIT", "https://example.org/new", "")))
    file = tmp_path / "results" / "proxy" / "d-0000.json"
    found = read_index(file)
    write_index(file, found | {"b": type(found["b"])("ok", "another")})
    counted.clear()
    hand_over(tmp_path, name, tmp_path / "out", parts=("frames",))
    assert not counted
    hand_over(tmp_path, name, tmp_path / "anew", parts=("frames",))
    assert content(tmp_path / "out") == content(tmp_path / "anew")
    assert b"MIT" in content(tmp_path / "out")["manifest.csv"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_that_is_gone_is_made_again(name, finished, tmp_path):
    hand_over(finished, name, tmp_path / "out")
    before = content(tmp_path / "out")
    next(iter((tmp_path / "out" / "train").rglob("*.mp4" if name == "folder" else "*.tar"))).unlink()
    hand_over(finished, name, tmp_path / "out")
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("text", ["{", "[]", '{"key": 1}'])
def test_a_record_that_is_not_whole_is_made_again(name, text, finished, tmp_path, counted):
    hand_over(finished, name, tmp_path / "out", parts=("mask",))
    before = content(tmp_path / "out")
    counted.clear()
    (tmp_path / "out" / run.RECORDS / "b.json").write_text(text)
    hand_over(finished, name, tmp_path / "out", parts=("mask",))
    assert counted == ["b"] and content(tmp_path / "out") == before
    (tmp_path / "out" / run.RECORDS / "b.json").write_text(text)
    hand_over(finished, name, tmp_path / "out", parts=("mask",), only=("person=ann",))
    assert not (tmp_path / "out" / run.RECORDS / "b.json").exists()


def test_a_shard_that_has_changed_is_not_taken_over(tmp_path):
    make_run(tmp_path, rows=ROWS[:2])
    hand_over(tmp_path, "webdataset", tmp_path / "out")
    expected = content(tmp_path / "out")
    make_run(tmp_path, rows=ROWS[:1])
    tar = tmp_path / "out" / "train" / "d-0000.tar"
    data = bytearray(tar.read_bytes())
    data[5000] ^= 255  # in a member of the first clip
    tar.write_bytes(data)
    with pytest.raises(MachineFault, match=r"a=one\.\S+ of the shard train/d-0000 has changed"):
        hand_over(tmp_path, "webdataset", tmp_path / "out")
    make_run(tmp_path, rows=ROWS[:2])
    hand_over(tmp_path, "webdataset", tmp_path / "out")
    assert content(tmp_path / "out") == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_kill_nine_at_three_moments_then_the_same_bytes(name, tmp_path):
    rows = tuple((f"k{n}", f"p{n}", "train", "CC0-1.0", "", "") for n in range(6))
    make_run(tmp_path, rows=rows)
    hand_over(tmp_path, name, tmp_path / "whole", parts=("frames", "mask"))
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "expportrait", "export", name, "--out", str(out), "--settings", "{}"]
    command += ["--manifest", str(tmp_path / "my.csv"), "--results", str(tmp_path / "results")]
    command += ["--part", "frames", "--part", "mask"]
    for clips, later in ((0, 0.02), (2, 0.05), (4, 0.01)):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if out.exists() and len(list((out / run.RECORDS).glob("*.json"))) >= clips:
                time.sleep(later)
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (out / "SHA256SUMS").exists()  # it was killed before its end
    hand_over(tmp_path, name, out, parts=("frames", "mask"))
    assert content(out) == content(tmp_path / "whole")
    assert not list((out / ".export" / "making").iterdir())


def test_only_and_splits(finished, tmp_path):
    hand_over(finished, "folder", tmp_path / "out", splits=("train", "val"), only=("licence=CC-BY-4.0",))
    assert sorted(run.read_record(file)["clip"] for file in (tmp_path / "out" / run.RECORDS).glob("*")) == [
        "a.one",
        "c",
    ]
    assert (tmp_path / "out" / "left_out.csv").read_text() == "clip,why\nb,licence is not CC-BY-4.0\n"
    with pytest.raises(UserError, match="no column licens; did you mean licence"):
        hand_over(finished, "folder", tmp_path / "no", only=("licens=CC0",))
    with pytest.raises(UserError, match="nothing to hand over"):
        hand_over(finished, "folder", tmp_path / "no", only=("licence=MIT",))
    with pytest.raises(UserError, match=r"left out, \d: licence is not empty or MIT"):
        hand_over(finished, "folder", tmp_path / "no", only=("licence=MIT", "licence="))
    with pytest.raises(UserError, match="did you mean landmarks"):
        hand_over(finished, "folder", tmp_path / "no", parts=("landmark",))
    with pytest.raises(UserError, match="nemo has only its own"):
        hand_over(finished, "nemo", tmp_path / "no", parts=("frames",))
    assert not (tmp_path / "no").exists()


def test_what_a_stage_could_not_make_is_left_out_where_it_is_needed(tmp_path):
    make_run(tmp_path)
    shutil.rmtree(tmp_path / "results" / "control" / "b.zarr")
    index(tmp_path)
    told = hand_over(tmp_path, "videox-fun", tmp_path / "out")
    assert any("left out, 1: control: not run yet (needed for control)" in line for line in told)
    told = hand_over(tmp_path, "folder", tmp_path / "all")
    assert any("without control: 1 clips" in line for line in told)
    assert not (tmp_path / "all/train/d-0000/b/control.mp4").exists()
    assert (tmp_path / "all/train/d-0000/b/frames.mp4").exists()


def test_each_array_is_unpacked_once_and_copied_ones_never(finished, tmp_path, monkeypatch):
    from expportrait.store import videocodec

    unpacked = []
    real = videocodec._unpacked
    monkeypatch.setattr(videocodec, "_unpacked", lambda data, *rest: unpacked.append(data) or real(data, *rest))
    hand_over(finished, "folder", tmp_path / "out", parts=("frames", "mask", "confidence"), only=("person=bob",))
    assert len(unpacked) == 2  # the two chunks of the frames


def test_a_store_that_has_lost_an_array_is_damaged(tmp_path):
    make_run(tmp_path)
    shutil.rmtree(tmp_path / "results" / "proxy" / "b.zarr" / "shape")
    with pytest.raises(StoreError, match=r"b\.zarr is damaged: shape/\S+ is missing"):
        hand_over(tmp_path, "folder", tmp_path / "out", parts=("head",))


def test_dry_run_writes_nothing(finished, tmp_path):
    *_, count, line = hand_over(finished, "folder", tmp_path / "out", dry_run=True)
    assert count.startswith("to be made: 2 clips, 40 frames")
    assert line.startswith("about 0.00 GB and ") and line.endswith(" s of one core, estimated")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(finished, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="is no export"):
        hand_over(finished, "folder", tmp_path / "mine")
    hand_over(finished, "nemo", tmp_path / "out")
    with pytest.raises(UserError, match="is an export of the layout nemo"):
        hand_over(finished, "folder", tmp_path / "out")


def test_the_command(finished, tmp_path):
    given = ["--settings", "{}", "--manifest", str(finished / "my.csv"), "--results", str(finished / "results")]
    arguments = ["export", "folder", "--out", str(tmp_path / "out"), *given, "--split", "all", "--part", "frames"]
    result = typer.testing.CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and "3 of 3 clips" in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"train", "val", "README.md", "SHA256SUMS"}
    assert {"frames", "reference", "control"} <= parts.PARTS.keys()
