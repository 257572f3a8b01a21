"""Sources for the tests: one public-domain portrait, moved about on canvases, and videos of it."""

from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from skimage.data import astronaut


@cache
def portrait() -> np.ndarray:
    """(300,300,3) u8: head and shoulders; the face, hairline to chin, is about 110 px high."""
    image = astronaut()[:300, 76:376].copy()
    image.setflags(write=False)
    return image


@cache
def wall(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A background of soft blobs, without faces."""
    noise = np.random.default_rng(seed).uniform(60, 200, (height // 40 + 1, width // 40 + 1, 3)).astype(np.float32)
    image = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image


def scene(height: int, width: int, *people: tuple[float, float, float], seed: int = 0) -> np.ndarray:
    """A wall with portraits (x, y of the corner in px, scale), which may reach beyond its border."""
    image = wall(height, width, seed).copy()
    for x, y, scale in people:
        matrix = np.array([[scale, 0, x + scale / 2 - 0.5], [0, scale, y + scale / 2 - 0.5]])
        area = {"dsize": (width, height), "borderMode": cv2.BORDER_TRANSPARENT, "dst": image}
        cv2.warpAffine(portrait(), matrix, flags=cv2.INTER_LINEAR, **area)
    return image


def video(
    path: Path, frames: Iterable[np.ndarray], fps: float = 25, codec: str = "libx264", pix_fmt: str = "yuv420p",
    rotation: int = 0, aspect: Fraction | None = None, layout: str = "rgb24", gop: int = 12, offset: float = 0,
    x264: str = "",
) -> Path:  # fmt: skip
    """Encode with none of the project's own code. ``rotation``: counter-clockwise degrees, for the player. ``offset``:
    s, added to all times. ``x264``: further parameters of that encoder."""
    with av.open(str(path), "w", options={"output_ts_offset": str(offset)} if offset else {}) as container:
        stream = None
        for frame in frames:
            if stream is None:
                options = {"crf": "16", "preset": "veryfast", "x264-params": x264} if codec == "libx264" else {}
                stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
                stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], pix_fmt
                stream.codec_context.gop_size = gop
                if rotation:
                    stream.set_display_rotation(rotation)
                if aspect:
                    stream.codec_context.sample_aspect_ratio = aspect
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=layout)
            container.mux(stream.encode(picture.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


def joined(path: Path, *parts: Path) -> Path:
    """MPEG-TS files one behind the other, as ``cat`` joins them."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def sound(path: Path) -> Path:
    """Half a second of silence, and no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 22050), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    return path


def numbered(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames that tell their number: eight bars, white for the bits that are set."""
    bars = np.arange(width) * 8 // width
    bits = (np.arange(count)[:, None] >> bars) & 1
    return list(np.broadcast_to((255 * bits[:, None, :, None]).astype(np.uint8), (count, height, width, 3)).copy())


def number(frame: np.ndarray) -> int:
    """Which of the ``numbered`` frames this is."""
    columns = np.arange(frame.shape[1]) * 8 // frame.shape[1]
    return sum(1 << bit for bit in range(8) if frame[:, columns == bit].mean() > 128)
