"""Whether the arrays of a store are byte for byte as they were written, by the checksums of their chunks.

Nothing is unpacked, which would cost ten times as much and more. Every chunk ends with the CRC-32C of its bytes; a
shard file is its chunks, the table of their offsets and lengths, and that table's CRC-32C (Zarr 3 specification, codecs
``crc32c`` and ``sharding_indexed``; docs/artifacts.md).
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from expportrait.store import Store, StoreError
from expportrait.store.read import META
from expportrait.store.stream import ABSENT
from expportrait.store.videocodec import CHECK, unchanged


def verify(store: Store) -> None:
    """Read every array. Raises StoreError where a chunk is missing or has changed. Arrays of stores that have no
    checksums are unpacked."""
    for name in store.names():
        array, folder = store.lazy(name), store.path / name
        try:
            form = json.loads((folder / META).read_bytes())
            if not _checked(form["codecs"]):
                array.unpack()
                continue
            whole = all(all(_chunks(file, form)) for file in folder.rglob("*") if _is_chunk(file))
        except StoreError:
            raise
        except Exception as error:  # whatever a damaged table of offsets provokes
            raise _changed(store, name, f": {type(error).__name__}: {error}") from error
        if not whole:
            raise _changed(store, name)


def _changed(store: Store, name: str, why: str = "") -> StoreError:
    return StoreError(f"{store.path} is damaged: {name!r} has changed since it was written{why}", store.path)


def _is_chunk(file: Path) -> bool:
    return file.name != META and file.is_file()


def _checked(codecs: list[dict[str, Any]]) -> bool:
    """Whether each chunk's bytes end with their checksum."""
    last = codecs[-1]
    if last["name"] == "sharding_indexed":
        form = last["configuration"]
        return form["index_location"] == "end" and _checked(form["index_codecs"]) and _checked(form["codecs"])
    return last["name"] == "crc32c" or last.get("configuration", {}).get("checksum") is True


def _chunks(file: Path, form: dict[str, Any]) -> Iterator[bool]:
    """For each chunk in a file, whether it is as it was written."""
    last = form["codecs"][-1]
    with file.open("rb") as data:
        if last["name"] != "sharding_indexed":
            yield _good(data.read())
            return
        shard, chunk = form["chunk_grid"]["configuration"]["chunk_shape"], last["configuration"]["chunk_shape"]
        count = math.prod(n // m for n, m in zip(shard, chunk, strict=True))
        table = _read(data, -(16 * count + CHECK), 16 * count + CHECK, 2)
        yield _good(table)
        for offset, length in np.frombuffer(table[:-CHECK], "<u8").reshape(count, 2):
            if offset != ABSENT:
                yield _good(_read(data, int(offset), int(length)))


def _read(data: BinaryIO, at: int, length: int, whence: int = 0) -> bytes:
    data.seek(at, whence)
    return data.read(length)


def _good(data: bytes) -> bool:
    try:
        return len(unchanged(data)) > 0
    except ValueError:
        return False
