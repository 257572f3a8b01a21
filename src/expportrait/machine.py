"""The machine: its faults (memory, disk, GPU) told from the clip's, its threads, its processes."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from expportrait.errors import ClipError, MachineFault, StageBroken, UserError

_NAMES = ("ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EIO", "ENOMEM", "EMFILE", "ENFILE", "ESTALE", "ETIMEDOUT", "EREMOTEIO",
          "ENODEV")  # fmt: skip
ERRNO = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}  # not every system has all of them
_TYPES = ("OutOfMemoryError", "AcceleratorError", "DistBackendError", "DistNetworkError")  # of torch, not imported here
_TEXTS = ("cuda error", "out of memory", "can't allocate memory", "no cuda gpus", "nvidia driver", "cudnn",
          "cublas", "cudaerror", "cuda failure", "failed to allocate", "insufficient memory", "bad_alloc",
          "bad allocation", "connection closed by peer", "connection reset by peer")  # fmt: skip
_LIBRARIES = ("onnxruntime", "cv2")  # their errors are no RuntimeErrors


def machine_fault(error: BaseException | None) -> str | None:
    """One sentence when the error, or one that led to it, is the machine's; None for others, and for known reasons."""
    if isinstance(error, ClipError | UserError | StageBroken):
        return None
    while error is not None:
        # a decoder reports damaged files with the numbers of the operating system
        decoder = type(error).__module__.startswith("av.")
        by_type = isinstance(error, MachineFault | MemoryError) or type(error).__name__ in _TYPES
        by_number = isinstance(error, OSError) and error.errno in ERRNO
        library = isinstance(error, RuntimeError) or type(error).__module__.split(".")[0] in _LIBRARIES
        by_text = library and any(text in str(error).lower() for text in _TEXTS)
        if by_type or by_text or (by_number and not decoder):
            text = str(error).strip().splitlines()
            return text[0] if isinstance(error, MachineFault) else f"{type(error).__name__}: {''.join(text[:1])}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


@contextmanager
def machine_faults() -> Iterator[None]:
    """Inside, whatever is the machine's fault is raised as MachineFault."""
    try:
        yield
    except MachineFault:
        raise
    except Exception as error:
        fault = machine_fault(error)
        if fault is None:
            raise
        raise MachineFault(f"the machine failed, nothing is wrong with the clips: {fault}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong while results are written is the machine's fault: raised as MachineFault."""
    try:
        yield
    except OSError as error:
        raise MachineFault(f"{path} cannot be written: {error.strerror or error}") from error


def threads() -> int:
    """How many threads the job may keep busy: ``OMP_NUM_THREADS``, which Snakemake sets from the rule, else all."""
    told = os.getenv("OMP_NUM_THREADS", "")
    return max(1, int(told)) if told.isdigit() else len(os.sched_getaffinity(0))


def alive(pid: int) -> bool:
    """Whether a process of this machine has that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def aside(function: Callable, *arguments: Any) -> Any:
    """What ``function``, of a module's top level, returns or raises when called in a process of its own, whose memory
    is free again afterwards; an interrupt ends it too. The program that calls this stands below ``if __name__ ==
    "__main__"``. Raises MachineFault where that process is ended from outside."""
    context = get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    try:
        with told, ProcessPoolExecutor(1, context, end_with_parent, (told,)) as pool, tell:
            return pool.submit(function, *arguments).result()
    except BrokenProcessPool:
        raise MachineFault(f"the process that ran {function.__name__} was ended, by the machine's memory or by "
                           "somebody") from None  # fmt: skip


def end_with_parent(told: Connection) -> None:
    """End this process of a pool, in the middle of its work, when its parent ends or closes the other end of ``told``.
    Else it outlives a killed parent, whose output it holds open, so that a job's log never ends; and a parent that is
    interrupted waits for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it goes to all processes of a terminal; the parent ends this one
    parent = parent_process().sentinel

    def end() -> None:
        wait([parent, told])
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
