"""A store is written into a temporary sibling and renamed when it is complete, so that one that exists is whole.

Format and codecs: docs/artifacts.md.
"""

import math
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

from expportrait import files
from expportrait.machine import threads, writing
from expportrait.store import videocodec
from expportrait.store.read import META, Store, StoreError
from expportrait.store.stream import Stream

CONVENTIONS = (
    "metres; y up, z towards the viewer, x to the subject's left; pixel centres at half-integers, row 0 at the top; "
    "angles in radians, rotations axis-angle; normals in camera space, background 0"
)
CHUNK_BYTES = 1 << 20  # what one random read costs, at least one frame
SHARD_BYTES = 128 << 20  # one file
_SOFTWARE = ("expportrait", "numpy", "torch", "zarr", "mediapipe", "opencv-python", "av")


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
            files.remove_leftovers(self.path, _temporaries(self.path.parent))
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
            about = {"conventions": CONVENTIONS, "software": software(), "contents": contents(self._temporary)}
            self._group.attrs.update(about | self._attrs)
            if _inode(self.path) not in (None, self._before) and self._same():
                # Another machine was faster with the same store. It is left alone: zarr shows zeros to a reader whose
                # chunks are replaced under him.
                return
            files.put_folder(self._temporary, self.path)


@cache
def _temporaries(folder: Path) -> list[str]:
    """Those that were in a folder when this process first wrote to it: among 36,000 stores, listing the folder for each
    one takes longer than making a small one."""
    return files.temporaries(folder)


def contents(store: Path) -> dict[str, int]:
    """Path in the store -> bytes, of all files but the store's own ``zarr.json``."""
    found = {file.relative_to(store).as_posix(): file.stat().st_size for file in store.rglob("*") if file.is_file()}
    return {name: found[name] for name in sorted(found) if name != META}


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
