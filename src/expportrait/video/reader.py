"""One reader for videos, animated images, still images and folders of frames: RGB frames with their times, one by one.

Nothing but the current frame is held in memory, and a reader can be read as often as needed.
"""

import contextlib
import errno
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from expportrait.errors import ClipError, MachineFault
from expportrait.files import url
from expportrait.machine import ERRNO
from expportrait.video.display import shown
from expportrait.video.hdr import HLG, PQ, tone_map
from expportrait.video.images import raise_no_access, read_image, sorted_images
from expportrait.video.kinds import TEXTS, is_image
from expportrait.video.streams import Shape, main_stream

SLACK = 1e-3  # s; manifests give times in milliseconds, and a time just before a frame means that frame
UNSPECIFIED = 2  # of ffmpeg's colour spaces
Picture = Callable[..., np.ndarray]  # (longest px or None) -> (H,W,3) u8 RGB
LONG_STEP = 2.5  # of the median one: longer steps from frame to frame do not count for the rate


def open_source(
    path: Path, start: float | None = None, end: float | None = None, folder_fps: float = 25.0
) -> "VideoReader | FolderReader":
    """A reader of the frames with start <= time < end, in s after the first frame of the source.

    ``folder_fps``: frames a second of a folder of images. Raises ClipError where the source cannot be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return FolderReader(path, sorted_images(path), folder_fps, start, end)
        if path.stat().st_size == 0:
            raise ClipError(f"the source {path} is an empty file (0 bytes); copy it again and change the row's rev")
        image = is_image(path)
    except OSError as error:
        raise_no_access("the source", path, error)
    if image:
        return FolderReader(path, [path], folder_fps, start, end)
    return VideoReader(path, start, end)


def reduced(height: int, width: int, longest: int | None) -> tuple[int, int]:
    """Height and width scaled down, never up, so that the longer one is ``longest`` px at most."""
    scale = min(1.0, (longest or max(height, width)) / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class FolderReader:
    """Images as frames: a folder of them, or a single one. Transparent parts turn white."""

    truncated = False

    def __init__(self, path: Path, files: list[Path], fps: float, start: float | None, end: float | None) -> None:
        self.path, self.fps, self.length = path, fps, len(files) / fps
        self._start, self._end, self._files = start or 0.0, float("inf") if end is None else end, files
        self.height, self.width = read_image(files[0]).shape[:2]

    def frames(self, longest: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
        """Time in s and frame (H,W,3) u8 RGB, reduced so that its longer side is ``longest`` px at most."""
        for number, file in enumerate(self._files):
            time = number / self.fps
            if not self._start - SLACK <= time < self._end - SLACK:
                continue
            image = read_image(file)
            if image.shape[:2] != (self.height, self.width):
                raise ClipError(f"the images of {self.path} differ in size: {self._files[0].name} is {self.width}x"
                                f"{self.height}, {file.name} {image.shape[1]}x{image.shape[0]}")  # fmt: skip
            height, width = reduced(self.height, self.width, longest)
            if (height, width) != (self.height, self.width):
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            yield time, image

    def size(self, number: int) -> tuple[int, int]:
        """Height and width, px, of the frame of that number; all have the same."""
        return self.height, self.width


class VideoReader:
    """A video or animated image, decoded with FFmpeg, turned upright, with square pixels.

    ``fps`` is the nominal rate; the frames' own times count. ``origin``: s, of the first frame, by the clock of all the
    file's streams. ``length`` is what the file's header says, in s, 0 where
    it says nothing. ``height`` and ``width`` are the first frame's: where the picture takes another shape in mid-file,
    the frames take it too (``size``). ``truncated`` is set while reading, where the file breaks off or parts of it
    cannot be decoded: what can be decoded is kept.
    """

    def __init__(self, path: Path, start: float | None, end: float | None) -> None:
        self.path, self.truncated = path, False
        self._start, self._end = start or 0.0, float("inf") if end is None else end
        with self._open() as (container, stream):
            self.fps = _rate(stream)
            self.length = _length(container, stream)
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise ClipError(f"no frame of {path} can be decoded; the file is damaged, or cut off after its header")
            self._origin, self._base = first.pts, float(stream.time_base)
            begins = stream.start_time or 0 if first.pts is None else first.pts
            self.origin = begins * self._base
            self._first = Shape(stream)
            self.height, self.width = self._first.upright(first)
        self._sizes = [(0, (self.height, self.width))]  # from which frame on, of those between start and end

    def frames(self, longest: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
        """Time in s and frame (H,W,3) u8 RGB, reduced so that its longer side is ``longest`` px at most."""
        for time, picture in self.pictures():
            yield time, picture(longest)

    def pictures(self) -> "Iterator[tuple[float, Picture]]":
        """The same, for whoever wants a frame in several sizes, or not all of them: a picture is what ``frames`` would
        give, made when it is called with ``longest``. It holds the decoded frame."""
        with self._open() as (container, stream):
            last, number, shape = -1 / self.fps, 0, Shape(stream, self._first)
            scalers = Scalers()
            for time, frame in self._timed(container, stream):
                last = time = time if time is not None and time > last else last + 1 / self.fps
                if time >= self._end - SLACK:
                    return
                size = shape.upright(frame)
                if time >= self._start - SLACK:
                    if size != self.size(number):
                        self._sizes.append((number, size))
                    yield time, partial(scalers.reduced, frame, *shape.stored)
                    number += 1
            if last + 1 / self.fps < self.length - max(0.2, 2 / self.fps):
                self.truncated = True

    def size(self, number: int) -> tuple[int, int]:
        """Height and width, px, of the frame of that number, counted from ``start``, once it has been read."""
        return next(size for first, size in reversed(self._sizes) if first <= number)

    def _timed(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[tuple[float | None, av.VideoFrame]]:
        """Frames from some place before the start on, with their times where the file has times."""

        def times() -> Iterator[tuple[float | None, av.VideoFrame]]:
            for frame in self._decoded(container, stream):
                yield None if frame.pts is None else (frame.pts - self._origin) * self._base, frame

        if self._origin is not None and self._start > 2:
            try:
                container.seek(self._origin + int((self._start - 1) / self._base), stream=stream)
                near = times()
                first = next(near, None)
            except av.error.FFmpegError as error:
                _raise_machine_fault(self.path, error)
                first = None
            if first is not None and first[0] is not None and first[0] <= self._start - SLACK:
                yield first
                yield from near
                return
            container.seek(0)  # no keyframe before the start was found: read from the beginning
        yield from times()

    def _decoded(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """What can be decoded from the container's present place on; interlaced frames as whole ones."""
        weave = kind = None
        for frame in self._packets(container, stream):
            if weave is not None and kind != (frame.width, frame.height, frame.format.name):
                weave.push(None)
                yield from _pull(weave, stream.time_base)
                weave = None
            if weave is None and frame.interlaced_frame:
                weave, kind = _deinterlacer(frame, stream), (frame.width, frame.height, frame.format.name)
            if weave is None:
                yield frame
            else:
                weave.push(frame)
                yield from _pull(weave, stream.time_base)
        if weave is not None:
            weave.push(None)
            yield from _pull(weave, stream.time_base)

    def _packets(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        packets, ended = container.demux(stream), False
        while not ended:
            try:
                packet = next(packets, None)
                ended = packet is None or (packet.dts is None and packet.size == 0)  # an empty one flushes the decoder
                frames = packet.decode() if packet else []
            except av.error.FFmpegError as error:
                _raise_machine_fault(self.path, error)
                self.truncated = True
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.truncated = True
                else:
                    yield frame

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
        try:
            container = av.open(url(self.path), metadata_errors="ignore")
        except (av.error.FFmpegError, ValueError) as error:
            _raise_machine_fault(self.path, error)
            if isinstance(error, PermissionError):
                raise_no_access("the source", self.path, error)
            reason = getattr(error, "strerror", None) or str(error)
            raise ClipError(f"{self.path} cannot be read: it is not a video, or was not copied to its end "
                            f"({reason})") from None  # fmt: skip
        with container:
            if container.format.name in TEXTS:
                raise ClipError(f"{self.path} cannot be read: it is not a video, but text")
            stream = main_stream(container)
            if stream is None:
                what = "sound only" if container.streams.audio else "no pictures"
                raise ClipError(f"{self.path} has {what}; the source must be a video, an image or a folder of images")
            if stream.disposition & av.stream.Disposition.dependent:
                name = "AVIF" if self.path.suffix.lower() == ".avif" else "HEIC"
                raise ClipError(f"{self.path} is {name} in tiles: convert it to JPEG or PNG")
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = 2
            yield container, stream


def _raise_machine_fault(path: Path, error: Exception) -> None:
    """Raises MachineFault where the machine failed, not the decoder."""
    number = getattr(error, "errno", None)
    if number not in ERRNO:
        return
    if number == errno.EIO and _readable(path):
        return  # FFmpeg's word for some damaged files, too
    raise MachineFault(f"{path} could not be read, which is not the file's fault: {error.strerror}") from error


def _readable(path: Path) -> bool:
    """Whether all of the file's bytes can be read."""
    try:
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
    except OSError:
        return False
    return True


def _deinterlacer(frame: av.VideoFrame, stream: av.VideoStream) -> av.filter.Graph:
    """One frame for each frame, its missing lines from the fields around (bwdif); progressive frames as they are.

    It takes frames of this one's size and format.
    """
    graph, shape = av.filter.Graph(), {"width": frame.width, "height": frame.height, "format": frame.format}
    nodes = graph.add_buffer(stream, **shape), graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph


def _pull(graph: av.filter.Graph, base: Fraction) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(av.error.BlockingIOError, EOFError):
        while True:
            frame = graph.pull()
            if frame.pts is not None:
                frame.pts = int(frame.pts * frame.time_base / base)  # the filter counts in halves
            yield frame


class Scalers:
    """FFmpeg's scalers of one pass over a video. Setting one up takes longer than its work, so each is kept."""

    def __init__(self) -> None:
        self._of: dict[tuple, VideoReformatter] = {}

    def reduced(self, frame: av.VideoFrame, height: int, width: int, longest: int | None = None) -> np.ndarray:
        """The frame as RGB, u8, upright, its stored ``height`` x ``width`` px scaled so that the longer one is
        ``longest`` px at most."""
        return self._picture(frame, *reduced(height, width, longest))

    def _picture(self, frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
        wide = frame.color_trc in (PQ, HLG)
        untagged_hd = frame.colorspace == UNSPECIFIED and frame.height >= 720 and not frame.format.is_rgb
        between = frame.width, frame.height, frame.format.name, width, height
        if between not in self._of:
            self._of[between] = VideoReformatter()
        picture = self._of[between].reformat(
            frame, width, height, "rgb48le" if wide else "rgb24", src_colorspace="ITU709" if untagged_hd else None,
            interpolation="AREA" if (height, width) < (frame.height, frame.width) else "BICUBIC",
            threads=1,  # for small pictures, handing out the work costs more than it is
        )  # fmt: skip
        image = tone_map(picture.to_ndarray(), frame.color_trc) if wide else picture.to_ndarray()
        return np.ascontiguousarray(shown(image, frame))


def _rate(stream: av.VideoStream) -> float:
    """Nominal frames a second: the header's mean, or the median step's where gaps in the times have spoilt that."""
    mean, regular = stream.average_rate, stream.guessed_rate
    if mean and regular and mean < regular / LONG_STEP:
        times = sorted(entry.timestamp for entry in islice(stream.index_entries, 1000))
        step = median(b - a for a, b in pairwise(times)) if len(times) > 1 else 0
        mean = 1 / (step * stream.time_base) if step else mean
    return float(mean or regular or 25)


def _length(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Length of the pictures in s, as the header has it; 0 where it does not say."""
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska's
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if tag:
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    return (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0.0
