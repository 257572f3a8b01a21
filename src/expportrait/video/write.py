"""Video files that browsers play."""

import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np

from expportrait.errors import MachineFault
from expportrait.files import beside, url
from expportrait.machine import ERRNO

BT709 = 1  # in ffmpeg's tables of colour spaces, primaries and transfer curves alike


def write_mp4(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    crf: int = 16,
    repeatable: bool = False,
    keys: int | None = None,
) -> None:
    """Write frames as ``Mp4Writer`` does. Raises ValueError without frames, OSError where it cannot be written."""
    with Mp4Writer(path, fps, crf, repeatable, keys) as film:
        for frame in frames:
            film.append(frame)


class Mp4Writer:
    """``with Mp4Writer(path, fps) as film: film.append(frame)`` — frames (H,W,3) u8 RGB, all of one size, as H.264 in
    BT.709 colours, index first; odd sides grow by a pixel. ``repeatable``: equal frames give equal bytes, for figures
    that are measured on them. ``keys``: frames from one key frame to the next, for films that are jumped about in; else
    the codec's choice.

    The file appears when the block ends well. Raises ValueError without frames, MachineFault where the disk is full or
    fails, OSError where it cannot be written for another reason.
    """

    def __init__(self, path: Path, fps: float, crf: int = 16, repeatable: bool = False, keys: int | None = None):
        self._path, self._fps, self._crf, self._repeatable, self._keys = Path(path), fps, crf, repeatable, keys
        self._temporary = beside(self._path)
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._writing():
            self._container = av.open(url(self._temporary), "w", format="mp4", options={"movflags": "+faststart"})
        return self

    def append(self, frame: np.ndarray) -> None:
        frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = _stream(self._container, frame.shape, self._fps, self._crf, self._repeatable, self._keys)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        with self._writing():
            self._container.mux(self._stream.encode(picture))

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            with self._writing(), self._container:
                if kind is None:
                    if self._stream is None:
                        raise ValueError(f"{self._path}: no frames to write")
                    self._container.mux(self._stream.encode(None))
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in ERRNO:
                raise
            raise MachineFault(f"{self._path} cannot be written: {error.strerror or error}") from error


def _stream(
    container: av.container.OutputContainer,
    shape: tuple[int, ...],
    fps: float,
    crf: int,
    repeatable: bool,
    keys: int | None,
) -> av.VideoStream:
    rate = Fraction(fps).limit_denominator(1001)  # 29.97... is 30000/1001
    options = {"crf": str(crf), "preset": "medium"}
    if repeatable and platform.machine().lower() in ("x86_64", "amd64"):
        options["x264-params"] = "asm=SSE2"  # with AVX-512, small frames came out another way now and then
    if keys:
        options["g"] = str(keys)
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
    codec = stream.codec_context
    codec.colorspace = codec.color_primaries = codec.color_trc = BT709
    codec.color_range = 1  # limited
    codec.thread_count = 1 if repeatable else 2
    return stream
