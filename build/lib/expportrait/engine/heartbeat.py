"""A job tells how far it is, and that it lives, in a small file that others may read at any time."""

import atexit
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from expportrait.files import replace_file
from expportrait.progress import say

T = TypeVar("T")
HOST = socket.gethostname()
RUN = "snakemake"  # stands for the stage where it is Snakemake itself

SECONDS = 3  # between two writings
BEAT = 10  # s; as often it is written though nothing is new, which says that the job lives
# s without a beat after which a job of another machine is taken for dead: a client of NFS may see a file as it was a
# minute ago (acregmax, acdirmax), a beat comes every ten seconds, and a node that swaps may miss some
DEAD = 120
OLD = 3600  # s; as far, no two clocks of a cluster are apart


class Heartbeat:
    """``results/logs/<stage>/<shard>.progress.json``, replaced in one step. ``file`` None: nothing is written.

    What is in it: ``counts`` (clips by status), ``done``, ``total``, ``computed``, ``seconds`` (spent on those),
    ``now`` (the clip in work), ``step`` (how far that is), ``started``, ``told`` (when there was something new) and
    ``updated`` (when it was written: while the job lives, every ten seconds at least; Unix s of the job's clock),
    ``ended``, ``pid`` (0 where the job went down in the middle), ``host``, ``unit`` (what is counted). Of what is one
    job for the whole run, such as a training, it is ``results/logs/<stage>.progress.json`` with an empty ``shard``; of
    a training, steps are counted and ``now`` is the loss.
    """

    def __init__(self, file: Path | None, stage: str, shard: str, total: int, unit: str = "clips"):
        self.file, self._last, self._lock, self._silent = file, 0.0, threading.Lock(), False
        now = time.time()
        self.data: dict[str, Any] = {
            "stage": stage, "shard": shard, "total": total, "done": 0, "counts": {}, "computed": 0, "seconds": 0.0,
            "now": "", "step": "", "started": now, "told": now, "updated": now, "ended": False, "pid": os.getpid(),
            "host": HOST, "unit": unit,
        }  # fmt: skip
        self._over = threading.Event()
        self._write()
        if file:
            threading.Thread(target=self._live, name="heartbeat", daemon=True).start()

    def tell(self, **values: Any) -> None:
        """New values; written when the last writing is some seconds ago."""
        with self._lock:
            self.data |= values | {"told": time.time()}
            if time.monotonic() - self._last >= SECONDS:
                self._write()

    def each(self, items: Iterable[T], name: Callable[[T], str] = str) -> Iterator[T]:
        """``items``, one after the other; what has become of one is told when the next is asked for."""
        for item in items:
            self.tell(now=name(item))
            yield item
            self.tell(done=self.data["done"] + 1)

    def took(self, seconds: float) -> None:
        """One was computed, and not found done."""
        self.tell(computed=self.data["computed"] + 1, seconds=self.data["seconds"] + seconds)

    def trained(self, done: int, seconds: float, now: str) -> None:
        """One more step of a training, which took so long; ``done`` of them with those of earlier jobs."""
        self.tell(done=done, computed=self.data["computed"] + 1, seconds=self.data["seconds"] + seconds, now=now)

    def end(self, ended: bool = True) -> None:
        """The last word. ``ended`` False: the job goes down in the middle."""
        self._over.set()
        with self._lock:
            self.data |= {"ended": ended, "now": "", "step": "", "pid": self.data["pid"] if ended else 0}
            self._write()

    def _live(self) -> None:
        while not self._over.wait(BEAT):
            with self._lock:
                if not self._over.is_set():
                    self._write()

    def _write(self) -> None:
        if self.file is None:
            return
        self._last = time.monotonic()
        self.data["updated"] = time.time()
        try:
            replace_file(self.file, (json.dumps(self.data) + "\n").encode())
            self._silent = False
        except OSError as error:  # watching must not fail the work
            if not self._silent:
                say(f"{self.file} cannot be written ({error.strerror}): while that is so, others do not see this job")
            self._silent = True


@contextmanager
def at_work(results: Path, stage: str, total: int, unit: str) -> Iterator[Heartbeat]:
    """Around what is one job for the whole run; waits for another process that is still at it. Of several processes,
    one a GPU, the first one tells. ``unit``: what ``total`` counts, such as steps."""
    file = results / "logs" / f"{stage}.progress.json" if os.getenv("RANK", "0") == "0" else None
    with beating(file, stage, "", total, unit) as beat:
        yield beat


