"""Frames on their way into a zarr array: each chunk is packed as soon as it is full, and shards grow chunk by chunk.

zarr itself packs a shard when all of its frames are there, and writes one anew for each piece that comes. A shard file
is what the Zarr 3 specification's sharding codec has: the chunks' bytes, then an index of their offsets and lengths.
"""

from collections import deque
from concurrent.futures import Executor, Future
from pathlib import Path

import google_crc32c
import numpy as np
import zarr

from expportrait.machine import writing

WAITING = 2  # chunks being packed, beside the one that is filled
ABSENT = np.uint64(2**64 - 1)  # offset and length of a chunk past the array's end


class Stream:
    """``append`` blocks, then ``close``. ``pool``: chunks are packed in its threads while others are appended; what
    goes wrong there is raised when more comes, or at the end."""

    def __init__(self, array: zarr.Array, name: str, pool: Executor | None = None):
        self._array, self._name, self._pool = array, name, pool
        self._path = Path(str(array.store_path).removeprefix("file://"))
        self._chunk = array.chunks[0]
        self._chunks = (array.shards or array.chunks)[0] // self._chunk  # of a shard
        self._count = 0  # frames that came
        self._filling: np.ndarray | None = None
        self._spare: list[np.ndarray] = []
        self._packing: deque[tuple[int, np.ndarray, Future[bytes] | bytes]] = deque()
        self._index = np.full((self._chunks, 2), ABSENT, "<u8")
        self._packed: dict = {}  # chunk by chunk, by zarr's own machinery, in memory
        self._packer = None
        if array.shards:
            rounded = -(-array.shape[0] // self._chunk) * self._chunk
            self._packer = zarr.create_array(
                self._packed, shape=(rounded, *array.shape[1:]), dtype=array.dtype, chunks=array.chunks,
                serializer=array.serializer, compressors=array.compressors, fill_value=0,
                config={"write_empty_chunks": True},
            )  # fmt: skip

    def append(self, block: np.ndarray) -> None:
        """Add a block (t, ...) of any length, which is copied. Raises ValueError past the announced length."""
        if self._count + len(block) > self._array.shape[0]:
            raise ValueError(f"{self._name}: more than the announced {self._array.shape[0]} frames came")
        while len(block):
            if self._filling is None:
                made = (self._chunk, *self._array.shape[1:]), self._array.dtype
                self._filling = self._spare.pop() if self._spare else np.empty(*made)
            first = self._count % self._chunk
            part = block[: self._chunk - first]
            self._filling[first : first + len(part)] = part
            self._count += len(part)
            block = block[len(part) :]
            if self._count % self._chunk == 0:
                self._pack()

    def close(self) -> None:
        """Write the rest. Raises ValueError when frames are missing."""
        if self._filling is not None:
            self._filling[self._count % self._chunk or self._chunk :] = 0
            self._pack()
        while self._packing:
            self._write(*self._packing.popleft())
        if self._count != self._array.shape[0]:
            raise ValueError(f"{self._name}: {self._count} frames came, {self._array.shape[0]} were announced")

    def _pack(self) -> None:
        number, frames = (self._count - 1) // self._chunk, self._filling
        self._filling = None
        if self._packer is None:  # a small array is one chunk
            with writing(self._path):
                self._array[...] = frames
            return
        made = self._pool.submit(self._bytes, number, frames) if self._pool else self._bytes(number, frames)
        self._packing.append((number, frames, made))
        while len(self._packing) > WAITING or (self._packing and not self._pool):
            self._write(*self._packing.popleft())

    def _bytes(self, number: int, frames: np.ndarray) -> bytes:
        self._packer[number * self._chunk : (number + 1) * self._chunk] = frames
        return self._packed.pop(self._key(number)).to_bytes()

    def _key(self, number: int) -> str:
        return self._array.metadata.encode_chunk_key((number, *[0] * (self._array.ndim - 1)))

    def _write(self, number: int, frames: np.ndarray, made: Future[bytes] | bytes) -> None:
        """At the end of its shard, which gets its index behind the last chunk."""
        data = made if isinstance(made, bytes) else made.result()
        self._spare.append(frames)
        shard, place = divmod(number, self._chunks)
        last = place == self._chunks - 1 or (number + 1) * self._chunk >= self._array.shape[0]
        file = self._path / self._key(shard)
        with writing(self._path):
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb" if place == 0 else "ab") as out:
                self._index[place] = out.tell(), len(data)
                out.write(data)
                if last:
                    index = self._index.tobytes()
                    out.write(index + google_crc32c.value(index).to_bytes(4, "little"))
                    self._index[:] = ABSENT
