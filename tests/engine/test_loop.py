import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from expportrait.engine.damage import mark
from expportrait.engine.heartbeat import read_heartbeat
from expportrait.engine.loop import run
from expportrait.engine.record import Outcome, read_index, state, write_index
from expportrait.engine.stage import Stage
from expportrait.errors import ClipError, MachineFault, StageBroken, UserError
from expportrait.machine import machine_fault
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config, Crop, HeadSettings, Landmarks
from expportrait.store import Store


class Bench:
    """Two stages, crop and landmarks, that do what they are told and write down what they did."""

    def __init__(self, results):
        self.config = Config(results=results)
        self.orders, self.done = {}, []
        self.rows = [Row(clip, "d", f"{clip}.mp4", results / f"{clip}.mp4") for clip in ("a", "b", "c")]
        self.crop = Stage("crop", 1, ("crop",), (), self.process)
        self.landmarks = Stage("landmarks", 1, ("landmarks",), ("crop",), self.process)

    def process(self, clip, out):
        self.done.append(f"{clip.work.title}")
        out.array("x", np.ones(3))
        if clip.row.clip in self.orders:
            raise self.orders[clip.row.clip]

    def run(self, stage=None, rows=None, **settings):
        """The clips that were computed."""
        self.done.clear()
        self.index = run(stage or self.crop, rows or self.rows, self.config.model_copy(update=settings))
        return [title.split()[-1] for title in self.done]

    def statuses(self):
        return [outcome.status for outcome in self.index.values()]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_equal_keys_are_reused(bench):
    assert bench.run() == ["a", "b", "c"]
    first = bench.index
    assert bench.run() == [] and bench.index == first
    assert bench.run(rows=bench.rows[:1]) == []


@pytest.mark.parametrize(
    "change", ["source", "start", "end", "box", "rev", "settings", "version", "sidecar", "clip gone"]
)
def test_each_part_of_the_key_recomputes(bench, change):
    bench.run()
    before = bench.index["a"].key
    stage, settings, row = bench.crop, {}, bench.rows[0]
    values = {"source": "other.mp4", "start": 1.0, "end": 2.0, "box": (0, 0, 9, 9), "rev": "2"}
    if change in values:
        row = row._replace(**{change: values[change]})
    elif change == "settings":
        settings = {"crop": Crop(scale=3.0)}
    elif change == "version":
        stage = Stage("crop", 2, ("crop",), (), bench.process)
    elif change == "sidecar":
        Path(f"{row.path}.key").write_text("made by version 2\n")
    else:
        (bench.config.results / "crop" / "a.zarr" / "zarr.json").unlink()
    assert bench.run(stage, [row, *bench.rows[1:]], **settings) == (
        ["a", "b", "c"] if stage.version == 2 or settings else ["a"]
    )
    assert (bench.index["a"].key == before) == (change == "clip gone")


def test_what_is_not_in_the_key(bench):
    bench.run()
    rows = [row._replace(person="p", split="test", extra={"note": "x"}) for row in bench.rows]
    assert bench.run(rows=rows, landmarks=Landmarks(max_gap=3), head=HeadSettings(subdivisions=0)) == []


def test_parents_keys_enter(bench):
    bench.run()
    assert bench.run(bench.landmarks) == ["a", "b", "c"]
    bench.run(crop=Crop(scale=3.0))
    assert bench.run(bench.landmarks) == ["a", "b", "c"]


def test_stores_say_what_made_them(bench):
    bench.run(crop=Crop(scale=3.0))
    attrs = Store(bench.config.results / "crop" / "a.zarr").attrs
    assert attrs["key"] == bench.index["a"].key
    assert (attrs["stage"], attrs["version"], attrs["clip"]) == ("crop", 1, "a")
    assert attrs["settings"]["crop"] == Crop(scale=3.0).model_dump()


