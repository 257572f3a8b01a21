"""What was spent on each clip, pair and training that was computed: a line of JSON each, beside the shard's index.

``results/<stage>/<shard>.costs.jsonl``, with ``index`` for the shard where there is none. No rule names these files, so
they never make Snakemake run anything.
"""

import fcntl
import json
import os
import re
import resource
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expportrait.progress import say

ENDING = ".costs.jsonl"
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
PATIENCE = 20, 0.05  # tries for a lock, and s between them: where locks do not work, a line is worth no longer wait


@dataclass
class _Spent:
    """What one piece of work has used so far: s of the clock and of all cores, and the peak of memory in MiB."""

    wall: float = 0.0
    cpu: float = 0.0
    peak: float = 0.0
    own: bool = True  # the peak began with this piece of work, and not with the process


def cpu_seconds() -> float:
    """s that this process has used on all cores, and those that it started and that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


class _Process:
    """The use of this process, shared out evenly among the pieces of work that threads are at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work: list[_Spent] = []
        self._last = time.monotonic(), cpu_seconds()

    def begin(self) -> _Spent:
        """A piece of work that begins now, with a peak of its own where the kernel allows that."""
        with self._lock:
            self._look()
            spent = _Spent(own=reset_peak())
            self._at_work.append(spent)
            return spent

    def end(self, spent: _Spent) -> None:
        """``spent`` has now all that it took."""
        with self._lock:
            self._look()
            self._at_work.remove(spent)

    def _look(self) -> None:
        now = time.monotonic(), cpu_seconds()
        peak = peak_memory()
        for one in self._at_work:
            one.wall += (now[0] - self._last[0]) / len(self._at_work)
            one.cpu += (now[1] - self._last[1]) / len(self._at_work)
            one.peak = max(one.peak, peak)  # before the next piece of work sets it back
        self._last = now


_process = _Process()


@contextmanager
def billed(
    home: Path, shard: str, stage: str, clip: str = "", dataset: str = "", device: str = "cpu"
) -> Iterator[None]:
    """Write down what the work inside costs, however it ends. ``home``: the stage's folder; of a training, ``clip`` and
    ``dataset`` are empty. A bill that cannot be written is said, and stops nothing."""
    spent, made = _process.begin(), False
    try:
        yield
        made = True
    finally:
        _process.end(spent)
        line = {
            "stage": stage, "clip": clip, "dataset": dataset, "made": made, "wall": round(spent.wall, 3),
            "cpu": round(spent.cpu, 3), "peak_mib": round(spent.peak), "peak_of": "clip" if spent.own else "process",
            "device": device, "host": socket.gethostname(), "time": round(time.time()),
        }  # fmt: skip
        file = home / f"{shard or 'index'}{ENDING}"
        try:
            append(file, line)
        except OSError as error:
            say(f"{file} cannot be written: {error.strerror or error}")


def append(file: Path, line: dict[str, Any]) -> None:
    """Add a line of JSON to a file that others may add to at the same time, on other machines too: under a lock, where
    the file system has them, and in one piece. Half a line, as a full disk leaves, is closed first. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    number = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        _lock(number)
        size = os.fstat(number).st_size
        torn = size > 0 and os.pread(number, 1, size - 1) != b"\n"
        os.write(number, ("\n" * torn + json.dumps(line, sort_keys=True) + "\n").encode())
    finally:
        os.close(number)  # which also unlocks it


def _lock(number: int) -> None:
    tries, seconds = PATIENCE
    for _ in range(tries):
        with suppress(OSError):
            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(seconds)


def read_costs(results: Path) -> Iterator[dict[str, Any]]:
    """All lines below the results' folder; those that cannot be read are left out."""
    for file in sorted([*results.glob(f"*/*{ENDING}"), *results.glob(f"*/*/*{ENDING}")]):
        yield from read_bill(file)


def read_bill(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of one file."""
    with suppress(OSError):
        yield from _whole(file.read_text("utf-8", "replace").splitlines())


def _whole(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for text in lines:
        with suppress(ValueError, TypeError, KeyError):
            line = json.loads(text)
            numbers = {name: float(line[name]) for name in ("wall", "cpu", "peak_mib")}
            texts = {name: str(line[name]) for name in ("stage", "clip", "dataset", "peak_of", "device")}
            yield line | numbers | texts | {"made": bool(line["made"])}


def peak_memory() -> float:
    """MiB that this process has held at most, since its start or since the last ``reset_peak``."""
    with suppress(OSError, TypeError):
        return int(_PEAK.search(_STATUS.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reset_peak() -> bool:
    """Have the peak begin anew, at what the process holds now. False where the kernel does not allow it."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True
