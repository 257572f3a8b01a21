import errno
import gc
import os
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from expportrait.errors import ClipError, MachineFault
from expportrait.video.reader import VideoReader, open_source
from expportrait.video.write import write_mp4

from . import make


def numbers(reader):
    return [make.number(frame) for _, frame in reader.frames()]


def reason(path, *args):
    with pytest.raises(ClipError) as caught:
        for _ in open_source(path, *args).frames():
            pass
    assert str(path) in caught.value.reason or path.name in caught.value.reason
    assert "\n" not in caught.value.reason
    return caught.value


def test_a_video_gives_its_frames_and_times_as_often_as_asked(tmp_path):
    reader = open_source(make.video(tmp_path / "v.mp4", make.numbered(30), fps=30000 / 1001))
    for _ in range(2):
        times, frames = zip(*reader.frames(), strict=True)
        assert [make.number(frame) for frame in frames] == list(range(30))
        np.testing.assert_allclose(times, np.arange(30) * 1.001 / 30, atol=1e-6)
    assert (reader.width, reader.height, reader.truncated) == (64, 48, False)
    assert reader.fps == pytest.approx(29.97, abs=1e-3)
    assert frames[0].dtype == np.uint8 and frames[0].shape == (48, 64, 3)


@pytest.mark.parametrize(("start", "end"), [(0.2, 0.6), (3.0, 3.4), (2.96, None), (None, 0.04), (3.9601, 4.0)])
def test_a_range_is_exact_to_the_frame_also_where_the_reader_jumps(tmp_path, start, end):
    path = make.video(tmp_path / "v.mp4", make.numbered(100), gop=40)
    wanted = [n for n in range(100) if (start or 0) - 1e-3 <= n / 25 < (end or 99) - 1e-3]
    assert numbers(open_source(path, start, end)) == wanted
    assert len(wanted) > 0


def test_times_count_from_the_first_frame(tmp_path):
    path = make.video(tmp_path / "v.mp4", make.numbered(100))
    late = tmp_path / "late.mp4"
    with av.open(str(path)) as source, av.open(str(late), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts + 51200, packet.dts + 51200, stream
                target.mux(packet)
    assert next(iter(open_source(late).frames()))[0] == 0
    assert numbers(open_source(late, 3.0, 3.2)) == [75, 76, 77, 78, 79]


def test_a_range_after_the_end_is_empty(tmp_path):
    assert numbers(open_source(make.video(tmp_path / "v.mp4", make.numbered(10)), 5.0, 6.0)) == []


def test_frames_can_be_read_smaller(tmp_path):
    reader = open_source(make.video(tmp_path / "v.mp4", make.numbered(4, 48, 96)))
    assert {frame.shape for _, frame in reader.frames(longest=48)} == {(24, 48, 3)}
    assert {frame.shape for _, frame in reader.frames(longest=500)} == {(48, 96, 3)}


@pytest.mark.parametrize(("rotation", "corner"), [(-90, (0, -1)), (90, (-1, 0)), (180, (-1, -1))])
def test_rotation_in_the_metadata_is_applied(tmp_path, rotation, corner):
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:20, :20] = 255  # top left as stored
    reader = open_source(make.video(tmp_path / "v.mp4", [frame] * 3, rotation=rotation))
    upright = next(iter(reader.frames()))[1]
    assert upright.shape[:2] == ((64, 48) if abs(rotation) == 90 else (48, 64)) == (reader.height, reader.width)
    assert upright[corner] @ [1, 1, 1] > 700
    assert int((upright > 128).all(-1).sum()) == pytest.approx(400, abs=40)


def test_pixels_become_square(tmp_path):
    reader = open_source(make.video(tmp_path / "v.mp4", make.numbered(3), aspect=Fraction(3, 2)))
    assert (reader.width, reader.height) == (96, 48)
    assert next(iter(reader.frames()))[1].shape == (48, 96, 3)


@pytest.mark.parametrize(("codec", "pix_fmt", "layout"), [
    ("ffv1", "gray", "gray"), ("ffv1", "bgra", "rgba"), ("ffv1", "yuv420p10le", "rgb24"), ("ffv1", "yuv444p", "rgb24"),
])  # fmt: skip
def test_any_pixel_format_becomes_rgb(tmp_path, codec, pix_fmt, layout):
    colour = {"gray": np.uint8(120), "rgba": np.uint8([200, 90, 30, 128])}.get(layout, np.uint8([200, 90, 30]))
    frame = np.broadcast_to(colour, (48, 64, *colour.shape)).copy()
    path = make.video(tmp_path / "v.mkv", [frame] * 2, codec=codec, pix_fmt=pix_fmt, layout=layout)
    seen = next(iter(open_source(path).frames()))[1]
    expected = [120] * 3 if layout == "gray" else [200, 90, 30]
    np.testing.assert_allclose(seen[24, 32], expected, atol=3)


