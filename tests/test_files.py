"""Files and folders, whole or not at all; temporary ones, and what is said when there is no room."""

import re
import resource
import tempfile
from contextlib import contextmanager

import pytest
import torch

from expportrait.engine.loop import run
from expportrait.engine.stage import Stage
from expportrait.errors import MachineFault
from expportrait.files import beside, new_folder, replace_file, temporary_file
from expportrait.fit.spool import FrameFile
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config


@contextmanager
def no_room(bytes_left=0):
    """Files cannot grow, as with a quota or a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The temporary folder, another one than that of the results."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def fill(clip, out):
    with no_room(4096):
        FrameFile(8, (64, 64))[:] = torch.ones(64, 64)


def test_a_full_temporary_folder_is_named_and_is_not_the_clips_fault(folder, tmp_path):
    tempfile.gettempdir()
    stage, rows = Stage("crop", 1, ("crop",), (), fill), [Row("a", "d", "a", tmp_path / "a")]
    with pytest.raises(MachineFault, match=rf"the temporary folder {re.escape(str(folder))} cannot be written: File"):
        run(stage, rows, Config(results=tmp_path / "results"))
    assert [path.name for path in (tmp_path / "results" / "crop").iterdir()] == ["index.costs.jsonl"], "its bill alone"
    assert [*folder.iterdir()] == []


def test_room_that_goes_while_frames_are_written(folder):
    frames = FrameFile(8, (64, 64))
    with no_room(4096), pytest.raises(MachineFault, match=re.escape(str(folder))):
        frames[:] = torch.ones(64, 64)


def test_no_folder_at_all_that_can_be_written(folder):
    with no_room(), pytest.raises(MachineFault, match=rf"{re.escape(str(folder))} cannot be written: No usable temp"):
        temporary_file()


def test_a_full_disk_under_the_results_is_told_from_it(folder, tmp_path):
    with no_room(10), pytest.raises(OSError, match=rf"File too large: '{re.escape(str(tmp_path))}/results/a.json'"):
        replace_file(tmp_path / "results" / "a.json", b"x" * 100)


def test_a_folder_takes_its_place_whole(tmp_path):
    place = tmp_path / "results" / "model"
    for content in ("one", "two"):
        with new_folder(place) as made:
            assert [*made.iterdir()] == []
            (made / "weights").write_text(content)
            assert not place.exists() or (place / "weights").read_text() == "one"
        assert (place / "weights").read_text() == content and [*place.parent.iterdir()] == [place]


def test_a_folder_that_is_not_finished_changes_nothing(tmp_path):
    place = tmp_path / "model"
    with new_folder(place) as made:
        (made / "weights").write_text("one")
    with pytest.raises(KeyboardInterrupt), new_folder(place) as made:
        (made / "weights").write_text("half of")
        raise KeyboardInterrupt
    assert (place / "weights").read_text() == "one" and [*tmp_path.iterdir()] == [place]


def test_what_a_killed_process_left_of_a_folder_goes(tmp_path):
    left = beside(tmp_path / "model")  # of this process, as if its number had been another's
    left.mkdir()
    (left / "weights").touch()
    with new_folder(tmp_path / "model"):
        pass
    assert [*(tmp_path / "model").iterdir()] == [] and not left.exists()