@contextmanager
def beating(file: Path | None, stage: str, shard: str, total: int, unit: str) -> Iterator[Heartbeat]:
    """The same in a file that is named, such as that of a shard; where it is None, nobody is told or waited for."""
    if file:
        wait_for_another(file)
    beat, ended = Heartbeat(file, stage, shard, total, unit), False
    try:
        yield beat
        ended = True
    finally:
        beat.end(ended)


def training(results: Path, stage: str, steps: int) -> AbstractContextManager[Heartbeat]:
    """``at_work``, of a training."""
    return at_work(results, stage, steps, "steps")


def running(results: Path) -> str:
    """Says from now on, to the end of this process, that a Snakemake is at work on the results; returns a warning where
    another one is already. (Its locks are in the folder where it was started.)"""
    file = results / "logs" / f"{RUN}.progress.json"
    other = read_heartbeat(file)
    atexit.register(Heartbeat(file, RUN, "", 0, "jobs").end)
    if other and other["alive"]:
        return f"{doing(other)}, on {results}, started in another folder: jobs of both wait for one another"
    return ""


def read_heartbeats(results: Path, runs: bool = False) -> list[dict[str, Any]]:
    """Of all jobs of the results folder, by stage and shard; each also says ``alive``: True, False, or None where the
    job is on another machine, which ``Pulse`` finds out. ``runs``: also of Snakemake itself."""
    files = sorted((results / "logs").glob("**/*.progress.json"))
    return [data for data in map(read_heartbeat, files) if data and (runs or data["stage"] != RUN)]


def read_heartbeat(file: Path) -> dict[str, Any] | None:
    """One of them; None where there is none that can be read."""
    for _ in range(3):
        try:
            data = {"unit": "clips"} | json.loads(file.read_text("utf-8"))
            return data | {"told": data.get("told", data["updated"]), "alive": _alive(data)}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):  # over a network, a file may be replaced under the reader
            continue
    return None


class Pulse:
    """Whether jobs are alive, over several looks: a job of another machine is, while its file changes under our eyes.
    Two clocks are not compared, since they may differ."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[tuple, float, bool | None]] = {}

    def feel(self, beats: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """``read_heartbeats``' with ``alive`` as far as it is known: None where one has to look again."""
        return [beat if beat["alive"] is not None else beat | {"alive": self._elsewhere(beat)} for beat in beats]

    def _elsewhere(self, beat: dict[str, Any]) -> bool | None:
        job, word, now = (beat["stage"], beat["shard"]), (beat["host"], beat["pid"], beat["updated"]), time.monotonic()
        if job not in self._seen:
            self._seen[job] = word, now, False if time.time() - beat["updated"] > OLD else None
        last, since, _ = self._seen[job]
        if word != last:
            self._seen[job] = word, now, True
        elif now - since > DEAD:
            self._seen[job] = last, since, False
        return self._seen[job][2]


def wait_for_another(file: Path, every: float = 2.0) -> None:
    """Return when no other process works on the same shard, on this machine or another.

    A killed Snakemake leaves jobs behind that go on; two at once would do everything twice.
    """
    pulse, told = Pulse(), 0.0
    while other := read_heartbeat(file):
        alive = pulse.feel([other])[0]["alive"]
        if alive is False or (other["pid"], other["host"]) == (os.getpid(), HOST):
            return
        if time.monotonic() - told > 60:
            told = time.monotonic()
            say(f"{named(other)}: {doing(other | {'alive': alive})}; waiting")
        time.sleep(every)


def named(beat: dict[str, Any]) -> str:
    """What a job does, such as "crop films-0003"."""
    if beat["stage"] == RUN:
        return "a run of Snakemake"
    return f"{beat['stage']} {beat['shard'] or ('training' if beat['unit'] == 'steps' else 'of all')}"


def doing(beat: dict[str, Any]) -> str:
    """Returns who is at work on something, as a clause that a message can end with."""
    who = f"process {beat['pid']} of another run" + (f" on {beat['host']}" if beat["host"] != HOST else "")
    if beat["alive"] is None:
        return f"{who} may be at work on it, which is seen within {DEAD} s"
    return f"{who} is at work on it"


def _alive(data: dict[str, Any]) -> bool | None:
    if data["ended"] or not data["pid"]:
        return False
    if data["host"] != HOST:
        return None
    try:  # the number may have gone to another process since
        process = psutil.Process(data["pid"])
        return process.create_time() <= data["started"] + 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
