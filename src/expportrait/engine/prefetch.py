"""A GPU kept busy: frames are read ahead, packed and written in threads, and the next clip is computed meanwhile."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice, repeat
from typing import Any, TypeVar

from expportrait.machine import threads

T = TypeVar("T")
R = TypeVar("R")
CLIPS = 2  # in work at once: one that is computed, one that is still written
AHEAD = 2  # items that wait to be taken
_END: Any = object()


class Stopped(Exception):
    """The work ends early, because another clip met a fault, or because the job was told to."""


def worthwhile(device: str) -> bool:
    """A GPU computes while the processor reads and writes; without one, that takes a second thread."""
    return device.startswith("cuda") or threads() > 1


def ahead(items: Iterable[T], wanted: bool = True, size: int = AHEAD) -> "Generator[T] | Ahead[T]":
    """``items``, made in a thread of their own, from now on, while the caller works on those before, ``size`` of them
    at most. Not ``wanted``: as they are. ``close`` ends it early, also where nothing was taken.

    What making them raises is raised here. torch's ``no_grad`` and ``autocast`` are a thread's own: they have to stand
    where the items are made.
    """
    if not wanted:
        return (item for item in items)
    return Ahead(repeat(partial(next, iter(items), _END)), size, 1)


def by_workers(make: Callable[..., T], arguments: Iterable[tuple], workers: int) -> "Generator[T] | Ahead[T]":
    """``make(*arguments)`` of each, in their order whoever is done first, made by so many threads from now on: as many
    in the making as there are ``workers``, and one that waits to be taken. 0 workers: each where it is asked for.

    Threads and no processes, since what takes long (unpacking, copies, random numbers) lets others run. ``close`` and
    errors are as in ``ahead``.
    """
    jobs = (partial(make, *of) for of in arguments)
    return Ahead(jobs, workers + 1, workers) if workers else (job() for job in jobs)


class Ahead(Iterator[T]):
    """This iterator has ``workers`` threads do jobs, ``size`` of them begun before the caller takes what the first one
    gives (see ``ahead``). A job may say that there are no more by giving ``_END``."""

    def __init__(self, jobs: Iterator[Callable[[], T]], size: int, workers: int):
        self._jobs = jobs
        self._pool = ThreadPoolExecutor(workers, "ahead")
        self._waiting = deque(self._pool.submit(job) for job in islice(jobs, size))

    def __next__(self) -> T:
        if not self._waiting:
            self.close()
            raise StopIteration
        try:
            item = self._waiting.popleft().result()
        except BaseException:
            self.close()
            raise
        if item is _END:
            self.close()
            raise StopIteration
        self._waiting.extend(self._pool.submit(job) for job in islice(self._jobs, 1))
        return item

    def close(self) -> None:
        """Waits for the items that are being made; those behind them are never made."""
        self._waiting.clear()
        self._pool.shutdown(cancel_futures=True)
        self._jobs = iter(())

    __del__ = close


class Turns:
    """Who may use the models: the earliest clip that has not computed all that it has to. It then packs and writes, and
    the next one computes. Clips are numbered from 0."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._first = 0
        self._left: set[int] = set()
        self._stopped = False

    def wait(self, number: int) -> None:
        """Until it is the clip's turn. Raises Stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or number <= self._first)
        self.check()

    def leave(self, number: int) -> None:
        """The clip needs the models no more, or never did."""
        with self._changed:
            self._left.add(number)
            while self._first in self._left:
                self._first += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Nobody gets a turn any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def check(self) -> None:
        """Raises Stopped after ``stop``."""
        if self._stopped:
            raise Stopped


def in_order(function: Callable[[T], R], items: Iterable[T], at_once: int, turns: Turns) -> Iterator[tuple[T, R]]:
    """(item, function(item)) in the order of ``items``, ``at_once`` of them in work, each in a thread.

    What a function raises is raised here, at its item; then, and when the caller leaves early, those behind it are
    stopped.
    """
    if at_once == 1:
        yield from ((item, function(item)) for item in items)
        return
    working: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(at_once, "clip") as pool:
        try:
            for item in items:
                working.append((item, pool.submit(function, item)))
                if len(working) == at_once:
                    first, future = working.popleft()
                    yield first, future.result()
            while working:
                first, future = working.popleft()
                yield first, future.result()
        except BaseException:
            turns.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