def test_a_rejection_is_remembered_until_something_changes(bench):
    bench.orders["b"] = ClipError("no face in any frame")
    bench.run()
    assert bench.index["b"].why == "no face in any frame" and bench.statuses() == ["ok", "failed", "ok"]
    assert not (bench.config.results / "crop" / "b.zarr").exists()
    bench.orders.clear()
    assert bench.run() == [] and bench.statuses() == ["ok", "failed", "ok"]
    assert bench.run(crop=Crop(scale=3.0)) == ["a", "b", "c"] and bench.statuses() == ["ok"] * 3
    assert state(bench.config.results / "crop", "b").status == "ok"


def test_a_failure_that_may_vanish_is_tried_again(bench):
    bench.orders["b"] = ClipError("b.mp4 is missing", retry=True)
    bench.run()
    assert bench.run() == ["b"] and bench.index["b"].why == "b.mp4 is missing"
    bench.orders.clear()
    assert bench.run() == ["b"] and bench.statuses() == ["ok"] * 3


def test_an_older_store_does_not_stand_in_for_a_failure(bench):
    bench.run()
    bench.run(bench.landmarks)
    bench.orders["b"] = ClipError("too small")
    bench.run(crop=Crop(scale=3.0))
    bench.orders.clear()
    assert bench.run(bench.landmarks) == ["a", "c"]
    assert bench.index["b"] == Outcome("skipped", None, "crop: too small")
    assert state(bench.config.results / "landmarks", "b").status == "skipped"


def test_skipping_passes_the_first_reason_on(bench):
    bench.orders["b"] = ClipError("no face")
    bench.run()
    bench.run(bench.landmarks)
    proxy = Stage("proxy", 1, ("proxy",), ("landmarks",), bench.process)
    assert bench.run(proxy) == ["a", "c"]
    assert bench.index["b"].why == "crop: no face"


def test_a_parent_that_was_never_made(bench):
    assert bench.run(bench.landmarks) == []
    assert bench.index["a"].why == "crop: not there yet, run `expportrait crop` first"
    bench.run()
    assert bench.run(bench.landmarks) == ["a", "b", "c"]


def test_a_few_unforeseen_errors_are_recorded_and_tried_again(bench, capfd):
    bench.orders |= {"a": ValueError("boo"), "b": KeyError("x")}
    bench.run()
    assert bench.statuses() == ["failed", "failed", "ok"]
    assert bench.index["a"].why == "unforeseen ValueError: boo"
    assert "Traceback" in capfd.readouterr().err
    bench.orders.clear()
    assert bench.run() == ["a", "b"] and bench.statuses() == ["ok"] * 3


@pytest.mark.parametrize(("clips", "broken", "raises"), [(3, 2, False), (3, 3, True), (10, 5, False), (10, 6, True)])
def test_more_than_half_unforeseen_means_the_stage_is_broken(bench, clips, broken, raises):
    rows = [Row(f"c{i}", "d", "v", Path("v")) for i in range(clips)]
    bench.orders = {f"c{i}": ValueError("boo") for i in range(clips - broken, clips)}
    if raises:
        with pytest.raises(StageBroken, match="unforeseen"):
            bench.run(rows=rows)
    else:
        bench.run(rows=rows)
    good = [f"c{i}" for i in range(clips - broken)]
    assert sorted(path.stem for path in (bench.config.results / "crop").glob("c*.zarr")) == good


def test_any_number_of_rejections_is_fine(bench):
    bench.orders = {clip: ClipError("no") for clip in "abc"}
    bench.run()
    assert bench.statuses() == ["failed"] * 3


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


FAULTS = [
    MemoryError(),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EROFS, "Read-only file system"),
    OSError(errno.EIO, "Input/output error"),
    OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("Found no NVIDIA driver on your system"),
    MachineFault("no GPU"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_faults_of_the_machine_are_raised_and_never_recorded(bench, fault):
    bench.orders["b"] = fault
    with pytest.raises(MachineFault) as error:
        bench.run()
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in (bench.config.results / "crop").iterdir()) == ["a.zarr", "index.costs.jsonl"]
    bench.orders.clear()
    assert bench.run() == ["b", "c"]


def test_a_fault_behind_another_error_is_seen():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise ValueError("cannot write") from error
    except ValueError as error:
        assert "No space left" in machine_fault(error)
    assert machine_fault(ValueError("boo")) is None
    assert machine_fault(FileNotFoundError(errno.ENOENT, "gone")) is None


