"""The videos, gone through by several processes. Each keeps what it found; whatever ends them, no video is lost."""

import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from expportrait.errors import ClipError, MachineFault
from expportrait.importers.split import records
from expportrait.importers.split.sources import Source
from expportrait.machine import end_with_parent, machine_fault
from expportrait.progress import OVERALL, bar, say
from expportrait.settings.config import Config

WATCHED = 0.5  # s between two looks at how far the processes are
_worker: "_Worker"


def work(sources: list[Source], folder: Path, config: Config, jobs: int) -> dict[str, dict[str, Any]]:
    """Name -> record of each video: those that are there already, and all others, made in ``jobs`` processes.

    Raises MachineFault where the machine fails; the records that were made are kept.
    """
    done: dict[str, dict[str, Any]] = {}
    wanted: list[tuple[Source, str]] = []
    for source in sources:
        if (name := str(source.path)) != name.strip() or name.encode("utf-8", "replace").decode() != name:
            done[source.name] = _failed(f"the name of the source {name!r} is not UTF-8, or has blanks at an end", "")
            say(f"split: {done[source.name]['fault']}")
            continue
        try:
            key = records.key_of(source, config)
        except OSError as error:
            done[source.name] = _failed(f"the source {source.path} cannot be read: {error.strerror}", "")
            say(f"split: {done[source.name]['fault']}")
            continue
        record = records.read(folder, source, key)
        if record is None:
            wanted.append((source, key))
        else:
            done[source.name] = record
    if wanted:
        done |= _made(wanted, folder, config, jobs)
    return done


def _made(wanted: list[tuple[Source, str]], folder: Path, config: Config, jobs: int) -> dict[str, dict[str, Any]]:
    context = multiprocessing.get_context("spawn")  # MediaPipe's threads do not survive a fork
    shares, (told, tell) = context.Array("d", len(wanted), lock=False), context.Pipe(duplex=False)
    sizes = [max(1, os.path.getsize(source.path)) for source, _ in wanted]
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes to come: with more, last digits depend on their number
    pool = ProcessPoolExecutor(min(jobs, len(wanted)), context, _begin, (config, shares, told))
    done: dict[str, dict[str, Any]] = {}
    try:
        waiting = {
            pool.submit(_one, number, source, key, folder): source for number, (source, key) in enumerate(wanted)
        }
        with bar(sum(sizes), "split", form=OVERALL) as shown:
            while waiting:
                finished, _ = wait(waiting, WATCHED, FIRST_COMPLETED)
                for future in finished:
                    source = waiting.pop(future)
                    done[source.name] = future.result()
                    if fault := done[source.name]["fault"]:
                        say(f"split: {fault}")
                shown.update(round(sum(size * share for size, share in zip(sizes, shares, strict=True))) - shown.n)
    except BrokenProcessPool:
        raise MachineFault("a process that looked at a video was ended, by the machine's memory or by somebody; "
                           "what is finished is kept: start again, with fewer --jobs") from None  # fmt: skip
    finally:
        tell.close()
        pool.shutdown(cancel_futures=True)
        told.close()
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads
    return done


def _failed(fault: str, key: str) -> dict[str, Any]:
    return {"key": key, "fault": fault, "length": 0.0, "clips": [], "left": []}


# In the processes


class _Worker:
    """What a process holds from video to video."""

    def __init__(self, config: Config, shares: Any) -> None:
        from expportrait.importers.split.watch import Tools

        self.config, self.shares, self.tools = config, shares, Tools()


def _begin(config: Config, shares: Any, told: Connection) -> None:
    global _worker
    end_with_parent(told)
    import cv2

    cv2.setNumThreads(1)
    _worker = _Worker(config, shares)


def _one(number: int, source: Source, key: str, folder: Path) -> dict[str, Any]:
    """The record of a video, which is written before anybody is told."""
    from expportrait.importers.split.source import split

    def heard(share: float) -> None:
        _worker.shares[number] = share

    path = str(source.path)
    try:
        record = {"key": key, "fault": ""} | split(path, _worker.config, _worker.tools, heard)
    except ClipError as error:
        record = _failed(error.reason, key)
    except Exception as error:
        if fault := machine_fault(error):
            raise MachineFault(fault) from None
        return _failed(f"{path}: unforeseen {type(error).__name__}: {error}", key)  # not kept: it is tried again
    records.write(folder, source, record)
    heard(1.0)
    return record
