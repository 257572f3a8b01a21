"""What changes in the middle of a file: the picture's shape, and the times."""

from fractions import Fraction

import av
import numpy as np
import pytest

from expportrait.video.reader import open_source
from expportrait.video.shots import ShotFinder, gaps, rate

from . import make


def shots(reader):
    finder, times = ShotFinder(255), []  # no cut for what is to be seen
    for time, frame in reader.frames(32):
        finder.add(frame)
        times.append(time)
    return finder.shots(times), times


@pytest.fixture
def two(tmp_path):
    """Two files in one: each is the arguments of ``make.video`` and its frames."""

    def two(first, second, **options):
        parts = [make.video(tmp_path / f"{n}.ts", frames, **options, **more)
                 for n, (frames, more) in enumerate((first, second))]  # fmt: skip
        return make.joined(tmp_path / "v.ts", *parts)

    return two


def test_another_shape_is_a_shot_in_its_own_shape(two):
    reader = open_source(two((make.numbered(20, 48, 96), {}), (make.numbered(30, 96, 64), {"offset": 10})))
    frames = [frame for _, frame in reader.frames()]
    assert [frame.shape for frame in frames] == [(48, 96, 3)] * 20 + [(96, 64, 3)] * 30
    assert [make.number(frame) for frame in frames] == [*range(20), *range(30)]
    assert (reader.height, reader.width) == reader.size(0) == reader.size(19) == (48, 96)
    assert reader.size(20) == reader.size(49) == (96, 64)
    assert {frame.shape for _, frame in reader.frames(longest=48)} == {(24, 48, 3), (48, 32, 3)}
    assert shots(reader)[0] == [(0, 20), (20, 50)]


def test_frames_from_the_middle_on_have_the_shape_that_they_have_there(two):
    path = two((make.numbered(100, 48, 96), {}), (make.numbered(60, 96, 64), {"offset": 4}))
    reader = open_source(path, 4.4)
    assert {frame.shape for _, frame in reader.frames()} == {(96, 64, 3)} == {(*reader.size(0), 3)}


def test_another_size_of_the_same_shape_is_scaled(two):
    reader = open_source(two((make.numbered(20, 48, 96), {}), (make.numbered(30, 96, 192), {"offset": 10})))
    assert {frame.shape for _, frame in reader.frames()} == {(48, 96, 3)}
    assert [make.number(frame) for _, frame in reader.frames()] == [*range(20), *range(30)]


def test_the_size_does_not_depend_on_where_reading_begins(two, tmp_path):
    parts = two((make.numbered(100, 48, 96), {}), (make.numbered(60, 96, 64), {"offset": 4}))
    last = make.video(tmp_path / "last.ts", make.numbered(60, 96, 192), offset=6.4)
    path = make.joined(tmp_path / "all.ts", parts, last)
    assert {frame.shape for _, frame in open_source(path, 6.5).frames()} == {(48, 96, 3)}
    assert [frame.shape for _, frame in open_source(path).frames()] == [(48, 96, 3)] * 100 + [(96, 64, 3)] * 60 + [
        (48, 96, 3)
    ] * 60


def test_a_change_of_the_pixels_aspect_is_another_shape(two):
    first, second = ((make.numbered(n), {"aspect": Fraction(*a), "offset": o})
                     for n, a, o in ((80, (4, 3), 0), (60, (16, 9), 3.2)))  # fmt: skip
    path = two(first, second)
    shapes = [frame.shape[1] for _, frame in open_source(path).frames()]
    assert shapes == [85] * 80 + [114] * 60
    assert {frame.shape[1] for _, frame in open_source(path, 4.4).frames()} == {114}


def test_interlaced_video_may_change_its_shape(two):
    wall = [make.wall(64, 96)] * 12, [make.wall(96, 64)] * 12
    reader = open_source(two((wall[0], {}), (wall[1], {"offset": 10}), x264="tff=1"))
    frames = [frame for _, frame in reader.frames()]
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 12 + [(96, 64, 3)] * 12
    assert np.abs(frames[15].astype(int) - wall[1][0]).mean() < 6


@pytest.mark.parametrize("offset", [3, 20000])
def test_a_gap_in_the_times_is_a_cut(two, offset):
    reader = open_source(two((make.numbered(20), {}), (make.numbered(30), {"offset": offset})))
    found, times = shots(reader)
    assert found == [(0, 20), (20, 50)] and times[20] - times[19] > 1.5
    assert reader.fps == pytest.approx(25) and rate(times) == pytest.approx(25)


def test_a_gap_does_not_spoil_the_rate_that_the_header_tells(two, tmp_path):
    path = two((make.numbered(20), {}), (make.numbered(30), {"offset": 1000}))
    with av.open(str(path)) as source, av.open(str(tmp_path / "v.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert container.streams.video[0].average_rate < 1
    assert open_source(tmp_path / "v.mp4").fps == pytest.approx(25)


def test_slow_and_uneven_times_are_no_gaps():
    assert gaps([0, 1, 2, 6, 7]) == [] == gaps([]) == gaps([3.0])  # a frame a second, some missing
    assert gaps([0, 0.04, 0.08, 0.98, 1.02]) == []
    assert gaps([0, 0.04, 0.08, 1.2, 1.24]) == [3]


def test_the_rate_is_that_of_the_usual_step():
    assert rate([0, 0.04, 0.08, 0.98, 1.02]) == pytest.approx(25)
    even = np.arange(1000) * 1001 / 30000
    assert rate(even) == 999 / even[-1]
    milliseconds = np.round(even, 3)  # as Matroska has them
    assert rate(milliseconds) == pytest.approx(30000 / 1001, rel=1e-4)
    telecine = np.cumsum([0, *[1 / 30, 1 / 20] * 200])
    assert rate(telecine) == pytest.approx(24)
