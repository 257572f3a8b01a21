"""Video files that browsers play."""

import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import av
import numpy as np

from expportrait.errors import MachineFault
from expportrait.files import beside, url
from expportrait.machine import ERRNO
from expportrait.video.mark import Mark
from expportrait.video.rates import Clock
from expportrait.video.sound import Sound

BT709 = 1  # in ffmpeg's tables of colour spaces, primaries and transfer curves alike


def write_mp4(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    crf: int = 16,
    repeatable: bool = False,
    keys: int | None = None,
    times: Sequence[float] | None = None,
    sound: Sound | None = None,
    mark: Mark | None = None,
) -> None:
    """Write frames as ``Mp4Writer`` does. Raises ValueError without frames, OSError where it cannot be written."""
    with Mp4Writer(path, fps, crf, repeatable, keys, times, sound, mark) as film:
        for frame in frames:
            film.append(frame)


class Mp4Writer:
    """``with Mp4Writer(path, fps) as film: film.append(frame)`` — frames (H,W,3) u8 RGB, all of one size, as H.264 in
    BT.709 colours, index first; odd sides grow by a pixel. ``repeatable``: equal frames give equal bytes, for figures
    that are measured on them. ``keys``: frames from one key frame to the next, for films that are jumped about in; else
    the codec's choice.

    ``times``: s, of the frames to come, at any origin: where they are not even, frames are shown at these, else at the
    even rate that they have (``rates.Clock``); without them, at ``fps``. ``sound``: what is heard, from the first frame
    on; whatever is wrong with it, the film is written. ``mark``: what the film says of itself in its metadata.

    The file appears when the block ends well. Raises ValueError without frames, MachineFault where the disk is full or
    fails, OSError where it cannot be written for another reason.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        crf: int = 16,
        repeatable: bool = False,
        keys: int | None = None,
        times: Sequence[float] | None = None,
        sound: Sound | None = None,
        mark: Mark | None = None,
    ):
        self._path, self._crf, self._repeatable, self._keys = Path(path), crf, repeatable, keys
        self._clock, self._sound, self._mark = Clock(fps, times), sound, mark
        self._temporary = beside(self._path)
        self._stream: av.VideoStream | None = None
        self._number = 0  # of the frame to come

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._writing():
            self._container = av.open(url(self._temporary), "w", format="mp4", options={"movflags": "+faststart"})
        if self._mark:
            self._container.metadata.update(self._mark.tags)
        return self

    def append(self, frame: np.ndarray) -> None:
        frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = _stream(self._container, frame.shape, self._clock, self._crf, self._repeatable, self._keys)
            self._packets = iter(self._sound.into(self._container) if self._sound else ())
            self._next = next(self._packets, None)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts, picture.time_base = self._clock.tick(self._number), self._clock.base
        with self._writing():
            self._container.mux(self._stream.encode(picture))
            self._heard(float(picture.pts * picture.time_base))
        self._number += 1

    def _heard(self, until: float) -> None:
        """Writes the sound as far as the pictures are, so that neither waits for the other in memory."""
        while self._next is not None and self._next[0] <= until:
            self._container.mux(self._next[1])
            self._next = next(self._packets, None)

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            with self._writing(), self._container:
                if kind is None:
                    if self._stream is None:
                        raise ValueError(f"{self._path}: no frames to write")
                    self._heard(float(self._clock.tick(self._number) * self._clock.base))
                    self._container.mux(self._stream.encode(None))
            if kind is None:
                if self._mark:
                    with self._writing(), self._temporary.open("ab") as file:
                        file.write(self._mark.box)
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
    clock: Clock,
    crf: int,
    repeatable: bool,
    keys: int | None,
) -> av.VideoStream:
    options = {"crf": str(crf), "preset": "medium"}
    if repeatable and platform.machine().lower() in ("x86_64", "amd64"):
        options["x264-params"] = "asm=SSE2"  # with AVX-512, small frames came out another way now and then
    if keys:
        options["g"] = str(keys)
    stream = container.add_stream("libx264", rate=clock.rate, options=options)
    stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
    codec = stream.codec_context
    codec.time_base = clock.base
    codec.colorspace = codec.color_primaries = codec.color_trc = BT709
    codec.color_range = 1  # limited
    codec.thread_count = 1 if repeatable else 2
    return stream
