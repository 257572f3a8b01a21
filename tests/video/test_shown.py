"""What players show of a file, and which of its streams: mirrorings, EXIF, several streams, images in tiles."""

import struct

import av
import cv2
import numpy as np
import pytest

from expportrait.errors import ClipError
from expportrait.video.reader import open_source

from . import make
from .heif import heif

# the linear part of a display matrix, row by row, and what players then show of the stored picture
SHOWN = {
    "as it is": ((1, 0, 0, 1), lambda image: image),
    "90 degrees": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "180 degrees": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "270 degrees": ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
    "hflip": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda image: image[::-1]),
    "transpose": ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    "transverse": ((0, -1, -1, 0), lambda image: image[::-1, ::-1].swapaxes(0, 1)),
}
# by EXIF's orientation 1 to 8
EXIF = ["as it is", "hflip", "180 degrees", "vflip", "transpose", "90 degrees", "transverse", "270 degrees"]


def corners(height=48, width=64):
    """A picture that is like none of its seven mirrorings and turns."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[: height // 3, : width // 4] = [230, 30, 30]
    image[: height // 4, width // 2 :] = [30, 200, 40]
    image[height // 2 :, : width // 3] = [40, 60, 220]
    return image


def first(path):
    reader = open_source(path)
    ((_, image), *_) = reader.frames()
    assert image.shape[:2] == (reader.height, reader.width)
    return image


def with_matrix(path, source, matrix):
    """A copy of an mp4 file with another display matrix in its track's header."""
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version 0: the matrix comes after 40 bytes
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", SHOWN)
def test_a_display_matrix_turns_and_mirrors(tmp_path, name):
    matrix, shown = SHOWN[name]
    plain = make.video(tmp_path / "plain.mp4", [corners()] * 3)
    seen = first(with_matrix(tmp_path / "v.mp4", plain, matrix))
    np.testing.assert_array_equal(seen, shown(first(plain)))
    assert np.abs(seen.astype(int) - shown(corners())).mean() < 6


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_alpha_as_it_turns_colours(tmp_path, suffix, orientation, square):
    image = corners(48, 48 if square else 64)
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    alpha[:20, :30] = 0
    alpha[30:, 40:] = 128
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
    colours = np.concatenate([image[..., ::-1], alpha], -1)
    good, data = cv2.imencodeWithMetadata(suffix, colours, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif, np.uint8)],
                                          [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else [])  # fmt: skip
    assert good
    (tmp_path / f"p{suffix}").write_bytes(data.tobytes())
    share = alpha / 255
    wanted = SHOWN[EXIF[orientation - 1]][1](image * share + 255 * (1 - share))
    seen = first(tmp_path / f"p{suffix}")
    hidden = SHOWN[EXIF[orientation - 1]][1](alpha)[..., 0] == 0  # lossless WebP drops the colours there
    np.testing.assert_allclose(seen[~hidden], wanted[~hidden], atol=1)
    assert (seen[hidden] == 255).all()


def streams(path, *pictures, default=None):
    """A video stream for each of the pictures; ``default``: which of them is marked so, -1 for all."""
    with av.open(str(path), "w") as container:
        made = []
        for number, picture in enumerate(pictures):
            stream = container.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv444p"
            stream.disposition = av.stream.Disposition.default if default in (number, -1) else 0
            made.append(stream)
        for stream, picture in zip(made, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv444p")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def test_the_main_stream_is_read(tmp_path):
    small, other, large = make.wall(54, 96), make.wall(180, 320, 1), make.wall(360, 640, 2)
    for default, wanted in ((1, other), (0, small), (None, large)):
        seen = first(streams(tmp_path / f"{default}.mkv", small, other, large, default=default))
        assert seen.shape == wanted.shape and np.abs(seen.astype(int) - wanted).mean() < 3
    # of several default ones, as Matroska's are where nothing is said, the largest
    assert first(streams(tmp_path / "all.mkv", small, large, other, default=-1)).shape == large.shape


def test_a_single_heic_picture_is_read_as_it_is_shown(tmp_path):
    picture = make.scene(128, 192, (10, -20, 0.6))
    for name, (_, shown) in SHOWN.items():
        seen = first(heif(tmp_path / "p.heic", [picture], turn=name))
        assert seen.shape == shown(picture).shape, name
        assert np.abs(seen.astype(int) - shown(picture)).mean() < 6, name


@pytest.mark.parametrize("thumbnail", [None, make.wall(64, 96)])
def test_heic_in_tiles_is_refused_and_never_one_tile(tmp_path, thumbnail):
    picture = make.scene(256, 384, (40, 0, 0.9))
    tiles = [picture[y : y + 128, x : x + 128] for y in (0, 128) for x in (0, 128, 256)]
    path = heif(tmp_path / "p.heic", tiles, rows=2, thumbnail=thumbnail)
    with pytest.raises(ClipError, match=r"p\.heic is HEIC in tiles: convert it to JPEG or PNG$"):
        open_source(path)
