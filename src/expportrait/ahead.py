"""Work that goes on while its results are used."""

from collections.abc import Iterable, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 0.2  # s between two looks whether anybody still wants the results
END = object()


def ahead(items: Iterable[T], size: int = 1) -> Iterator[T]:
    """``items`` in their order, made by another thread, up to ``size`` of them before they are asked for.

    For what leaves the interpreter alone while it works: networks, arrays, codecs. What fails there fails here. A
    consumer that stops early stops the work too.
    """
    queue: Queue = Queue(size)
    stopped = Event()

    def put(entry: tuple) -> bool:
        while not stopped.is_set():
            try:
                queue.put(entry, timeout=PATIENCE)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
        except BaseException as error:
            put((END, error))
        else:
            put((END, None))

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
