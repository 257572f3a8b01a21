"""A finished store, read only: whole arrays, or parts of one where it is indexed."""

import json
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr

from expportrait.store import direct

META = "zarr.json"  # of a group or an array


class StoreError(Exception):
    """A store is missing, unreadable or incomplete. ``path``: which, where it has to be made again."""

    def __init__(self, message: str, path: Path | None = None):
        super().__init__(message)
        self.path = path


class Store:
    """A finished store, read only. Raises StoreError where it is missing or damaged."""

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            # read here, as most stores are opened for their attributes alone: zarr takes ten times as long
            about = json.loads((self.path / META).read_bytes())
            if (about["zarr_format"], about["node_type"]) != (3, "group"):
                raise ValueError(f"{META} is not that of a group of zarr 3")
            self.attrs: dict[str, Any] = dict(about.get("attributes", {}))
        except Exception as error:  # whatever a half-deleted or foreign folder provokes
            raise _damaged(self.path, error) from error

    @cached_property
    def _group(self) -> zarr.Group:
        try:
            return zarr.open_group(self.path, mode="r", zarr_format=3)
        except Exception as error:
            raise _damaged(self.path, error) from error

    def __contains__(self, name: str) -> bool:
        return name in self._group

    def names(self) -> list[str]:
        group = self._group
        try:
            return sorted(group.array_keys())
        except Exception as error:
            raise _damaged(self.path, error) from error

    def lazy(self, name: str) -> "Lazy":
        """The array on disk, read where it is indexed; all its chunks are there."""
        group = self._group
        try:
            array = group[name]
        except KeyError:
            raise StoreError(f"{self.path} has no array {name!r}, only {', '.join(self.names())}") from None
        except Exception as error:
            raise _damaged(self.path, error) from error
        try:
            shards = math.prod(-(-n // m) for n, m in zip(array.shape, array.shards or array.chunks, strict=True))
            # zarr reads a missing chunk, and a file that a crash left empty, as zeros
            found = [f for f in (self.path / name).rglob("*") if f.name != META and f.is_file()]
            complete = sum(f.stat().st_size > 0 for f in found) == shards
        except Exception as error:
            raise _damaged(self.path, error) from error
        if not complete:
            raise StoreError(f"{self.path} is damaged: chunks of {name!r} are missing", self.path)
        return Lazy(self.path, array)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.lazy(name)[...]

    def check(self, read: bool = False) -> Self:
        """Look for missing and cut files by the store's attribute ``contents``: one ``zarr.json`` is read and no array.
        Stores of before it was written are looked at array by array, for missing chunks. With ``read``, what the arrays
        hold is looked at as well."""
        for name, size in self.attrs.get("contents", {}).items():
            try:
                there = (self.path / name).stat().st_size
            except FileNotFoundError:
                raise StoreError(f"{self.path} is damaged: {name} is missing", self.path) from None
            except OSError as error:
                raise _damaged(self.path, error) from error
            if there != size:
                raise StoreError(f"{self.path} is damaged: {name} has {there} bytes, {size} were written", self.path)
        if "contents" in self.attrs and not read:
            return self
        for name in self.names():
            array = self.lazy(name)
            if read:
                array.unpack()
        return self


class Lazy:
    """An array of a store, read where it is indexed: numbers, slices, as zarr has them. Raises StoreError where what is
    read is damaged, whatever the damage provokes."""

    def __init__(self, path: Path, array: zarr.Array):
        self._path, self._array = path, array
        self.shape, self.ndim, self.dtype, self.chunks = array.shape, array.ndim, array.dtype, array.chunks
        self.step = (array.shards or array.chunks or (1,))[0]  # rows of a file
        self.attrs = dict(array.attrs)
        self._unpack = direct.unpacker(array)

    def __len__(self) -> int:
        return self.shape[0]

    def unpack(self) -> None:
        """Read all of it, a file at a time."""
        for start in range(0, len(self), self.step) if self.shape else ():
            _ = self[start : start + self.step]
        if not self.shape:
            _ = self[()]

    def __getitem__(self, key: Any) -> np.ndarray:
        try:
            return self._array[key]
        except IndexError:  # the caller's
            raise
        except Exception as error:
            raise _damaged(self._path, error) from error

    def into(self, out: np.ndarray, first: int) -> None:
        """Rows ``first``... into ``out``, of the array's type and contiguous, as many as it has: faster than indexing
        where they are read once; nothing of them is kept for the next read. Raises IndexError where there are fewer."""
        if not 0 <= first <= first + len(out) <= len(self):
            raise IndexError(f"rows {first} to {first + len(out)} of {len(self)}")
        if self._unpack is None:
            out[:] = self[first : first + len(out)]
            return
        try:
            direct.read(self._array, self._path / self._array.basename, self._unpack, first, out)
        except Exception as error:
            raise _damaged(self._path, error) from error

    def packed(self) -> Iterator[bytes] | None:
        """Chunk after chunk of frames as the video codec packed them, not unpacked; None where they are packed
        otherwise."""
        chunks = direct.packed(self._array, self._path / self._array.basename)
        return None if chunks is None else self._whole(chunks)

    def _whole(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from chunks
        except Exception as error:
            raise _damaged(self._path, error) from error


def _damaged(path: Path, error: Exception) -> StoreError:
    if not path.exists():
        return StoreError(f"{path} does not exist", path)
    return StoreError(f"{path} is damaged: {type(error).__name__}: {error}", path)
