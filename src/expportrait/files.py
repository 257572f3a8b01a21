"""Files: never seen half-written, and told apart by their sha256."""

import errno
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, TextIO

from expportrait.errors import MachineFault, UserError
from expportrait.machine import alive


def beside(path: Path) -> Path:
    """A temporary sibling of ``path``, of this process alone: two machines may write the same, and in containers
    processes have equal numbers. Its name has 32 characters, however long those of file and machine are."""
    return path.with_name(f"{_prefix(path)}{os.getpid():010d}.tmp")


def temporaries(folder: Path) -> list[str]:
    """Names of what ``beside`` may have made there."""
    return [name for name in os.listdir(folder) if name.startswith(".") and ".tmp" in name]


def leftovers(path: Path, names: Iterable[str]) -> Iterator[tuple[Path, int]]:
    """Which of the temporary siblings' ``names`` processes of this machine made by ``beside(path)``, with ``.old``
    behind it too, and their numbers."""
    earlier = f".{path.name}.{socket.gethostname()}."  # the form of versions before this one
    for name in names:
        for prefix in (_prefix(path), earlier):
            number = name.removeprefix(prefix).removesuffix(".old").removesuffix(".tmp")
            if name.startswith(prefix) and number.isdigit():
                yield path.with_name(name), int(number)


def remove_leftovers(path: Path, names: Iterable[str] | None = None) -> None:
    """What processes of this machine that are dead, or this one, have left of ``beside(path)``. ``names``: the
    folder's ``temporaries``, where they are known."""
    own = beside(path).name
    names = temporaries(path.parent) if names is None else {*names, own, f"{own}.old"}
    for leftover, pid in leftovers(path, names):
        if pid == os.getpid() or not alive(pid):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                with suppress(OSError):
                    leftover.unlink()


def put_folder(made: Path, place: Path) -> None:
    """Rename the folder ``made``, a sibling, to ``place``, and remove what was there; another process may put something
    there in between."""
    old = made.with_name(f"{made.name}.old")
    while True:
        with suppress(FileNotFoundError):
            place.rename(old)
        try:
            made.rename(place)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """An empty folder beside ``place`` to be filled, that takes its place when the block ends well, and is gone where
    it does not."""
    place.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(place)
    folder = beside(place)
    folder.mkdir()
    try:
        yield folder
        put_folder(folder, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def temporary_file() -> IO[bytes]:
    """A file without a name in the temporary folder, gone when it is closed. Raises MachineFault where there is none
    that can be written."""
    with in_temporary_folder():
        return tempfile.TemporaryFile()


@contextmanager
def in_temporary_folder() -> Iterator[None]:
    """What goes wrong while temporary files are written is the machine's fault: raised as MachineFault, which names the
    folder, since it is not the one of the results."""
    try:
        yield
    except OSError as error:
        asked = os.getenv("TMPDIR") or "/tmp"
        try:
            folder = tempfile.gettempdir()
        except FileNotFoundError:  # Python looks for a folder in which it can write, and there is none
            folder = asked
        raise MachineFault(f"the temporary folder {folder} cannot be written: {error.strerror or error}; make room "
                           "there, or name another one in TMPDIR") from error  # fmt: skip


def replace_file(file: Path, data: bytes) -> Path:
    """Write ``file``, whole or not at all; its folder is made where it is missing. Raises OSError, which names it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(file)
    try:
        temporary.write_bytes(data)
        temporary.replace(file)
    except OSError as error:
        error.filename = str(file)  # a full disk is noticed by the bytes, which say nothing of where they go
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return file


@contextmanager
def new_file(file: Path) -> Iterator[TextIO]:
    """A file to be written bit by bit, UTF-8, that takes the place of ``file`` when the block ends well. Raises
    OSError, which names it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(file)
    try:
        with temporary.open("w", encoding="utf-8", errors="replace", newline="") as stream:
            yield stream
        temporary.replace(file)
    except OSError as error:
        error.filename = error.filename or str(file)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sha256(file: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal digits. Raises UserError where the file cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None


def sha256_known(file: Path) -> str:
    """The same, worked out once for as long as the file's size and its time of change stay as they are."""
    found = file.stat()
    return _remembered(file, found.st_size, found.st_mtime_ns)


@lru_cache
def _remembered(file: Path, size: int, changed: int) -> str:
    return sha256(file)


def url(path: Path) -> str:
    """The name of a file as FFmpeg takes it: as that of a file, also where a colon in it looks like a protocol's."""
    return f"file:{path}"


def _prefix(path: Path) -> str:
    of = os.fsencode(f"{socket.gethostname()}/{path.name}")
    return f".{hashlib.sha256(of).hexdigest()[:16]}."