def test_untagged_high_definition_is_taken_for_bt709(tmp_path):
    frame = np.broadcast_to(np.uint8([200, 40, 30]), (720, 128, 3))
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 720, 128, "yuv444p"
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv444p", dst_colorspace="ITU709")
        picture.colorspace = 2  # unspecified
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    np.testing.assert_allclose(next(iter(open_source(path).frames()))[1][300, 60], [200, 40, 30], atol=3)


def test_an_animated_gif_is_a_video(tmp_path):
    path = make.video(tmp_path / "v.gif", make.numbered(8), fps=12.5, codec="gif", pix_fmt="gray", layout="rgb24")
    times, frames = zip(*open_source(path).frames(), strict=True)
    assert [make.number(frame) for frame in frames] == list(range(8))
    np.testing.assert_allclose(np.diff(times), 0.08, atol=1e-6)


def test_images_of_a_folder_come_in_natural_order(tmp_path):
    for n, frame in enumerate(make.numbered(12)):
        cv2.imwrite(str(tmp_path / f"frame{n}.png"), frame)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".frame0.png").write_text("no image either")
    reader = open_source(tmp_path, folder_fps=10)
    assert numbers(reader) == list(range(12))
    assert [time for time, _ in reader.frames()] == pytest.approx(np.arange(12) / 10)
    assert numbers(open_source(tmp_path, 0.3, 0.6, folder_fps=10)) == [3, 4, 5]
    assert {frame.shape for _, frame in reader.frames(longest=32)} == {(24, 32, 3)}


def test_a_single_image_is_one_frame_turned_upright(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:10, :10] = 255
    good, data = cv2.imencode(".jpg", image)
    assert good
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: turn clockwise
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif
    (tmp_path / "photo.jpg").write_bytes(data[:2].tobytes() + segment + data[2:].tobytes())
    reader = open_source(tmp_path / "photo.jpg")
    ((time, upright),) = reader.frames()
    assert (time, upright.shape) == (0, (60, 40, 3)) and (reader.height, reader.width) == (60, 40)
    assert upright[3, -4].min() > 200 and upright[3, 3].max() < 50


def test_transparent_grey_and_deep_images_become_rgb(tmp_path):
    alpha = np.full((20, 20, 4), 255, np.uint8)
    alpha[:, :10] = [0, 0, 0, 0]
    alpha[:, 10:, :3] = [30, 60, 200]  # blue first
    images = {"alpha": (alpha, [255] * 3, [200, 60, 30]), "grey": (np.full((20, 20), 77, np.uint8), [77] * 3, [77] * 3),
              "deep": (np.full((20, 20, 3), 200 * 257, np.uint16), [200] * 3, [200] * 3)}  # fmt: skip
    for name, (image, left, right) in images.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        ((_, seen),) = open_source(tmp_path / f"{name}.png").frames()
        assert seen.shape == (20, 20, 3) and seen.dtype == np.uint8
        np.testing.assert_allclose([seen[5, 5], seen[5, 15]], [left, right], atol=1)


def test_a_missing_source_may_come_later(tmp_path):
    assert reason(tmp_path / "none.mp4").retry


def test_sources_without_pictures_say_why(tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert "0 bytes" in reason(empty).reason
    text = tmp_path / "text.mp4"
    text.write_text("no video " * 1000)
    assert "not a video" in reason(text).reason
    assert "sound only" in reason(make.sound(tmp_path / "sound.m4a")).reason
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"no picture")
    assert "not an image" in reason(picture).reason
    (folder := tmp_path / "folder").mkdir()
    assert "no images" in reason(folder).reason
    for n, size in enumerate((20, 20, 30)):
        cv2.imwrite(str(folder / f"{n}.png"), np.zeros((20, size, 3), np.uint8))
    assert "30x20" in reason(folder).reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_can_be_tried_again(tmp_path):
    path = make.video(tmp_path / "v.mp4", make.numbered(3))
    path.chmod(0)
    assert reason(path).retry


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_cut_off_video_gives_what_is_there_and_says_so(tmp_path, suffix):
    frames = [make.scene(120, 160, (n, 0, 0.4)) for n in range(60)]
    path = make.video(tmp_path / f"whole.{suffix}", frames)
    if suffix == "mp4":
        with (
            av.open(str(path)) as source,
            av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "+faststart"}) as target,
        ):
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        path = tmp_path / "fast.mp4"
    data = path.read_bytes()
    (part := tmp_path / f"part.{suffix}").write_bytes(data[: len(data) * 6 // 10])
    reader = open_source(part)
    seen = [frame for _, frame in reader.frames()]
    assert 20 < len(seen) < 50
    assert reader.truncated
    for n in range(0, len(seen) - 2, 5):
        assert np.abs(seen[n].astype(int) - frames[n]).mean() < 6
    early = open_source(part, end=0.4)
    assert len(list(early.frames())) == 10 and not early.truncated


def test_a_video_without_its_index_says_so(tmp_path):
    data = make.video(tmp_path / "v.mp4", make.numbered(30)).read_bytes()
    assert data.find(b"mdat") < data.find(b"moov")
    (part := tmp_path / "part.mp4").write_bytes(data[: data.find(b"moov") - 4])
    assert "not copied to its end" in reason(part).reason


def _failing(monkeypatch, number):
    """The decoder reports an error of the operating system at the fourth packet."""
    seen = []

    class Packet:
        def __init__(self, packet):
            self.packet = packet

        def __getattr__(self, name):
            return getattr(self.packet, name)

        def decode(self):
            seen.append(self)
            if len(seen) == 4:
                av.error.err_check(-number)
            return self.packet.decode()

    packets = VideoReader._packets

    def wrapped(reader, container, stream):
        class Container:
            def demux(self, of):
                return map(Packet, container.demux(of))

        return packets(reader, Container(), stream)

    monkeypatch.setattr(VideoReader, "_packets", wrapped)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOMEM, errno.ETIMEDOUT])