def test_a_decoders_complaint_is_not_the_machines():
    class InvalidData(OSError):
        __module__ = "av.error"

    assert machine_fault(InvalidData(errno.EIO, "Input/output error")) is None


@pytest.mark.parametrize(
    ("module", "name", "text", "machine"),
    [
        ("onnxruntime.capi.onnxruntime_pybind11_state", "Fail", "CUDA failure 2: out of memory ; GPU=0", True),
        ("onnxruntime.capi.onnxruntime_pybind11_state", "Fail", "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", True),
        ("onnxruntime.capi.onnxruntime_pybind11_state", "RuntimeException", "Failed to allocate memory for 9 B", True),
        ("onnxruntime.capi.onnxruntime_pybind11_state", "RuntimeException", "std::bad_alloc", True),
        ("onnxruntime.capi.onnxruntime_pybind11_state", "InvalidArgument", "Got invalid dimensions for input", False),
        ("cv2", "error", "OpenCV(4.11.0) alloc.cpp:73: error: (-4:Insufficient memory) in 'OutOfMemoryError'", True),
        ("cv2", "error", "OpenCV(4.11.0) resize.cpp:4211: error: (-215:Assertion failed) !ssize.empty()", False),
    ],
)
def test_libraries_without_errors_of_memory_are_understood(module, name, text, machine):
    error = type(name, (Exception,), {"__module__": module})(text)
    assert (machine_fault(error) == f"{name}: {text}") if machine else (machine_fault(error) is None)


def test_a_known_reason_stays_the_clips_whatever_led_to_it():
    error = ClipError("the video cannot be decoded")
    error.__cause__ = OSError(errno.EIO, "Input/output error")
    assert machine_fault(error) is None


def test_a_users_mistake_in_a_stage_ends_the_run(bench):
    bench.orders["b"] = UserError("head.file is not an SMPL-X file")
    with pytest.raises(UserError):
        bench.run()
    assert sorted(path.name for path in (bench.config.results / "crop").iterdir()) == ["a.zarr", "index.costs.jsonl"]


def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_half_done(bench):
    bench.orders["b"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert sorted(path.name for path in (bench.config.results / "crop").iterdir()) == ["a.zarr", "index.costs.jsonl"]


def damage(results, clip="b"):
    os.remove(results / "crop" / f"{clip}.zarr" / "x" / "c" / "0")


def test_a_store_with_a_missing_chunk_is_remade(bench):
    bench.run()
    damage(bench.config.results)
    assert bench.run() == ["b"]


def flip(results, clip="b"):
    """Change a byte of the data: the file's size stays."""
    file = results / "crop" / f"{clip}.zarr" / "x" / "c" / "0"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)


def lose(results, clip="b"):
    shutil.rmtree(results / "crop" / f"{clip}.zarr")


def behead(results, clip="b"):
    (results / "crop" / f"{clip}.zarr" / "zarr.json").write_text("{")


@pytest.mark.parametrize("read", [lambda store: store["x"], lambda store: store.lazy("x")[:]], ids=["whole", "lazy"])
@pytest.mark.parametrize("harm", [damage, flip, lose, behead])
def test_a_damaged_parent_is_nobodys_fault_and_is_made_anew(bench, harm, read):
    results = bench.config.results
    crop, landmarks = results / "crop" / "d-0000.json", results / "landmarks"
    bench.run()
    write_index(crop, bench.index)
    harm(results)

    def process(clip, out):
        bench.done.append(clip.work.title)
        out.array("y", read(clip.parents["crop"]))

    stage = Stage("landmarks", 1, ("landmarks",), ("crop",), process)
    with pytest.raises(MachineFault, match=r"damaged stores, the first one: .*b\.zarr .*Run snakemake again"):
        bench.run(stage)
    assert not crop.exists(), "or Snakemake would take crop for done"
    assert sorted(path.name for path in landmarks.iterdir()) == ["a.zarr", "c.zarr", "index.costs.jsonl"], (
        "what could be done is done"
    )
    assert bench.run() == ["b"] and bench.run() == []
    assert bench.run(stage) == ["b"] and bench.statuses() == ["ok"] * 3
    assert not [*(results / "crop").glob("*.damaged")]


