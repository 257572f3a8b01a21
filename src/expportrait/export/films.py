"""Arrays of frames as film files: packets copied where that shows the same picture, else encoded once."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from expportrait.files import url
from expportrait.store import Lazy
from expportrait.video.rates import Clock

FULL = 2  # FFmpeg's number of the range 0 to 255
# Into the stream, not beside it: FFmpeg's decoder believes the sequence's own header alone. Nothing of the picture
# is touched; without the flag a reader that makes colours of it would stretch 16 to 235 over 0 to 255.
FILTER = "dump_extra=freq=keyframe,h264_metadata=video_full_range_flag=1"


def copied(array: Lazy, path: Path, clock: Clock) -> bool:
    """The packets of a map (T, H, W) u8 that a store has packed, as an MP4 of H.264 4:0:0, not decoded: whoever reads
    it, as grey or as colours, gets the store's own values. False, and no file, where they cannot be copied.

    Colours (T, H, W, 3) cannot: their planes are R, G, B in the places of Y, U, V, and H.264 has no flag that says so
    (its matrix 0 is G, B, R); a player would show other colours.
    """
    chunks = array.packed() if array.ndim == 3 and array.dtype == np.uint8 else None
    if chunks is None:
        return False
    left, headers = len(array), set()
    with av.open(url(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        stream = None
        for chunk in chunks:
            with av.open(io.BytesIO(chunk), format="nut", options={"codec_whitelist": "none"}) as packed:
                source = packed.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(source)
                    stream.time_base = clock.base
                headers.add(source.codec_context.extradata)
                # the last chunk is filled up with empty frames
                filtering = BitStreamFilterContext(FILTER, source)
                for packet in (p for p in packed.demux(source) if p.size):
                    for ready in filtering.filter(packet) if left else ():
                        number = len(array) - left
                        ready.stream, ready.time_base = stream, clock.base
                        ready.pts = ready.dts = clock.tick(number)
                        ready.duration = clock.tick(number + 1) - clock.tick(number)
                        out.mux(ready)
                        left -= 1
    if left:
        raise ValueError(f"{path.name}: {left} of {len(array)} frames are missing in the store's packets")
    if len(headers) > 1:  # an MP4 has one header; chunks of one array have equal ones, whoever packed them
        path.unlink()
        return False
    return True


def exact(frames: Iterable[np.ndarray], path: Path, clock: Clock) -> None:
    """Maps (H, W) as FFV1 in Matroska, without loss: u8 as grey; float16 as 16-bit grey whose values are the bits of
    the half floats (``values.view(np.float16)`` gives them back)."""
    with av.open(url(path), "w", format="matroska", options={"fflags": "+bitexact"}) as out:
        stream = None
        for number, frame in enumerate(frames):
            format, frame = ("gray", frame) if frame.dtype == np.uint8 else ("gray16le", frame.view(np.uint16))
            if stream is None:
                stream = out.add_stream("ffv1", rate=clock.rate)
                stream.height, stream.width, stream.pix_fmt = *frame.shape, format
                stream.codec_context.time_base, stream.codec_context.color_range = clock.base, FULL
                stream.codec_context.thread_count = 1
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=format)
            picture.pts, picture.time_base = clock.tick(number), clock.base
            out.mux(stream.encode(picture))
        if stream is not None:
            out.mux(stream.encode(None))


def blocks(array: Lazy) -> Iterator[np.ndarray]:
    """The array's frames in order, each unpacked once, a chunk in memory."""
    step = array.chunks[0]
    for start in range(0, len(array), step):
        yield from array[start : start + step]
