"""One zarr store a clip and stage: arrays with units, and attributes that say what made them.

A store is written into a temporary sibling and renamed when complete, so one that exists is whole.
Format and codecs: docs/artifacts.md.
"""

import errno
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import ArrayLike, DTypeLike
from zarr.codecs import BloscCodec, Crc32cCodec

from expportrait import direct, files, videocodec
from expportrait.overlap import threads
from expportrait.streams import Stream, writing

CONVENTIONS = (
    "metres; y up, z towards the viewer, x to the subject's left; pixel centres at half-integers, row 0 at the top; "
    "angles in radians, rotations axis-angle; normals in camera space, background 0"
)
CHUNK_BYTES = 1 << 20  # what one random read costs, at least one frame
SHARD_BYTES = 128 << 20  # one file
_SOFTWARE = ("expportrait", "numpy", "torch", "zarr", "mediapipe", "opencv-python", "av")


class StoreError(Exception):
    """A store is missing, unreadable or incomplete. ``path``: which, where it has to be made again."""

    def __init__(self, message: str, path: Path | None = None):
        super().__init__(message)
        self.path = path


class StoreWriter:
    """``with StoreWriter(path, attrs) as out:`` — nothing appears at ``path`` unless the block ends well.

    An older store there is replaced in the end. ``attrs["key"]`` is written last. ``beside``: frames are packed in
    threads while others are appended; what goes wrong there is raised when more comes, or at the end.
    """

    def __init__(self, path: Path, attrs: Mapping[str, Any], beside: bool = False):
        self.path, self._attrs = Path(path), dict(attrs)
        self._pool = ThreadPoolExecutor(max(2, threads()), "write") if beside else None
        self._temporary = files.beside(self.path)
        self._streams: list[Stream] = []

    def __enter__(self) -> Self:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self.path)
            self._before = _inode(self.path)
            self._group = zarr.create_group(self._temporary, overwrite=True)
        return self

    def array(
        self, name: str, data: ArrayLike | Iterable[np.ndarray], *, frames: int | None = None, unit: str | None = None,
        **attributes: Any,
    ) -> None:  # fmt: skip
        """Add an array. ``data``: the whole array; or, with ``frames``, blocks (t, ...) along the first axis, of any
        lengths, that add up to ``frames``: they are held a few chunks at a time."""
        if unit is not None:
            attributes["unit"] = unit
        if frames is None:
            whole = np.asarray(data)
            with writing(self.path):
                self._create(name, whole.shape, whole.dtype, attributes)[...] = whole
            return
        stream = None
        for block in data:
            stream = stream or self.stream(name, frames, block.shape[1:], block.dtype, **attributes)
            stream.append(block)
        if stream is None:
            raise ValueError(f"{name}: no block came, {frames} frames were expected")

    def stream(
        self, name: str, frames: int, shape: tuple[int, ...], dtype: DTypeLike, qp: int | None = None,
        chunk: int = videocodec.FRAMES, **attributes: Any,
    ) -> Stream:  # fmt: skip
        """An array of ``frames`` frames of ``shape``, to be appended block by block. ``qp``: packed as video, with
        losses (``videocodec``), ``chunk`` frames at once: 1 where each is read by itself."""
        with writing(self.path):
            array = self._create(name, (frames, *shape), np.dtype(dtype), attributes, qp, chunk)
        self._streams.append(Stream(array, name, self._pool))
        return self._streams[-1]

    def attrs(self, **values: Any) -> None:
        """Attributes of the store, JSON values."""
        self._attrs.update(values)

    def _create(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype, attributes: dict, qp: int | None = None,
        frames: int = videocodec.FRAMES,
    ) -> zarr.Array:  # fmt: skip
        chunks, shards = layout(shape, dtype.itemsize, frames if qp is not None else None)
        packing: dict[str, Any] = {"compressors": [codec(shape, dtype), Crc32cCodec()]}
        if qp is not None:
            packing = {"serializer": videocodec.VideoCodec(qp, checksum=True), "compressors": None}
        return self._group.create_array(
            name, shape=shape, dtype=dtype, chunks=chunks, shards=shards, fill_value=0, attributes=attributes,
            config={"write_empty_chunks": True}, **packing,  # so that a missing chunk is always a fault
        )  # fmt: skip

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._pool:
                self._pool.shutdown(cancel_futures=True)
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _same(self) -> bool:
        """Whether the store that is there was made from the same."""
        with suppress(StoreError):
            return "key" in self._attrs and Store(self.path).check().attrs.get("key") == self._attrs["key"]
        return False

    def _finish(self) -> None:
        for stream in self._streams:
            stream.close()
        with writing(self.path):
            self._group.attrs.update({"conventions": CONVENTIONS, "software": software()} | self._attrs)
            if _inode(self.path) not in (None, self._before) and self._same():
                return  # another machine was faster, and zarr would show who reads its store zeros where that vanishes
            old = self.path.with_name(self._temporary.name + ".old")
            while True:  # another writer may put the same store there in between
                with suppress(FileNotFoundError):
                    self.path.rename(old)
                try:
                    self._temporary.rename(self.path)
                    break
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    shutil.rmtree(old, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


class Store:
    """A finished store, read only. Raises StoreError where it is missing or damaged."""

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            self._group = zarr.open_group(self.path, mode="r", zarr_format=3)
            self.attrs: dict[str, Any] = dict(self._group.attrs)
        except Exception as error:  # whatever a half-deleted or foreign folder provokes in zarr
            raise _damaged(self.path, error) from error

    def __contains__(self, name: str) -> bool:
        return name in self._group

    def names(self) -> list[str]:
        return sorted(self._group.array_keys())

    def lazy(self, name: str) -> "Lazy":
        """The array on disk, read where it is indexed; all its chunks are there."""
        try:
            array = self._group[name]
        except KeyError:
            raise StoreError(f"{self.path} has no array {name!r}, only {', '.join(self.names())}") from None
        except Exception as error:
            raise _damaged(self.path, error) from error
        try:
            shards = math.prod(-(-n // m) for n, m in zip(array.shape, array.shards or array.chunks, strict=True))
            # zarr reads a missing chunk, and a file that a crash left empty, as zeros
            found = [f for f in (self.path / name).rglob("*") if f.name != "zarr.json" and f.is_file()]
            complete = sum(f.stat().st_size > 0 for f in found) == shards
        except Exception as error:
            raise _damaged(self.path, error) from error
        if not complete:
            raise StoreError(f"{self.path} is damaged: chunks of {name!r} are missing", self.path)
        return Lazy(self.path, array)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.lazy(name)[...]

    def check(self, read: bool = False) -> Self:
        """Look for missing chunks in every array, without reading them; with ``read``, for damaged ones as well."""
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


def layout(
    shape: tuple[int, ...], itemsize: int, frames: int | None = None
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Chunks and shards along the first axis: small arrays are one chunk, big ones a few files of many chunks.
    ``frames``: of a chunk, where that is not free."""
    frame = max(1, math.prod(shape[1:]) * itemsize)
    total = shape[0] if shape else 1
    if (total <= frames) if frames else (total * frame <= 4 * CHUNK_BYTES):
        return tuple(max(1, n) for n in shape), None
    chunk = frames or max(1, CHUNK_BYTES // frame)
    shard = min(max(1, SHARD_BYTES // (chunk * frame)), -(-total // chunk))
    return (chunk, *shape[1:]), (chunk * shard, *shape[1:])


def codec(shape: tuple[int, ...], dtype: np.dtype) -> BloscCodec:
    """Lossless; the order of bytes that packs best (measured: docs/artifacts.md): the bits of pictures, the x, y and z
    of vectors apart."""
    if dtype == np.uint8 and len(shape) == 4:
        return BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=1)
    vector = 3 if shape[-1:] == (3,) else 1
    return BloscCodec(cname="zstd", clevel=3, shuffle="shuffle", typesize=dtype.itemsize * vector)


def encode_normals(normals: np.ndarray) -> np.ndarray:
    """Unit normals (..., 3), background 0, as int8; off by 0.17 degrees in the mean, 0.39 at most."""
    codes = normals * 127
    return np.rint(codes, out=codes).astype(np.int8)


def decode_normals(codes: np.ndarray) -> np.ndarray:
    """Unit float32 normals (..., 3) of ``encode_normals``' codes; background stays 0."""
    normals = codes.astype(np.float32)
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1)


def _inode(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return path.stat().st_ino
    return None


@cache
def software() -> dict[str, str]:
    """Versions of what computes."""
    versions = {}
    for name in _SOFTWARE:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _remove_leftovers(path: Path) -> None:
    """Temporary siblings of writers on this machine that were killed; a living writer's is left alone."""
    for leftover, pid in files.leftovers(path):
        if pid == os.getpid() or not alive(pid):
            shutil.rmtree(leftover, ignore_errors=True)


def alive(pid: int) -> bool:
    """Whether a process of this machine has that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _damaged(path: Path, error: Exception) -> StoreError:
    if not path.exists():
        return StoreError(f"{path} does not exist", path)
    return StoreError(f"{path} is damaged: {type(error).__name__}: {error}", path)
