"""Video files that browsers play."""

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from expportrait.errors import MachineFault
from expportrait.faults import ERRNO

BT709 = 1  # in ffmpeg's tables of colour spaces, primaries and transfer curves alike


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float, crf: int = 16) -> None:
    """Write frames (H,W,3) u8 RGB, all of one size, as H.264 in BT.709 colours, index first; odd sides grow by a pixel.

    The file appears when it is complete. Raises ValueError without frames, MachineFault where the disk is
    full or fails, OSError where it cannot be written for another reason.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = None
            for frame in frames:
                frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
                if stream is None:
                    stream = _stream(container, frame.shape, fps, crf)
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
                container.mux(stream.encode(picture))
            if stream is None:
                raise ValueError(f"{path}: no frames to write")
            container.mux(stream.encode(None))
        temporary.replace(path)
    except OSError as error:
        if error.errno not in ERRNO:
            raise
        raise MachineFault(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _stream(container: av.container.OutputContainer, shape: tuple[int, ...], fps: float, crf: int) -> av.VideoStream:
    rate = Fraction(fps).limit_denominator(1001)  # 29.97... is 30000/1001
    stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "medium"})
    stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
    codec = stream.codec_context
    codec.colorspace = codec.color_primaries = codec.color_trc = BT709
    codec.color_range = 1  # limited
    codec.thread_count = 2
    return stream
