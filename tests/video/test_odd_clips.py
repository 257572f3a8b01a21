"""Files as they come: what breaks pipelines that expect tidy ones."""

from fractions import Fraction

import av
import numpy as np
import pytest

from expportrait.errors import ClipError
from expportrait.video.hdr import HLG, PQ
from expportrait.video.reader import open_source

from . import make


def encode(path, frames, codec="ffv1", pix_fmt="yuv444p", times=None, audio=0.0, **context):
    """Frames, arrays or av.VideoFrame, with times in ms, and seconds of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=context.pop("options", {}))
        sound = container.add_stream("aac", rate=44100, layout="mono") if audio else None
        frames = [f if isinstance(f, av.VideoFrame) else av.VideoFrame.from_ndarray(f, format="rgb24") for f in frames]
        stream.height, stream.width, stream.pix_fmt = frames[0].height, frames[0].width, pix_fmt
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for n, frame in enumerate(frames):
            frame = frame.reformat(format=pix_fmt) if frame.format.name != pix_fmt else frame
            for name in ("color_trc", "colorspace", "color_primaries"):
                if name in context:
                    setattr(frame, name, context[name])
            if times:
                frame.pts, frame.time_base = times[n], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            for start in range(0, int(audio * 44100), 1024):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts = 44100, start
                container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
    return path


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0, 40, 80, 400, 420, 1000, 1040, 3000]
    reader = open_source(encode(tmp_path / "v.mkv", make.numbered(8), times=times))
    seen, frames = zip(*reader.frames(), strict=True)
    np.testing.assert_allclose(seen, np.array(times) / 1000, atol=1e-6)
    assert [make.number(frame) for frame in frames] == list(range(8))
    part = [make.number(frame) for _, frame in open_source(reader.path, 0.05, 1.04).frames()]
    assert part == [2, 3, 4, 5]


@pytest.mark.parametrize(("height", "width", "pix_fmt"), [(47, 63, "yuv444p"), (47, 63, "yuv420p"), (33, 3, "gray")])
def test_odd_sizes(tmp_path, height, width, pix_fmt):
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2] = 255
    reader = open_source(encode(tmp_path / "v.mkv", [image] * 2, pix_fmt=pix_fmt))
    for _, frame in reader.frames():
        assert frame.shape == image.shape and frame[0, 0].min() > 250 and frame[-1, -1].max() < 5
    assert next(iter(reader.frames(longest=20)))[1].shape[0] <= 20


def test_interlaced_fields_are_put_together(tmp_path):
    def scene(step):  # a bar that moves by 4 px a field
        image = np.zeros((64, 96, 3), np.uint8)
        image[:, 10 + 4 * step : 30 + 4 * step] = 255
        return image

    woven = []
    for t in range(8):
        frame = scene(2 * t)
        frame[1::2] = scene(2 * t + 1)[1::2]
        woven.append(frame)
    path = encode(tmp_path / "v.mp4", woven, codec="libx264", pix_fmt="yuv420p",
                  options={"x264-params": "tff=1", "crf": "10"})  # fmt: skip
    times, frames = zip(*open_source(path).frames(), strict=True)
    np.testing.assert_allclose(times, np.arange(8) / 25, atol=1e-6)

    def comb(frame):
        return np.abs(np.diff(frame[..., 0].astype(float), axis=0)).mean()

    assert max(comb(frame) for frame in frames[1:]) < 0.3 * comb(woven[1])
    for t in range(1, 7):
        # which field comes first, and so is shown, is the encoder's choice
        assert min(np.abs(frames[t].astype(float) - scene(2 * t + field)).mean() for field in (0, 1)) < 6


def test_a_range_of_interlaced_video_is_complete(tmp_path):
    for gop in (1, 25):
        path = encode(tmp_path / f"{gop}.mkv", make.numbered(100), codec="libx264", pix_fmt="yuv420p",
                      options={"x264-params": f"tff=1:keyint={gop}:bframes=0"})  # fmt: skip
        for start in (2.04, 3.0, 3.02):
            seen = [make.number(frame) for _, frame in open_source(path, start, start + 0.4).frames()]
            wanted = [n for n in range(100) if start - 1e-3 <= n / 25 < start + 0.4 - 1e-3]
            assert len(seen) == len(wanted)
            assert sum(a == b for a, b in zip(seen, wanted, strict=True)) >= len(wanted) - 2  # fields may blend numbers


COLOURS = np.uint8([[200, 150, 120], [90, 60, 50], [250, 250, 250], [0, 0, 0], [30, 120, 60]])


def as_hdr(colours, transfer):
    """8-bit sRGB as 16-bit codes, BT.2020, diffuse white at 203 cd/m^2; after the standards, not after the project."""
    x = colours / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    wide = (
        linear @ np.linalg.inv([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]).T
    )
    if transfer == PQ:
        y = (wide.clip(0) * 203 / 10000) ** 0.1593017578125
        code = ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    else:
        e = (wide.clip(0) * 203 / 1000) ** (1 / 1.2)
        code = np.where(
            e <= 1 / 12, np.sqrt(3 * e), 0.17883277 * np.log(np.maximum(12 * e - 0.28466892, 1e-9)) + 0.55991073
        )
    return np.rint(65535 * code).astype(np.uint16)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_high_dynamic_range_looks_as_ordinary_video_does(tmp_path, transfer):
    codes = np.repeat(np.repeat(as_hdr(COLOURS, transfer)[None], 32, 0), 16, 1)
    picture = av.VideoFrame.from_ndarray(codes, format="rgb48le").reformat(format="yuv420p10le", dst_colorspace=9)
    path = encode(tmp_path / "v.mkv", [picture] * 2, pix_fmt="yuv420p10le", color_trc=transfer, color_primaries=9,
                  colorspace=9)  # fmt: skip
    seen = next(iter(open_source(path).frames()))[1][16, 8::16]
    np.testing.assert_allclose(seen[[0, 1, 3, 4]], COLOURS[[0, 1, 3, 4]], atol=9)
    assert 215 < seen[2].min() < 250  # highlights are compressed, so that brighter ones fit above
    small = next(iter(open_source(path).frames(longest=40)))[1]
    assert small.dtype == np.uint8 and small.shape == (16, 40, 3)


def test_damage_in_the_middle_costs_some_frames(tmp_path):
    frames = [make.scene(120, 160, (n, 0, 0.4)) for n in range(100)]
    data = bytearray(make.video(tmp_path / "v.mkv", frames, gop=10).read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 20] = bytes(len(data) // 20)
    (tmp_path / "bad.mkv").write_bytes(data)
    reader = open_source(tmp_path / "bad.mkv")
    times, seen = zip(*reader.frames(), strict=True)
    assert reader.truncated and 70 < len(seen) < 100
    assert times[-1] == pytest.approx(99 / 25, abs=1e-3) and (np.diff(times) > 0).all()
    for time, frame in zip(times[-10:], seen[-10:], strict=True):
        assert np.abs(frame.astype(int) - frames[round(25 * time)]).mean() < 6


def test_sound_that_goes_on_is_no_truncation(tmp_path):
    for suffix in ("mkv", "mp4"):
        path = encode(tmp_path / f"v.{suffix}", make.numbered(10), "libx264", "yuv420p", audio=3.0)
        reader = open_source(path)
        assert len(list(reader.frames())) == 10 and not reader.truncated
        assert reader.length == pytest.approx(0.4, abs=0.05)


def test_a_header_without_a_body_says_so(tmp_path):
    data = make.video(tmp_path / "v.mkv", make.numbered(20)).read_bytes()
    for size in (40, 200, 700):
        (tmp_path / "part.mkv").write_bytes(data[:size])
        with pytest.raises(ClipError, match=r"not a video|no frame|sound only|no pictures"):
            list(open_source(tmp_path / "part.mkv").frames())
