"""Jobs tell that they live; jobs of other machines are judged by what is seen of them."""

import json
import subprocess
import sys
import threading
import time

import pytest

from expportrait.engine import heartbeat
from expportrait.engine.heartbeat import Heartbeat, Pulse, at_work, read_heartbeat, read_heartbeats, wait_for_another
from expportrait.errors import UserError
from expportrait.status.tidy import check_idle

# a job on "node7", whose clock is half an hour slow, that tells nothing new: it only lives
OTHER = """
import sys, time
from pathlib import Path
from expportrait.engine import heartbeat
heartbeat.HOST, heartbeat.BEAT = "node7", 0.1
now = time.time
time.time = lambda: now() - 1800
beat = heartbeat.Heartbeat(Path(sys.argv[1]), "crop", "d-0000", 3)
print(flush=True)
sys.stdin.readline()
beat.end(True)
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "logs" / "crop" / "d-0000.progress.json"


@pytest.fixture
def elsewhere(file):
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as job:
        job.stdout.readline()
        yield job
        job.kill()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(heartbeat, "DEAD", 2.0)


def waiting(file):
    """A thread that waits for another job of the file."""
    thread = threading.Thread(target=wait_for_another, args=(file, 0.05), daemon=True)
    thread.start()
    return thread


def test_a_job_of_another_machine_is_waited_for_to_its_end(file, elsewhere, impatient, capfd):
    thread = waiting(file)
    thread.join(3)
    assert thread.is_alive(), "longer than silence is put up with"
    elsewhere.stdin.write(b"\n")
    elsewhere.stdin.flush()
    thread.join(20)
    assert not thread.is_alive() and read_heartbeat(file)["ended"]
    assert f"process {elsewhere.pid} of another run on node7 may be at work on it" in capfd.readouterr().err


def test_a_job_of_another_machine_that_was_killed_is_not_waited_for(file, elsewhere, impatient):
    thread = waiting(file)
    elsewhere.kill()
    thread.join(20)
    assert not thread.is_alive() and not read_heartbeat(file)["ended"]


def test_what_was_killed_yesterday_is_not_even_looked_at(file, elsewhere):
    elsewhere.kill()
    elsewhere.wait()
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"updated": time.time() - 86400}))
    waiting(file).join(0)
    assert Pulse().feel([read_heartbeat(file)])[0]["alive"] is False


def test_the_file_may_vanish_and_come_back_while_it_is_read(file, elsewhere, impatient, monkeypatch):
    read, calls = type(file).read_text, []

    def stale(self, *arguments):
        calls.append(self)
        if len(calls) % 2:
            raise OSError(116, "Stale file handle")
        return read(self, *arguments)

    monkeypatch.setattr(type(file), "read_text", stale)
    assert read_heartbeat(file)["host"] == "node7"


def test_tidying_refuses_while_a_job_is_at_work_on_another_machine(tmp_path, elsewhere, impatient, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a Snakemake may be at work where the tests were started
    with pytest.raises(UserError, match=rf"^process {elsewhere.pid} on node7 is at work on crop d-0000: wait for its"):
        check_idle(tmp_path)
    assert "looking for up to" in capfd.readouterr().err
    elsewhere.kill()
    check_idle(tmp_path)


def test_a_job_that_tells_nothing_new_says_that_it_lives_but_not_that_it_moves(file, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 0.05)
    beat = Heartbeat(file, "crop", "d-0000", 3)
    first = read_heartbeat(file)
    while (later := read_heartbeat(file))["updated"] == first["updated"]:
        time.sleep(0.02)
    assert later["told"] == first["told"] and later["alive"]
    beat.end()
    last = file.read_bytes()
    time.sleep(0.2)
    assert file.read_bytes() == last and read_heartbeat(file)["alive"] is False


def test_a_folder_that_cannot_be_written_is_told_once_and_fails_nothing(tmp_path, capfd):
    (tmp_path / "logs").write_text("no folder")
    beat = Heartbeat(tmp_path / "logs" / "crop.progress.json", "crop", "d-0000", 3)
    beat._write()
    assert capfd.readouterr().err.count("cannot be written") == 1
    (tmp_path / "logs").unlink()
    beat.end()
    assert read_heartbeats(tmp_path)[0]["ended"]


def test_what_is_one_job_for_the_run_tells_what_it_has_done(tmp_path):
    with at_work(tmp_path, "evaluate", 3, "pairs") as beat:
        for number, pair in enumerate(beat.each([("a", "b"), ("b", "a"), ("b", "b")], "__".join)):
            assert beat.data["done"] == number and beat.data["now"] == "__".join(pair)
            beat.took(2.0)
    told = read_heartbeat(tmp_path / "logs" / "evaluate.progress.json")
    assert (told["done"], told["total"], told["computed"], told["seconds"]) == (3, 3, 3, 6.0)
    assert told["ended"] and (told["unit"], told["shard"]) == ("pairs", "")
