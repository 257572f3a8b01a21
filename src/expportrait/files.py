"""Files that are never seen half-written."""

import os
from pathlib import Path


def replace_file(file: Path, data: bytes) -> Path:
    """Write ``file``, whole or not at all; its folder is made where it is missing. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return file
