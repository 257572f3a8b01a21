"""Clips that fail, machines that fail, jobs that are killed."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from expportrait.engine.heartbeat import read_heartbeats
from expportrait.errors import UserError
from expportrait.options import configuration
from expportrait.status.tidy import check_idle

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


@pytest.mark.parametrize(("what", "said"), [("full", "OSError"), ("gpu", "OutOfMemoryError: CUDA out of memory")])
def test_a_fault_of_the_machine_fails_the_job_and_is_never_the_clips(disturbed, what, said):
    order(disturbed, "bob", f"landmarks {what}")
    done = disturbed.snakemake(LANDMARKS, "--configfile", "over.yaml")
    assert done.returncode != 0
    assert "expportrait: the machine failed, nothing is wrong with the clips: " + said in done.stdout
    assert "Traceback" not in done.stdout
    assert not (disturbed.folder / "results/landmarks/bob.failed.json").exists()
    (disturbed.folder / "orders/bob").unlink()
    disturbed.run(LANDMARKS, "--configfile", "over.yaml")
    assert disturbed.work() == ["landmarks ann", "landmarks bob"], "ann was kept, only bob done in the second run"


def start(project, *arguments):
    """A run in the background, in a process group of its own."""
    command = project.command(*arguments, "--configfile", "over.yaml")
    (project.folder / "over.log").touch()
    with (project.folder / "over.log").open("a") as log:
        return subprocess.Popen(command, cwd=project.folder, env=project.environment(), start_new_session=True,
                                stdout=log, stderr=subprocess.STDOUT)  # fmt: skip


def until(run, condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end and run.poll() is None
        time.sleep(0.1)


def started(project):
    """A run that stands still in the middle of bob's landmarks; and the number of the job's process."""
    order(project, "bob", "landmarks wait")
    run, waiting = start(project, LANDMARKS), project.folder / "waiting"
    until(run, lambda: waiting.exists() and waiting.read_text())
    left = [path.name for path in (project.folder / "results/landmarks").glob(".*.tmp")]
    assert len(left) == 1, "in mid-write"
    return run, int(waiting.read_text())


def finish(project):
    """Let the clip go on, and run again."""
    (project.folder / "go").touch()
    project.run(LANDMARKS, "--configfile", "over.yaml")
    assert project.work() == ["landmarks ann", "landmarks bob"], "ann before the kill, bob after it, each once"
    assert not list((project.folder / "results/landmarks").glob(".*"))
    assert project.plan(LANDMARKS, "--configfile", "over.yaml") == {}


def test_a_kill_of_everything_costs_one_clip(disturbed):
    run, _ = started(disturbed)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    disturbed.run("--unlock")
    finish(disturbed)


def test_a_kill_of_a_job_costs_one_clip(disturbed):
    run, job = started(disturbed)
    os.kill(job, signal.SIGKILL)
    assert run.wait() != 0
    finish(disturbed)


def test_after_a_kill_of_snakemake_alone_the_next_run_waits_for_its_job(disturbed):
    run, job = started(disturbed)
    run.kill()
    run.wait()
    disturbed.run("--unlock")
    again = start(disturbed, LANDMARKS)
    said = f"landmarks films-0000: process {job} of another run is at work on it; waiting"
    until(again, lambda: said in disturbed.read("over.log"))
    (disturbed.folder / "go").touch()
    assert again.wait() == 0
    finish(disturbed)


def test_a_second_run_in_the_same_folder_is_turned_away(disturbed):
    run, _ = started(disturbed)
    second = disturbed.snakemake(LANDMARKS, "--configfile", "over.yaml")
    assert second.returncode != 0 and "Directory cannot be locked" in second.stdout
    assert "Traceback" not in second.stdout
    (disturbed.folder / "go").touch()
    assert run.wait() == 0
    finish(disturbed)


def test_nothing_is_tidied_while_a_run_started_in_another_folder_goes_on(disturbed, tmp_path, monkeypatch):
    config = configuration(disturbed.folder / "data_manifest.csv", disturbed.folder / "results")
    monkeypatch.chdir(tmp_path)
    run, _ = started(disturbed)
    beats = read_heartbeats(config.results, runs=True)
    assert {beat["stage"] for beat in beats if beat["alive"]} == {"landmarks", "snakemake"}
    for file in config.results.glob("logs/landmarks/*.progress.json"):
        file.unlink()  # as if its jobs were waiting for their turn on a cluster
    with pytest.raises(
        UserError, match=rf"^process {run.pid} on \S+ is at work on a run of Snakemake: wait for its end"
    ):
        check_idle(config.results)
    (disturbed.folder / "go").touch()
    assert run.wait() == 0
    check_idle(config.results)
    assert all(beat["ended"] for beat in read_heartbeats(config.results, runs=True))


def test_a_damaged_store_is_found_marked_and_healed(disturbed):
    chunk = disturbed.folder / "results/crop/bob.zarr/x/c/0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 255
    chunk.write_bytes(data)
    done = disturbed.snakemake(LANDMARKS, "--configfile", "over.yaml")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "landmarks: damaged stores, the first one: results/crop/bob.zarr is damaged" in done.stdout
    assert not list(disturbed.folder.glob("results/*/*.failed.json")), "not the clip's fault"
    assert not (disturbed.folder / LANDMARKS).exists()
    assert disturbed.work() == ["landmarks ann"]
    disturbed.run(LANDMARKS, "--configfile", "over.yaml")
    assert disturbed.work() == ["crop bob", "landmarks bob"]


def test_after_a_failed_job_the_next_run_goes_on_though_nothing_has_changed(project):
    order(project, "bob", "landmarks full")
    (project.folder / "results/landmarks/bob.zarr/zarr.json").unlink()
    assert project.snakemake("--forcerun", "landmarks").returncode != 0
    (project.folder / "orders/bob").unlink()
    assert project.plan()["landmarks"] == 1
    project.run()
    assert project.work() == ["landmarks bob"]


@pytest.fixture
def mounted(disturbed):
    """Mounts something over results/landmarks; skips where that is not allowed."""
    folder, mounts = disturbed.folder / "results/landmarks", []

    def mount(*options):
        done = subprocess.run(["mount", *options, "tmpfs", str(folder)], capture_output=True, text=True)
        if done.returncode and not mounts:
            pytest.skip(f"file systems can be mounted by root only: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounts.append(folder)

    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    yield mount
    if mounts:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(disturbed, mounted):
    mounted("-t", "tmpfs", "-o", "size=20k")
    done = disturbed.snakemake(LANDMARKS, "--configfile", "over.yaml")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "cannot be written: No space left on device" in done.stdout
    assert not list((disturbed.folder / "results/landmarks").glob("*.json"))
    mounted("-o", "remount,size=10m")
    disturbed.run(LANDMARKS, "--configfile", "over.yaml")
    work = disturbed.work()
    assert work.count("landmarks ann") == 1 and {*work} == {"landmarks ann", "landmarks bob"}, "what fitted was kept"


def test_a_folder_that_cannot_be_written(disturbed, mounted):
    mounted("-t", "tmpfs", "-o", "ro")
    done = disturbed.snakemake(LANDMARKS, "--configfile", "over.yaml")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "expportrait: results/landmarks cannot be written: is its file system read-only" in done.stdout
    mounted("-o", "remount,rw")
    disturbed.run(LANDMARKS, "--configfile", "over.yaml")
    assert disturbed.work() == ["landmarks ann", "landmarks bob"]
