"""Sources that are heard and seen: grey pictures with one white one, and a beep that begins with it."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

BASE = 90_000  # ticks a second
BEEP = 0.15  # s


class Track(NamedTuple):
    """A stream of sound. ``begins`` and ``ends``: s, with silence at both ends but for the beep, ``loud`` of full."""

    codec: str = "aac"
    rate: int = 48000
    layout: str = "mono"
    begins: float = 0.0
    ends: float | None = None
    loud: float = 0.8
    default: bool = False


def even(rate: Fraction | int, count: int) -> list[float]:
    return [float(n / Fraction(rate)) for n in range(count)]


def uneven(count: int, seed: int = 0) -> list[float]:
    """Times of a phone's film, s: 30 frames a second in the light, 20 or less in the dark."""
    steps = np.random.default_rng(seed).choice([1 / 30, 1 / 24, 1 / 20, 0.071], count - 1)
    return [0.0, *np.cumsum(steps).tolist()]


def source(
    path: Path, times: Sequence[float], blink: int, tracks: Sequence[Track] = (Track(),), broken: float = 0.0,
    begins: float = 0.0,
) -> Path:  # fmt: skip
    """A video whose frame number ``blink`` is white. ``broken``: the share of packets of sound that are noise.
    ``begins``: s, that everything comes later by the file's own clock."""
    dice = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=30, options={"crf": "20", "preset": "veryfast", "g": "30"})
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        picture.codec_context.time_base = Fraction(1, BASE)
        streams = []
        for track in tracks:
            stream = container.add_stream(track.codec, rate=track.rate, layout=track.layout)
            if track.default:
                stream.disposition = av.stream.Disposition.default
            streams.append(stream)
        packets = []
        for number, time in enumerate(times):
            grey = np.full((48, 64, 3), 255 if number == blink else 40, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey).reformat(format="yuv420p")
            frame.pts, frame.time_base = round((begins + time) * BASE), Fraction(1, BASE)
            packets += picture.encode(frame)
        packets += picture.encode(None)
        for track, stream in zip(tracks, streams, strict=True):
            for packet in _sound(stream, track, times, times[blink], begins):
                if dice.random() < broken:
                    noise = av.Packet(dice.bytes(packet.size))
                    noise.pts, noise.dts, noise.duration = packet.pts, packet.dts, packet.duration
                    noise.time_base, noise.stream = packet.time_base, packet.stream
                    packet = noise
                packets.append(packet)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def _sound(stream, track: Track, times: Sequence[float], beep: float, begins: float) -> list[av.Packet]:
    ends = times[-1] + 0.5 if track.ends is None else track.ends
    at = np.arange(round(track.begins * track.rate), round(ends * track.rate)) / track.rate
    wave = track.loud * np.sin(2 * np.pi * 1000 * at) * ((at >= beep) & (at < beep + BEEP))
    form = stream.codec_context.format or av.AudioFormat("s16")
    channels = stream.codec_context.channels
    found = []
    for first in range(0, len(wave), 4096):
        block = np.tile(wave[first : first + 4096].astype(np.float32), (channels, 1))
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=track.layout)
        frame.sample_rate, frame.time_base = track.rate, Fraction(1, track.rate)
        frame.pts = round((begins + track.begins) * track.rate) + first
        for part in av.AudioResampler(form, track.layout, track.rate).resample(frame):
            found += stream.encode(part)
    return found + stream.encode(None)


class Film(NamedTuple):
    """What a film shows and what is heard: s of its frames; of the white one; of the beep, None where there is none."""

    times: np.ndarray
    blink: float | None
    beep: float | None
    ends: float  # of the sound
    loud: float  # the loudest sample


def look(path: Path) -> Film:
    """As a player does, edit lists and all."""
    times, blink, beep, ends, loud = [], None, None, 0.0, 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            times.append(float(frame.pts * frame.time_base))
            if frame.to_ndarray(format="gray").mean() > 150 and blink is None:
                blink = times[-1]
    with av.open(str(path)) as container:
        if container.streams.audio:
            for frame in container.decode(audio=0):
                begins = float(frame.pts * frame.time_base)
                wave = np.abs(frame.to_ndarray().astype(np.float64)).reshape(-1, frame.samples).max(0)
                heard = np.flatnonzero(wave > 0.2)
                if beep is None and len(heard):
                    beep = begins + heard[0] / frame.sample_rate
                ends, loud = begins + frame.samples / frame.sample_rate, max(loud, wave.max())
    return Film(np.array(times), blink, beep, ends, loud)
