"""Sources for the tests: one public-domain portrait, moved about on canvases, and videos of it."""

from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import matplotlib
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


@cache
def heads() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Two people's heads, faces about 110 px high: pictures (n,m,3) f32 0..255 and how much of each pixel is theirs,
    (n,m,1) f32 0..1. The face, hairline to chin, is in the middle."""
    hopper = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))[..., ::-1]
    cut = []
    for image, scale, (x, y), (across, up, down) in (
        (astronaut(), 1.0, (225, 117), (60, 95, 75)), (hopper, 0.62, (262, 215), (118, 190, 120)),
    ):  # fmt: skip
        row, column = np.mgrid[: image.shape[0], : image.shape[1]]
        height = np.where(row < y, up, down)
        inside = 1 - np.hypot((column - x) / across, (row - y) / height)
        half = round(105 / scale)
        part = slice(y - half, y + half), slice(x - half, x + half)
        both = np.dstack([image, 255 * np.clip(8 * inside, 0, 1)])
        both = np.pad(both, ((half, half), (half, half), (0, 0)), mode="edge")
        both = both[part[0].start + half : part[0].stop + half, part[1].start + half : part[1].stop + half]
        both = cv2.resize(both.astype(np.float32), (210, 210), interpolation=cv2.INTER_AREA)
        cut.append((both[..., :3], both[..., 3:] / 255))
    return tuple(cut)


def meeting(count: int, *ways: np.ndarray, front: int = 1, height: int = 360, width: int = 900) -> list[np.ndarray]:
    """Frames of the two ``heads`` before a wall, the middles of their faces on ``ways`` (count,2) px; the one of number
    ``front`` is before the other one."""
    frames = []
    for t in range(count):
        image = wall(height, width).astype(np.float32)
        for number in (1 - front, front):
            picture, share = heads()[number]
            place = np.float32([[1, 0, ways[number][t][0] - 105], [0, 1, ways[number][t][1] - 105]])
            moved = [cv2.warpAffine(layer, place, (width, height)) for layer in (picture, share)]
            image += (moved[0] - image) * moved[1][..., None]
        frames.append(np.rint(image).astype(np.uint8))
    return frames


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
