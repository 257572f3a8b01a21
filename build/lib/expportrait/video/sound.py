"""The sound of a source video, for films that show a span of it."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import av
import numpy as np

from expportrait.errors import ClipError, MachineFault
from expportrait.files import url
from expportrait.progress import say
from expportrait.video.reader import VideoReader, open_source

if TYPE_CHECKING:  # zarr takes long to import
    from expportrait.store import Store

RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)  # Hz, that AAC has
USUAL_RATE = 48000  # Hz, for sound of another rate
BIT_RATE = 96_000  # a channel
SLACK = 0.005  # s, by which times of sound may be off: files count in thousandths, and films are in sync to a frame
JUMP = 0.5  # s, by which a clock that goes back has been set anew
AHEAD = 1.0  # s, read before the span, so that decoders have found their way
TROUBLE = (av.error.FFmpegError, OSError, ValueError, ClipError, MachineFault)

Timed = Iterator[tuple[float, av.Packet]]  # s after the film's first frame


class _Way(NamedTuple):
    """How the sound gets into a film: which stream of the source, and for packets that are copied, samples each and
    samples a second; 0 where they are encoded anew."""

    stream: int
    samples: int = 0
    rate: int = 0


class Sound:
    """What is heard of the video ``path`` from ``start`` to ``end``, s after its first frame, for any number of films.

    AAC whose packets are whole and follow each other is copied, with the film's edit list to cut it to the sample;
    all other sound becomes AAC, mono or stereo, with silence where none could be decoded. A source without sound gives
    none; where there is sound that cannot be read, a sentence on stderr says so, once. Never raises for what is wrong
    with the source. Memory does not grow with the length.
    """

    def __init__(self, path: Path, start: float, end: float) -> None:
        self.path, self.start, self.end = Path(path), start, end
        self._origin = 0.0  # s, of the first frame, by the file's clock

    @classmethod
    def of(cls, path: Path, crop: "Store", frames: int) -> Self:
        """What is heard during the first ``frames`` frames of a store of ``crop``, whose source is ``path`` now."""
        times = crop["timestamps"][:frames]
        return cls(path, float(times[0]), float(times[-1]) + 1 / float(crop.attrs.get("fps") or 25))

    def into(self, film: av.container.OutputContainer) -> Timed:
        """Adds a stream to a film of which nothing is written yet; its packets, in order, each with its time. Nothing
        is added, and there are no packets, where there is no sound."""
        if self._way is None:
            return iter(())
        try:
            return self._copied(film, self._way) if self._way.samples else self._encoded(film, self._way)
        except TROUBLE as error:
            self._left_out(str(error))
            return iter(())

    @cached_property
    def _way(self) -> _Way | None:
        if not self.path.exists():
            self._left_out("it is not there any more")
            return None
        try:
            source = open_source(self.path)
            if not isinstance(source, VideoReader):
                return None
            self._origin = source.origin
            return self._looked_at()
        except TROUBLE as error:
            self._left_out(getattr(error, "strerror", None) or str(error))
            return None

    def _left_out(self, why: str) -> None:
        say(f"a film stays without the sound of {self.path}: {why}")

    def _looked_at(self) -> _Way | None:
        """Decodes all of the span, to know what can be copied."""
        with self._open() as container:
            stream = _chosen(container)
            if stream is None:
                if container.streams.audio:
                    self._left_out("its sound is coded in a way that is not known here")
                return None
            copied = stream.codec_context.name == "aac" and bool(stream.codec_context.extradata)
            forms: set[tuple[int, int]] = set()  # samples of a frame, and samples a second
            first, inside, heard = None, False, False
            for number, (time, packet) in enumerate(self._packets(container, stream)):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    frames, copied = [], False
                first = time if first is None else first
                inside |= time >= 0
                heard |= time >= 0 and any(frames)
                forms |= {(frame.samples, frame.sample_rate) for frame in frames}
                copied &= not packet.is_corrupt and len(frames) <= 1 and len({rate for _, rate in forms}) <= 1
                if copied and forms:
                    samples, rate = max(forms)
                    copied = abs(time - first - number * samples / rate) < SLACK
            form = max(forms, default=(0, 0)) if copied else (0, 0)
            way = _Way(stream.index, *form)
        if inside and not heard:
            self._left_out("it cannot be decoded")
        return way if heard else None

    def _open(self) -> av.container.InputContainer:
        return av.open(url(self.path), metadata_errors="ignore")

    def _packets(self, container: av.container.InputContainer, stream: av.AudioStream) -> Timed:
        """The span's packets, and some before it."""
        if self.start > 2 * AHEAD:
            near = self._from_here(container, stream)
            with suppress(av.error.FFmpegError):
                container.seek(int((self._origin + self.start - AHEAD) / stream.time_base), stream=stream)
            first = next(near, None)
            if first is not None and first[0] <= 0:
                yield first
                yield from near
                return
            container.seek(0)  # sound begins later, or the file has no index
            stream.codec_context.flush_buffers()
        yield from self._from_here(container, stream)

    def _from_here(self, container: av.container.InputContainer, stream: av.AudioStream) -> Timed:
        time, packets, jumped = None, container.demux(stream), 0.0
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                return  # the file breaks off
            if packet is None or (packet.dts is None and packet.size == 0):
                return
            if packet.pts is not None:
                told = float(packet.pts * packet.time_base) - self._origin - self.start + jumped
                if time is not None and told < time - JUMP:  # files one behind the other: the reader goes on, too
                    jumped, told = jumped + time - told, time
                time = told
            if time is None:
                continue
            if time >= self.end - self.start:
                return
            yield time, packet
            time += float((packet.duration or 0) * packet.time_base)

    def _copied(self, film: av.container.OutputContainer, way: _Way) -> Timed:
        """The packets as they are, at times that follow each other to the sample."""
        length = way.samples / way.rate

        def packets() -> Timed:
            first = None
            for number, (time, packet) in enumerate(self._packets(source, stream)):
                first = time if first is None else first
                time = first + number * length
                if time + 2 * length <= 0:  # the one before the first that is heard is needed to decode that
                    continue
                packet.stream, packet.time_base = own, Fraction(1, way.rate)
                packet.pts = packet.dts = round(first * way.rate) + number * way.samples
                packet.duration = way.samples
                yield time, packet

        source = self._open()
        stream = source.streams[way.stream]
        own = film.add_stream_from_template(stream)
        return self._guarded(packets(), source)

    def _encoded(self, film: av.container.OutputContainer, way: _Way) -> Timed:
        """All samples of the span as AAC."""

        def packets() -> Timed:
            position = 0
            length = round((self.end - self.start) * rate)
            for block in _whole(self._blocks(source, stream, rate, layout), length, rate):
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), position
                position += block.shape[1]
                yield from ((float(packet.pts * packet.time_base), packet) for packet in own.encode(frame))
            yield from ((float(packet.pts * packet.time_base), packet) for packet in own.encode(None))

        source = self._open()
        stream = source.streams[way.stream]
        rate = stream.codec_context.sample_rate
        rate = rate if rate in RATES else USUAL_RATE
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        own = film.add_stream("aac", rate=rate, layout=layout)
        own.bit_rate = BIT_RATE * own.codec_context.channels
        return self._guarded(packets(), source)

    def _blocks(
        self, container: av.container.InputContainer, stream: av.AudioStream, rate: int, layout: str
    ) -> Iterator[tuple[int, np.ndarray]]:
        """What can be decoded, (channels, n) f32, and the sample of the film at which it begins."""
        resampler, kind = None, None
        for told, packet in self._packets(container, stream):
            time = told
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                found = frame.sample_rate, frame.layout.name, frame.format.name
                if kind != found:
                    resampler, kind = av.AudioResampler("fltp", layout, rate), found
                if frame.pts is not None and packet.pts is not None:
                    time = told + float(frame.pts * frame.time_base - packet.pts * packet.time_base)
                frame.pts = None
                place = round(time * rate)
                time += frame.samples / frame.sample_rate
                for part in resampler.resample(frame):
                    yield place, np.nan_to_num(part.to_ndarray(), nan=0, posinf=0, neginf=0).clip(-1, 1)
                    place += part.samples

    def _guarded(self, packets: Timed, source: av.container.InputContainer) -> Timed:
        """The packets, as far as they come, since a film is not to fail for its sound."""
        with source:
            try:
                yield from packets
            except TROUBLE as error:
                say(f"a film has the sound of {self.path} only as far as it could be read: {error}")


def _chosen(container: av.container.InputContainer) -> av.AudioStream | None:
    """The default one of the streams of sound that can be decoded, else the first of them."""
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return next((s for s in known if s.disposition & av.stream.Disposition.default), next(iter(known), None))


def _whole(blocks: Iterator[tuple[int, np.ndarray]], length: int, rate: int) -> Iterator[np.ndarray]:
    """Blocks (channels, n) one behind the other, from sample 0 of the film to ``length``: what lies outside is cut off,
    and where nothing was there is silence. Those that begin within ``SLACK`` of where the one before ended follow it at
    once."""
    position, begun = 0, False
    for place, block in blocks:
        if begun and abs(place - position) <= SLACK * rate:
            place = position
        block = block[:, max(position - place, 0) :]
        if not block.shape[1]:
            continue
        begun = True
        while position < min(place, length):
            silence = np.zeros((len(block), min(rate, place - position, length - position)), np.float32)
            yield silence
            position += silence.shape[1]
        block = block[:, : length - position]
        if not block.shape[1]:
            return
        yield np.ascontiguousarray(block)
        position += block.shape[1]
