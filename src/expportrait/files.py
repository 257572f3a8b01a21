"""Files that are never seen half-written."""

import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from expportrait.errors import MachineFault


def beside(path: Path) -> Path:
    """A temporary sibling of ``path``, of this process alone: two machines may write the same, and in containers
    processes have equal numbers. Its name has 32 characters, however long those of file and machine are."""
    return path.with_name(f"{_prefix(path)}{os.getpid():010d}.tmp")


def leftovers(path: Path) -> Iterator[tuple[Path, int]]:
    """What processes of this machine made by ``beside(path)``, with ``.old`` behind it too, and their numbers."""
    earlier = f".{path.name}.{socket.gethostname()}."  # the form of versions before this one
    prefixes = (_prefix(path), earlier)
    for sibling in path.parent.iterdir():
        for prefix in prefixes:
            number = sibling.name.removeprefix(prefix).removesuffix(".old").removesuffix(".tmp")
            if sibling.name.startswith(prefix) and ".tmp" in sibling.name and number.isdigit():
                yield sibling, int(number)


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


def url(path: Path) -> str:
    """The name of a file as FFmpeg takes it: as that of a file, also where a colon in it looks like a protocol's."""
    return f"file:{path}"


def _prefix(path: Path) -> str:
    of = os.fsencode(f"{socket.gethostname()}/{path.name}")
    return f".{hashlib.sha256(of).hexdigest()[:16]}."
