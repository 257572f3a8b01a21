"""A job tells how far it is, in a small file that others may read at any time."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from expportrait.progress import say

SECONDS = 3  # between two writings


class Heartbeat:
    """``results/logs/<stage>/<shard>.progress.json``, replaced in one step. ``file`` None: nothing is written.

    What is in it: ``counts`` (clips by status), ``done``, ``total``, ``computed``, ``seconds`` (spent on those),
    ``now`` (the clip in work), ``step`` (how far that is), ``started``, ``updated`` (Unix s), ``ended``, ``pid``,
    ``host``. Of a training, ``results/logs/<stage>.progress.json``, ``done``, ``total`` and ``computed`` count steps,
    ``shard`` is empty and ``now`` is the loss.
    """

    def __init__(self, file: Path | None, stage: str, shard: str, total: int):
        self.file, self._last, self._lock = file, 0.0, threading.Lock()
        self.data: dict[str, Any] = {
            "stage": stage, "shard": shard, "total": total, "done": 0, "counts": {}, "computed": 0, "seconds": 0.0,
            "now": "", "step": "", "started": time.time(), "updated": time.time(), "ended": False,
            "pid": os.getpid(), "host": socket.gethostname(),
        }  # fmt: skip
        self._write()

    def tell(self, **values: Any) -> None:
        """New values; written when the last writing is some seconds ago."""
        with self._lock:
            self.data |= values
            if time.monotonic() - self._last >= SECONDS:
                self._write()

    def trained(self, done: int, seconds: float, now: str) -> None:
        """One more step of a training, which took so long; ``done`` of them with those of earlier jobs."""
        self.tell(done=done, computed=self.data["computed"] + 1, seconds=self.data["seconds"] + seconds, now=now)

    def end(self, ended: bool = True) -> None:
        """The last word. ``ended`` False: the job goes down in the middle."""
        self.data |= {"ended": ended, "now": "", "step": "", "pid": self.data["pid"] if ended else 0}
        self._write()

    def _write(self) -> None:
        if self.file is None:
            return
        self._last = time.monotonic()
        self.data["updated"] = time.time()
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}.tmp")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self.data) + "\n", "utf-8")
            temporary.replace(self.file)
        except OSError as error:  # watching must not fail the work
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            say(f"{self.file} cannot be written ({error.strerror}); `expportrait watch` will not see this job")
            self.file = None


@contextmanager
def training(results: Path, stage: str, steps: int) -> Iterator[Heartbeat]:
    """Around a training; waits for another process that is still at it. Of several processes, one a GPU, the first
    one tells."""
    file = results / "logs" / f"{stage}.progress.json" if os.getenv("RANK", "0") == "0" else None
    if file:
        wait_for_another(file)
    beat, ended = Heartbeat(file, stage, "", steps), False
    try:
        yield beat
        ended = True
    finally:
        beat.end(ended)


def read_heartbeats(results: Path) -> list[dict[str, Any]]:
    """Of all jobs of the results folder, by stage and shard; each also says ``alive``: True, False, or None where the
    job is on another machine."""
    files = sorted((results / "logs").glob("**/*.progress.json"))
    return [data for data in map(read_heartbeat, files) if data]


def read_heartbeat(file: Path) -> dict[str, Any] | None:
    """One of them; None where there is none that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        data = json.loads(file.read_text("utf-8"))
        return data | {"alive": _alive(data)}
    return None


def wait_for_another(file: Path, every: float = 2.0) -> None:
    """Return when no other process of this machine works on the same shard.

    A killed Snakemake leaves jobs behind that go on; two at once would do everything twice.
    """
    told = 0.0
    while (other := read_heartbeat(file)) and other["alive"] and other["pid"] != os.getpid():
        if time.monotonic() - told > 60:
            told = time.monotonic()
            what = f"{other['stage']} {other['shard'] or 'training'}"
            say(f"{what}: process {other['pid']} of another run is at work on it; waiting")
        time.sleep(every)


def _alive(data: dict[str, Any]) -> bool | None:
    if data["ended"] or not data["pid"]:
        return False
    if data["host"] != socket.gethostname():
        return None
    try:  # the number may have gone to another process since
        process = psutil.Process(data["pid"])
        return process.create_time() <= data["started"] + 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
