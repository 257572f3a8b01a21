"""How the result of one clip or pair is written and looked at: as a store of arrays, or as a file of figures."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from expportrait.engine.record import write_json
from expportrait.machine import machine_fault
from expportrait.store import Store, StoreError, StoreWriter


class JsonWriter:
    """``with JsonWriter(path, attrs) as out: out.write(**values)`` — nothing appears unless the block ends well.

    The file holds the values and ``attrs["key"]``.
    """

    def __init__(self, path: Path, attrs: Mapping[str, Any], beside: bool = False):
        self.path, self._values = path, {"key": attrs["key"]}

    def write(self, **values: Any) -> None:
        """Add values, which JSON has to know."""
        self._values |= values

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            write_json(self.path, self._values)


def holds_store(path: Path, key: str, doubtful: bool) -> bool:
    """Whether the store was made from what ``key`` says and is whole; ``doubtful``: all of its bytes are looked at."""
    try:
        return Store(path).check(read=doubtful).attrs.get("key") == key
    except StoreError as error:
        if machine_fault(error):
            raise
        return False


def holds_json(path: Path, key: str, doubtful: bool) -> bool:
    """The same of a file of figures."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return json.loads(path.read_text("utf-8"))["key"] == key
    return False


WRITERS = {"zarr": StoreWriter, "json": JsonWriter}  # by ``Stage.form``
HOLDS = {"zarr": holds_store, "json": holds_json}