def test_a_machine_that_fails_in_mid_decode_cuts_no_video_off(tmp_path, monkeypatch, number):
    reader = open_source(make.video(tmp_path / "v.mp4", make.numbered(8)))
    _failing(monkeypatch, number)
    with pytest.raises(MachineFault, match=rf"v\.mp4 could not be read.*: {os.strerror(number)}"):
        [*reader.frames()]
    assert not reader.truncated


def test_an_io_error_of_a_file_that_can_be_read_is_damage(tmp_path, monkeypatch):
    reader = open_source(make.video(tmp_path / "v.mp4", make.numbered(8)))
    _failing(monkeypatch, errno.EIO)
    [*reader.frames()]
    assert reader.truncated
    monkeypatch.undo()
    _failing(monkeypatch, errno.EIO)
    monkeypatch.setattr("expportrait.video.reader._readable", lambda path: False)
    with pytest.raises(MachineFault, match="Input/output error"):
        [*reader.frames()]


def test_too_many_open_files_are_not_the_videos_fault(tmp_path, monkeypatch):
    def refuse(*_, **__):
        av.error.err_check(-errno.EMFILE)

    monkeypatch.setattr(av, "open", refuse)
    (tmp_path / "v.mp4").write_bytes(b"x")
    with pytest.raises(MachineFault, match="Too many open files"):
        open_source(tmp_path / "v.mp4")


def test_a_colon_in_a_relative_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Talk: anna.mp4", "http:talk.mp4", "subfile,,talk.mp4", "pipe:0"):
        make.video(tmp_path / "v.mp4", make.numbered(3)).rename(name)
        assert numbers(open_source(name)) == [0, 1, 2]
    write_mp4("Talk: bob.mp4", make.numbered(4), 25)
    assert len(numbers(open_source("Talk: bob.mp4"))) == 4


def test_text_is_no_video(tmp_path):
    (tmp_path / "notes.txt").write_text("a line of text\n" * 100)
    assert "not a video" in reason(tmp_path / "notes.txt").reason


def test_an_image_of_another_suffix_is_an_image(tmp_path):
    image = np.full((20, 30, 4), 255, np.uint8)
    image[:, :10, 3] = 0
    cv2.imwrite(str(tmp_path / "p.png"), image // [2, 2, 2, 1])
    for name in ("portrait", "p.picture"):
        (tmp_path / name).write_bytes((tmp_path / "p.png").read_bytes())
        ((_, seen),) = open_source(tmp_path / name).frames()
        assert (seen[:, :10] == 255).all() and (seen[:, 10:] == 127).all()


@pytest.mark.parametrize("first", [False, True])
def test_an_entry_that_cannot_be_read_is_named_and_tried_again(tmp_path, first):
    (folder := tmp_path / "frames").mkdir()
    for n in (1, 2, 4):
        cv2.imwrite(str(folder / f"f{n}.png"), np.zeros((20, 20, 3), np.uint8))
    entry = folder / ("f0.png" if first else "f3.png")
    entry.symlink_to("moved/away.png")
    error = reason(folder)
    assert error.retry and f"{entry} is a link that leads nowhere" in error.reason
    entry.unlink()
    entry.symlink_to(entry.name)
    assert reason(folder).retry and f"{entry} is a link that leads back" in reason(folder).reason
    entry.unlink()
    entry.mkdir()
    assert reason(folder).retry and f"{entry} is a folder" in reason(folder).reason
    entry.rmdir()
    assert len([*open_source(folder).frames()]) == 3


def test_names_that_lead_nowhere_are_told(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link.mp4").symlink_to("nowhere.mp4")
    for name, said in (
        ("file/v.mp4", "does not exist"),
        ("x" * 300, "name is too long"),
        ("link.mp4", "leads nowhere"),
    ):
        assert reason(tmp_path / name).retry and said in reason(tmp_path / name).reason


def test_frames_that_were_read_do_not_wait_for_the_garbage_collector(tmp_path):
    source = open_source(make.video(tmp_path / "v.mp4", make.numbered(60)))
    alive = lambda: sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())  # noqa: E731
    gc.collect()
    before = alive()  # a file of tests before this one may hold some
    gc.disable()
    try:
        for _ in source.frames(32):
            pass
        after = alive()
    finally:
        gc.enable()
    assert after - before <= 2
