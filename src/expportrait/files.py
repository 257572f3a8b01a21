"""Files that are never seen half-written."""

import os
import socket
from pathlib import Path


def beside(path: Path) -> Path:
    """A temporary sibling of ``path``, of this process alone: two machines may write the same, and in containers
    processes have equal numbers."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")


def replace_file(file: Path, data: bytes) -> Path:
    """Write ``file``, whole or not at all; its folder is made where it is missing. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(file)
    try:
        temporary.write_bytes(data)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return file


def url(path: Path) -> str:
    """The name of a file as FFmpeg takes it: as that of a file, also where a colon in it looks like a protocol's."""
    return f"file:{path}"
