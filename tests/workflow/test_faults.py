"""Clips that fail, machines that fail, jobs that are killed."""

import json
import os
import signal
import subprocess
import time

import pytest

LANDMARKS = "results/landmarks/films-0000.json"


@pytest.fixture
def disturbed(project):
    """The finished run, with landmarks to be made again."""
    project.write("over.yaml", "landmarks: {max_gap: 3}")
    return project


def order(project, clip, what):
    project.write(f"orders/{clip}", what)


def test_a_rejected_clip_fails_no_job_and_its_children_are_skipped(disturbed):
    order(disturbed, "bob", "landmarks reject")
    disturbed.run("--configfile", "over.yaml")
    index = json.loads(disturbed.read("results/control/films-0000.json"))
    assert index["ann"]["status"] == "ok"
    assert index["bob"] == {"status": "skipped", "key": None, "why": "landmarks: ordered"}
    assert disturbed.plan("--configfile", "over.yaml") == {}
    assert "landmarks bob" not in disturbed.work()
    (disturbed.folder / "orders/bob").unlink()
    disturbed.run(LANDMARKS, "--configfile", "over.yaml", "--forcerun", "landmarks")
    assert disturbed.work() == [], "an equal key must not be tried again"


def test_an_unforeseen_error_is_recorded_and_tried_again(disturbed):
    order(disturbed, "bob", "landmarks crash")
    text = disturbed.run(LANDMARKS, "--configfile", "over.yaml")
    assert "Traceback" in text and "Traceback" in disturbed.read("results/logs/landmarks/films-0000.log")
    assert json.loads(disturbed.read(LANDMARKS))["bob"]["why"] == "unforeseen ValueError: ordered"
    (disturbed.folder / "orders/bob").unlink()
    disturbed.work()
    disturbed.run(LANDMARKS, "--configfile", "over.yaml", "--forcerun", "landmarks")
    assert disturbed.work() == ["landmarks bob"]


def test_a_full_disk_fails_the_job_and_is_never_the_clips_fault(disturbed):
    order(disturbed, "bob", "landmarks full")
    done = disturbed.snakemake(LANDMARKS, "--configfile", "over.yaml")
    assert done.returncode != 0
    assert "expportrait: the machine failed, nothing is wrong with the clips: OSError" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (disturbed.folder / "results/landmarks/bob.failed.json").exists()
    (disturbed.folder / "orders/bob").unlink()
    disturbed.run(LANDMARKS, "--configfile", "over.yaml")
    assert disturbed.work() == ["landmarks ann", "landmarks bob"], "ann was kept, only bob done in the second run"


def test_a_kill_in_the_middle_of_a_shard_costs_one_clip(disturbed):
    order(disturbed, "bob", "landmarks wait")
    command = disturbed.command(LANDMARKS, "--configfile", "over.yaml")
    run = subprocess.Popen(command, cwd=disturbed.folder, env=disturbed.environment(), start_new_session=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    until = time.monotonic() + 60
    while not (disturbed.folder / "waiting").exists():
        assert time.monotonic() < until and run.poll() is None
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    left = [path.name for path in (disturbed.folder / "results/landmarks").glob(".bob.zarr.*")]
    assert len(left) == 1
    (disturbed.folder / "orders/bob").unlink()
    disturbed.run("--unlock")
    disturbed.run(LANDMARKS, "--configfile", "over.yaml")
    assert disturbed.work() == ["landmarks ann", "landmarks bob"], "ann before the kill, bob after it, each once"
    assert not list((disturbed.folder / "results/landmarks").glob(".bob.zarr.*"))
    assert disturbed.plan(LANDMARKS, "--configfile", "over.yaml") == {}
