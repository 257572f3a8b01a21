"""What is kept of a video, and what is said before any is looked at."""

import json

import pytest
import typer.testing

from expportrait.cli import app
from expportrait.errors import MachineFault, UserError
from expportrait.importers.split import records, work
from expportrait.importers.split.sources import Source
from expportrait.importers.split.table import Options, write

CLIP = {"start": 0.0, "end": 2.0, "frames": 50, "face": [1.0, 2.0, 3.0, 4.0], "face_size": 99.0, "coverage": 1.0,
        "roll": 0.0, "sharpness": 5.0, "brightness": 99.0, "likeness": None, "row": None}  # fmt: skip
RECORD = {"key": "k", "fault": "", "length": 2.0, "clips": [CLIP], "left": []}


@pytest.fixture
def unwatched(monkeypatch):
    """No video may be looked at."""

    def made(*_):
        raise AssertionError("a video was looked at")

    monkeypatch.setattr(work, "_made", made)


def split(*words):
    return typer.testing.CliRunner().invoke(app, ["import", "split", *map(str, words)])


def test_a_record_that_is_not_whole_is_made_again(tmp_path):
    source = Source("film", tmp_path / "film.mp4")
    records.write(tmp_path, source, RECORD)
    assert records.read(tmp_path, source, "k") == RECORD and records.read(tmp_path, source, "other") is None
    for harm in (lambda text: text[:-9], lambda text: json.dumps({"key": "k"}), lambda text: "[]"):
        (tmp_path / "film.json").write_text(harm(json.dumps(RECORD)))
        assert records.read(tmp_path, source, "k") is None


def test_where_nothing_can_be_written_nothing_is_looked_at(tmp_path, unwatched):
    (tmp_path / "a.mp4").write_bytes(b"film")
    (tmp_path / "my.split").write_text("no folder")
    done = split(tmp_path / "a.mp4", "--out", tmp_path / "my.csv")
    assert isinstance(done.exception, MachineFault) and "my.split cannot be written: File exists" in str(done.exception)


def test_an_option_that_cannot_be_is_said_by_its_name(tmp_path, unwatched):
    (tmp_path / "a.mp4").write_bytes(b"film")
    done = split(tmp_path / "a.mp4", "--out", tmp_path / "my.csv", "--min-face", "-5")
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith("--min-face -5.0: input should be greater than 0")


def test_where_no_clip_is_left_the_reasons_are_said(tmp_path):
    options = Options(tmp_path / "my.csv", "d", 0.0, 0.0, None)
    left = [{"start": 0.0, "end": 2.0, "reason": "no face", "count": 0, "size": 0.0}]
    with pytest.raises(UserError, match=r"(?s)my\.csv is not written\nleft out:\n +1  no face, 2 s\none by one"):
        write([Source("film", tmp_path / "film.mp4")], {"film": RECORD | {"clips": [], "left": left}}, options)
    assert "no face" in (tmp_path / "my.left_out.csv").read_text()


def test_one_is_one(tmp_path):
    options = Options(tmp_path / "my.csv", "d", 0.0, 0.0, None)
    told = write([Source("film", tmp_path / "film.mp4")], {"film": RECORD}, options)
    assert "my.csv: 1 clip of 1 person (1 train), 0.00 h out of 0.00 h of 1 video" in told