def test_a_store_that_was_wrongly_doubted_is_kept(bench):
    bench.run()
    mark(bench.config.results / "crop" / "b.zarr", "could not be read from node 7")
    assert bench.run() == [] and bench.statuses() == ["ok"] * 3
    assert not [*(bench.config.results / "crop").glob("*.damaged")]


def test_a_job_waits_for_one_that_a_killed_run_left_behind(bench, tmp_path):
    file = tmp_path / "logs" / "crop" / "d-0000.progress.json"
    code = "import sys, time; from pathlib import Path; from expportrait.engine.heartbeat import Heartbeat; " \
           "Heartbeat(Path(sys.argv[1]), 'crop', 'd-0000', 3); print(flush=True); time.sleep(60)"  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        threading.Timer(1, other.kill).start()
        began = time.monotonic()
        index = run(bench.crop, bench.rows, bench.config, shard="d-0000")
        assert time.monotonic() - began > 0.9 and len(index) == 3
    beat = read_heartbeat(file)
    assert (beat["done"], beat["total"], beat["computed"], beat["counts"]) == (3, 3, 3, {"ok": 3})
    assert beat["ended"] and beat["alive"] is False


@pytest.fixture
def no_files_left():
    """Two switches: from the first on the process can open no file, as on a node with too low a limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []

    def use_up():
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))

    def give_back():
        while taken:
            os.close(taken.pop())

    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield use_up, give_back
    give_back()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("what", ["a parent's data", "a parent", "its own store"])
def test_a_machine_that_can_open_no_file_blames_no_store(bench, no_files_left, monkeypatch, what):
    results, (use_up, give_back) = bench.config.results, no_files_left
    bench.run()
    write_index(results / "crop" / "d-0000.json", bench.index)

    def process(clip, out):
        out.array("y", clip.parents["crop"]["x"])
        if what == "a parent's data":
            use_up()
            _ = clip.parents["crop"]["x"]

    stage = Stage("landmarks", 1, ("landmarks",), ("crop",), process)
    if what == "its own store":
        stage = bench.crop
    if what != "a parent's data":
        use_up()
    with pytest.raises(MachineFault, match=r"the machine failed, nothing is wrong with the clips.*Too many open files"):
        bench.run(stage)
    give_back()
    assert not [*results.glob("*/*.damaged")] and not [*results.glob("*/*.failed.json")]
    assert (results / "crop" / "d-0000.json").exists() and len([*(results / "crop").glob("*.zarr")]) == 3


def test_models_are_loaded_once_and_only_when_there_is_work(bench):
    loaded = []

    def load(settings, device):
        loaded.append((settings.crop.scale, device))
        return "model"

    def process(clip, out):
        assert clip.tools == "model"
        out.array("x", np.ones(3))

    stage = Stage("crop", 1, ("crop",), (), process, load)
    bench.run(stage, crop=Crop(scale=3.0))
    bench.run(stage, crop=Crop(scale=3.0))
    assert loaded == [(3.0, "cpu")]


def test_a_stage_sees_its_own_sections_only(bench):
    def process(clip, out):
        assert clip.settings.crop == bench.config.crop
        with pytest.raises(AttributeError):
            _ = clip.settings.landmarks
        out.array("x", np.ones(3))

    bench.run(Stage("crop", 1, ("crop",), (), process))
    assert bench.statuses() == ["ok"] * 3


def test_index_files(bench, tmp_path):
    bench.orders["b"] = ClipError("no")
    bench.run()
    file = tmp_path / "crop" / "d-0000.json"
    write_index(file, bench.index)
    assert read_index(file) == bench.index
    assert json.loads(file.read_text())["b"] == {"key": bench.index["b"].key, "status": "failed", "why": "no"}
    write_index(file, dict(reversed(bench.index.items())))
    assert [*json.loads(file.read_text())] == ["a", "b", "c"]
    file.write_text("{")
    with pytest.raises(UserError, match="not a readable index"):
        read_index(file)
