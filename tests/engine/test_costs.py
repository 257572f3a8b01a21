"""The bill of what was computed: what a line says, that lines of many writers stay whole, and that it stops nothing."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from expportrait.engine import costs
from expportrait.engine.costs import append, billed, read_bill, read_costs
from expportrait.engine.loop import run
from expportrait.engine.stage import Stage
from expportrait.engine.training import Course, descend
from expportrait.errors import ClipError
from expportrait.machine import aside
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def process(clip, out):
    """Each clip does something else, by its name."""
    match clip.row.clip:
        case "busy":
            burn(0.2)
        case "idle":
            time.sleep(0.3)
        case "large":
            np.ones(32 << 20, np.uint8)
        case "bad":
            burn(0.1)
            raise ClipError("no face")
    out.array("x", np.ones(3))


ROWS = [Row(clip, "films", f"{clip}.mp4", f"none/{clip}.mp4") for clip in ("large", "busy", "idle", "bad")]
STAGE = Stage("crop", 1, ("crop",), (), process)


def test_a_line_for_each_clip_that_was_computed_and_none_for_the_others(tmp_path):
    config = Config(results=tmp_path)
    run(STAGE, ROWS, config, shard="films-0000")
    lines = {line["clip"]: line for line in read_bill(tmp_path / "crop" / "films-0000.costs.jsonl")}
    assert [*lines] == ["large", "busy", "idle", "bad"]
    assert {line["made"] for clip, line in lines.items() if clip != "bad"} == {True} and not lines["bad"]["made"]
    assert lines["busy"]["cpu"] >= 0.2 and lines["bad"]["cpu"] >= 0.1 and lines["idle"]["wall"] >= 0.3
    assert lines["idle"]["cpu"] < 0.2
    line = lines["busy"]
    assert (line["stage"], line["dataset"], line["device"]) == ("crop", "films", "cpu")
    assert line["host"] and abs(line["time"] - time.time()) < 600
    run(STAGE, ROWS, config, shard="films-0000")
    assert len([*read_costs(tmp_path)]) == 4, "found done, or recorded as failed: nothing was spent"
    run(STAGE, ROWS[:1], Config(results=tmp_path, crop={"scale": 3}))
    assert [line["clip"] for line in read_bill(tmp_path / "crop" / "index.costs.jsonl")] == ["large"]


def test_what_a_process_aside_burns_is_billed(tmp_path):
    with billed(tmp_path, "", "proxy", "a"):
        aside(burn, 1.0)
    (line,) = read_bill(tmp_path / "index.costs.jsonl")
    assert line["cpu"] >= 1


@pytest.mark.skipif(not costs.reset_peak(), reason="the kernel does not let the peak of memory begin anew")
def test_the_peak_is_of_the_clip_where_the_kernel_allows_that(tmp_path):
    for clip, mib in (("large", 200), ("small", 20)):
        with billed(tmp_path, "", "crop", clip):
            np.ones(mib << 20, np.uint8)
    large, small = read_bill(tmp_path / "index.costs.jsonl")
    assert large["peak_of"] == small["peak_of"] == "clip" and large["peak_mib"] - small["peak_mib"] > 100


def test_elsewhere_it_is_of_the_process_so_far_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "_CLEAR", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(costs, "_STATUS", tmp_path / "none" / "status")
    with billed(tmp_path, "", "crop", "a"):
        pass
    (line,) = read_bill(tmp_path / "index.costs.jsonl")
    assert line["peak_of"] == "process" and line["peak_mib"] > 10


def test_two_at_once_share_what_the_process_took(tmp_path):
    """So that sums over clips are what the job took: the wall clock is not counted twice."""
    both = threading.Barrier(2)

    def work(clip):
        with billed(tmp_path, "", "crop", clip):
            both.wait()
            time.sleep(0.3)
            both.wait()

    before = time.monotonic(), time.process_time()
    threads = [threading.Thread(target=work, args=[clip]) for clip in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - before[0], time.process_time() - before[1]
    a, b = read_bill(tmp_path / "index.costs.jsonl")
    assert 0.3 <= a["wall"] + b["wall"] <= took[0] + 0.01 and abs(a["wall"] - b["wall"]) < 0.2
    assert a["cpu"] + b["cpu"] <= took[1] + 0.01


@pytest.mark.skipif(not costs.reset_peak(), reason="the kernel does not let the peak of memory begin anew")
def test_a_peak_before_another_begins_is_not_lost(tmp_path):
    grown, begun = threading.Event(), threading.Event()

    def large():
        with billed(tmp_path, "", "crop", "large"):
            np.ones(200 << 20, np.uint8)
            grown.set()
            begun.wait(10)

    thread = threading.Thread(target=large)
    thread.start()
    grown.wait(10)
    with billed(tmp_path, "", "crop", "small"):
        begun.set()
        thread.join()
    found = {line["clip"]: line["peak_mib"] for line in read_bill(tmp_path / "index.costs.jsonl")}
    assert found["large"] - found["small"] > 100


def test_a_bill_that_cannot_be_written_stops_nothing(tmp_path, capsys):
    (tmp_path / "crop").mkdir()
    (tmp_path / "crop" / "films-0000.costs.jsonl").mkdir()
    index = run(STAGE, ROWS[1:2], Config(results=tmp_path), shard="films-0000")
    assert index["busy"].status == "ok"
    assert "films-0000.costs.jsonl cannot be written: Is a directory" in capsys.readouterr().err


def test_lines_of_many_writers_stay_whole(tmp_path):
    file = tmp_path / "index.costs.jsonl"
    program = (
        "import sys; from pathlib import Path; from expportrait.engine.costs import append\n"
        "for n in range(100): append(Path(sys.argv[1]), {'who': sys.argv[2], 'n': n, 'long': 'x' * 500})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(file), str(who)]) for who in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    lines = [json.loads(text) for text in file.read_text().splitlines()]
    assert sorted((line["who"], line["n"]) for line in lines) == [(str(w), n) for w in range(4) for n in range(100)]


def test_half_a_line_costs_itself_alone(tmp_path):
    with billed(tmp_path, "", "crop", "a"):
        pass
    file = tmp_path / "index.costs.jsonl"
    file.write_bytes(file.read_bytes() + b'{"stage": "cr')
    with billed(tmp_path, "", "crop", "b"):
        pass
    append(file, {"stage": "of another version"})
    assert [line["clip"] for line in read_bill(file)] == ["a", "b"]


def test_a_training_is_billed_also_where_it_breaks_off(tmp_path):
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def losses(batch):
        if batch == 3:
            raise KeyboardInterrupt
        return {"loss": model(torch.ones(1, 1)).sum()}

    course = Course("transfer", 5, 1, 1, lambda step, _: step, losses, lambda step: 0.1)
    work = tmp_path / "transfer" / "work-1"
    with pytest.raises(KeyboardInterrupt):
        descend(course, model, optimizer, work)
    course = Course("transfer", 5, 1, 1, lambda step, _: 0, losses, lambda step: 0.1)
    descend(course, model, optimizer, work)
    lines = [*read_costs(tmp_path)]
    assert [(line["stage"], line["clip"], line["dataset"], line["made"]) for line in lines] == [
        ("transfer", "", "", False), ("transfer", "", "", True)]  # fmt: skip
