"""A zarr codec that packs frames as H.264: small, and faster to read than what lossless codecs make of them.

Figures, and what is packed by it: docs/artifacts.md.
"""

import asyncio
import io
import math
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

import cv2
import google_crc32c
import numpy as np
from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin
from zarr.abc.store import ByteGetter
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration
from zarr.core.indexing import SelectorTuple
from zarr.registry import register_codec

from expportrait.machine import threads

if TYPE_CHECKING:  # loaded where frames are packed: much of the package works without
    import av

T = TypeVar("T")
NAME = "expportrait.h264"
# Quantisers; vectors stay below 0.5 degrees in the mean, with their rounding to 8 bits.
COLOURS, VECTORS, DEPTH, TRUST = 19, 13, 16, 20
FLOOR = 45.0  # dB, of every frame of colours
FRAMES = 16  # a chunk, of which a read decodes no more than up to the last frame that it asks for
LEVELS = 1023  # of a float plane, between a chunk's least and largest value
BACKGROUND = 37  # of int8 vectors of length 127: shorter ones, of half that length, are none
_RANGE = struct.Struct("<dd")
CHECK = 4  # bytes


@dataclass(frozen=True)
class VideoCodec(ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin):
    """Chunks (t, H, W, 3) of uint8 colours or of int8 unit vectors, (t, H, W) of uint8, or of float16, which gets
    ``LEVELS`` levels.

    The three components are coded as the planes Y, U, V, as they are, each with the quantiser ``qp`` (0 to 51): the
    same error everywhere, which grows by 1 dB a step. ``checksum``: CRC-32C of a chunk's bytes, behind them, little
    endian; zarr's own codec for it would have it unpack whole chunks. Raises ValueError where values are not finite.
    """

    is_fixed_size = False
    qp: int
    checksum: bool = False  # stores of before say nothing of it: zarr's codec has theirs

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        _, configuration = parse_named_configuration(data, NAME)
        return cls(**configuration)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, JSON]:
        return {"name": NAME, "configuration": {"qp": self.qp, "checksum": self.checksum}}

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        data = await _in(_writing(), encode, chunk_array.as_numpy_array(), self.qp)
        check = google_crc32c.value(data).to_bytes(CHECK, "little") if self.checksum else b""
        return chunk_spec.prototype.buffer.from_bytes(data + check)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await self._decoded(chunk_bytes, chunk_spec, chunk_spec.shape[0])

    async def _decode_partial_single(
        self, byte_getter: ByteGetter, selection: SelectorTuple, chunk_spec: ArraySpec
    ) -> NDBuffer | None:
        chunk_bytes = await byte_getter.get(chunk_spec.prototype)
        if chunk_bytes is None:
            return None
        wanted = np.arange(chunk_spec.shape[0])[selection[0] if isinstance(selection, tuple) else selection]
        return (await self._decoded(chunk_bytes, chunk_spec, int(np.max(wanted)) + 1))[selection]

    async def _decoded(self, chunk_bytes: Buffer, chunk_spec: ArraySpec, count: int) -> NDBuffer:
        dtype, data = chunk_spec.dtype.to_native_dtype(), chunk_bytes.to_bytes()
        data = unchanged(data) if self.checksum else data
        frames = await _in(_reading(), decode, data, chunk_spec.shape, dtype.str, count)
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(frames)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        raise NotImplementedError("depends on the frames")


def unchanged(data: bytes) -> bytes:
    """``data`` without the CRC-32C behind it. Raises ValueError where that is another's."""
    data, check = data[:-CHECK], data[-CHECK:]
    if google_crc32c.value(data).to_bytes(CHECK, "little") != check:
        raise ValueError("a chunk has changed since it was written")
    return data


# zarr has one thread for all stores: in threads of their own, who reads a clip need not wait for who writes another
@cache
def _reading() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads(), "unpack frames")


@cache
def _writing() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(2, threads()), "pack frames")  # one is busy with vectors, one with all the rest


async def _in(pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)


def encode(frames: np.ndarray, qp: int) -> bytes:
    """(t, H, W[, 3]) to bytes. Colours of which a frame would fall below ``FLOOR`` get a finer quantiser."""
    data = _encode(frames, qp)
    while frames.dtype == np.uint8 and frames.ndim == 4 and qp > 0:
        read = Unpacking(data, frames.shape, frames.dtype.str).until(len(frames))
        missing = FLOOR - min(map(cv2.PSNR, frames, read))
        if missing <= 0:
            break
        qp = max(0, qp - math.ceil(missing))
        data = _encode(frames, qp)
    return data


