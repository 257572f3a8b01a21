"""Frames of an array on disk, straight into the caller's memory.

zarr unpacks a chunk into memory of its own, copies it from there, and has an event loop in between; a training reads a
few frames at a time, anywhere. What is read is the Zarr 3 specification's sharding codec, as zarr and ``streams`` write
it: the chunks' bytes, then an index of their offsets and lengths.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import zarr
from numcodecs import blosc
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.codecs.sharding import ShardingCodecIndexLocation

from expportrait.store import videocodec

Unpack = Callable[[bytes, int, np.ndarray], None]  # a chunk's bytes, the first of its rows to be read, where to
END = ShardingCodecIndexLocation.end


def unpacker(array: zarr.Array) -> Unpack | None:
    """For the array's chunks, which lie one behind the other along the first axis; None where only zarr reads them."""
    if not array.shards or not array.chunks[1:] == array.shards[1:] == array.shape[1:] or not array.dtype.isnative:
        return None
    match array.metadata.codecs:
        case (ShardingCodec(codecs=(videocodec.VideoCodec(checksum=True),), index_location=place),) if place == END:
            return videocodec.decode_into
        case (ShardingCodec(codecs=(BytesCodec(), BloscCodec(), Crc32cCodec()), index_location=place),) if place == END:
            return _unblosc
    return None


def read(array: zarr.Array, folder: Path, unpack: Unpack, first: int, out: np.ndarray) -> None:
    """Rows ``first``... of the array in ``folder`` into ``out``, as many as it has. Raises ValueError and OSError where
    what is read is damaged."""
    chunk, chunks, done = array.chunks[0], array.shards[0] // array.chunks[0], 0
    while done < len(out):
        number, skipped = divmod(first + done, chunk)
        shard, place = divmod(number, chunks)
        file = folder / array.metadata.encode_chunk_key((shard, *[0] * (array.ndim - 1)))
        part = out[done : done + chunk - skipped]
        unpack(_chunk(file, place, chunks), skipped, part)
        done += len(part)


def packed(array: zarr.Array, folder: Path) -> Iterator[bytes] | None:
    """What the video codec made of each chunk, in order, its checksum looked at; None where frames are packed
    otherwise. Raises ValueError and OSError where what is read is damaged."""
    match array.metadata.codecs:
        case (videocodec.VideoCodec(checksum=True),):
            files = (
                folder / array.metadata.encode_chunk_key((k, *[0] * (array.ndim - 1))) for k in range(_count(array))
            )
            return (videocodec.unchanged(file.read_bytes()) for file in files)
        case (ShardingCodec(codecs=(videocodec.VideoCodec(checksum=True),), index_location=place),) if place == END:
            return _packed_shards(array, folder)
    return None


def _packed_shards(array: zarr.Array, folder: Path) -> Iterator[bytes]:
    chunks = array.shards[0] // array.chunks[0]
    for number in range(_count(array)):
        shard, place = divmod(number, chunks)
        file = folder / array.metadata.encode_chunk_key((shard, *[0] * (array.ndim - 1)))
        yield _chunk(file, place, chunks)


def _count(array: zarr.Array) -> int:
    """Chunks along the first axis."""
    return -(-array.shape[0] // array.chunks[0])


def _chunk(file: Path, place: int, chunks: int) -> bytes:
    """The bytes of a shard's chunk, without the checksum behind them."""
    with file.open("rb") as data:
        index = 16 * chunks + videocodec.CHECK
        data.seek(-index, 2)
        offset, length = np.frombuffer(videocodec.unchanged(data.read(index)), "<u8").reshape(-1, 2)[place]
        data.seek(int(offset))
        return videocodec.unchanged(data.read(int(length)))


def _unblosc(data: bytes, first: int, out: np.ndarray) -> None:
    rows = np.frombuffer(blosc.decompress(data), out.dtype).reshape(-1, *out.shape[1:])
    out[:] = rows[first : first + len(out)]