def _encode(frames: np.ndarray, qp: int) -> bytes:
    header = b""
    if frames.dtype == np.float16:
        levels = frames.astype(np.float32)  # half floats are slow to compare
        low, high = float(levels.min()), float(levels.max())
        if not np.isfinite((low, high)).all():
            raise ValueError("frames to be packed have values that are not finite")
        header = _RANGE.pack(low, high)
        levels -= low
        levels *= LEVELS / max(high - low, 1e-12)
        frames = np.rint(levels, out=levels).astype("<u2")
        format = "gray10le"
    else:
        frames = frames.view(np.uint8) ^ 0x80 if frames.dtype == np.int8 else frames
        format = "yuv444p" if frames.ndim == 4 else "gray"
    file = io.BytesIO()
    # no CABAC, no deblocking: a fifth larger, and decoded in half of the time
    quantiser = {"qp": str(qp), "g": str(FRAMES), "bf": "0", "preset": "veryfast"}
    # x264 adds 6 to the quantiser of the other two planes
    options = quantiser | {"x264-params": "cabac=0:no-deblock=1:chroma-qp-offset=-6:psy=0:aq-mode=0"}
    import av

    with av.open(file, "w", format="nut") as video:
        stream = video.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = format
        stream.thread_count = 1
        for frame in frames:
            video.mux(stream.encode(_picture(frame, format)))
        video.mux(stream.encode())
    return header + file.getvalue()


def decode(data: bytes, shape: tuple[int, ...], dtype: str, count: int | None = None) -> np.ndarray:
    """``encode``'s bytes back to ``shape``, or to its first ``count`` frames; read only."""
    return _unpacking(data, shape, dtype).until(shape[0] if count is None else count)


class Unpacking:
    """A chunk whose frames are unpacked one after the other, as far as somebody has asked for them."""

    def __init__(self, data: bytes, shape: tuple[int, ...], dtype: str):
        self._lock, self._done = threading.Lock(), 0
        self._frames = np.empty(shape, dtype)
        self._unpacked = _unpacked(data, self._frames, self._frames.dtype)

    def until(self, stop: int) -> np.ndarray:
        """The first ``stop`` frames; read only. Raises ValueError where the chunk holds another number of frames."""
        with self._lock:
            while self._done < stop:
                if next(self._unpacked, None) is None:
                    raise ValueError(f"a chunk of {len(self._frames)} frames ends after {self._done}")
                self._done += 1
        frames = self._frames[:stop]
        frames.flags.writeable = False
        return frames


def decode_into(data: bytes, first: int, out: np.ndarray) -> None:
    """Frames ``first``... of ``encode``'s bytes into ``out``, as many as it has. Raises ValueError where there are
    fewer."""
    done = sum(1 for _ in _unpacked(data, [*[None] * first, *out], out.dtype))
    if done < first + len(out):
        raise ValueError(f"a chunk of at least {first + len(out)} frames ends after {done}")


def _unpacked(data: bytes, outs: Iterable[np.ndarray | None], dtype: np.dtype) -> Iterator[bool]:
    """Unpack frame after frame into ``outs``, None for those that nobody wants; yields after each."""
    wide = dtype == np.float16
    low, high = _RANGE.unpack_from(data) if wide else (0, 0)
    # FFmpeg would unpack the first frames to look at them; without a decoder it cannot
    packed, options = io.BytesIO(data[_RANGE.size if wide else 0 :]), {"codec_whitelist": "none"}
    import av

    with av.open(packed, format="nut", options=options) as video:
        video.streams.video[0].thread_count = 1
        for frame, out in zip(video.decode(video=0), outs, strict=False):
            if wide and out is not None:
                levels = np.empty(out.shape, "<u2")
                _unpack(frame, levels)
                out[:] = levels.astype(np.float32) * ((high - low) / LEVELS) + low
            elif out is not None:
                _unpack(frame, out)
            yield True


# neighbouring frames are often asked for one by one
_unpacking = lru_cache(3)(Unpacking)


def _picture(frame: np.ndarray, format: str) -> "av.VideoFrame":
    import av

    picture = av.VideoFrame(frame.shape[1], frame.shape[0], format)
    parts = cv2.split(frame) if frame.ndim == 3 else [frame]
    for plane, part in zip(picture.planes, parts, strict=True):
        rows = np.frombuffer(plane, part.dtype).reshape(plane.height, -1)
        rows[:, : plane.width], rows[:, plane.width :] = part, 0
    return picture


def _unpack(frame: "av.VideoFrame", out: np.ndarray) -> None:
    """Into (H, W, 3), or (H, W): the decoder adds empty planes to grey frames."""
    planes = [
        np.frombuffer(plane, out.dtype if out.ndim == 2 else "u1").reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes[: 3 if out.ndim == 3 else 1]
    ]
    if out.ndim == 2:
        out[:] = planes[0]
        return
    if out.dtype == np.int8:
        values = [np.bitwise_xor(plane, 0x80) for plane in planes]
        # (0, 0, 0) is background and has to come back as such; a unit vector's largest component is at least 73
        x, y, z = (plane + np.uint8(BACKGROUND - 1) for plane in values)  # short components: 0 to twice that
        longest = np.maximum(np.maximum(x, y), z)
        vectors = cv2.threshold(longest, 2 * (BACKGROUND - 1), 255, cv2.THRESH_BINARY)[1]
        planes = [np.bitwise_and(plane, vectors) for plane in values]
    cv2.merge(planes, out.view(np.uint8))


register_codec(NAME, VideoCodec)
