import resource

import av
import numpy as np
import pytest

from expportrait.errors import MachineFault
from expportrait.video.reader import open_source
from expportrait.video.write import write_mp4

from . import make


def test_what_is_written_can_be_read(tmp_path):
    frames = [make.scene(120, 160, (n, 0, 0.4)) for n in range(20)]
    write_mp4(tmp_path / "new" / "v.mp4", iter(frames), 30000 / 1001)
    times, seen = zip(*open_source(tmp_path / "new" / "v.mp4").frames(), strict=True)
    np.testing.assert_allclose(times, np.arange(20) * 1.001 / 30, atol=1e-6)
    error = np.mean((np.array(seen, float) - frames) ** 2)
    assert 10 * np.log10(255**2 / error) > 34  # dB; half of the colour samples are gone
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["v.mp4"]


def test_browsers_can_play_it(tmp_path):
    write_mp4(tmp_path / "v.mp4", make.numbered(5), 25)
    data = (tmp_path / "v.mp4").read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    with av.open(str(tmp_path / "v.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")


def test_key_frames_come_as_often_as_asked(tmp_path):
    write_mp4(tmp_path / "v.mp4", (make.scene(64, 64, (n, 0, 0.1)) for n in range(30)), 25, keys=12)
    with av.open(str(tmp_path / "v.mp4")) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert max(np.diff([*np.flatnonzero(keys), 30])) <= 12


def test_colours_survive(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (2, 4, 3)).astype(np.uint8)
    frame = colours.repeat(32, 0).repeat(32, 1)
    write_mp4(tmp_path / "v.mp4", [frame] * 3, 25)
    seen = next(iter(open_source(tmp_path / "v.mp4").frames()))[1]
    np.testing.assert_allclose(seen[16::32, 16::32].astype(int), colours, atol=4)


def test_odd_sizes_grow_by_a_repeated_pixel(tmp_path):
    frame = make.portrait()[:61, :83]
    write_mp4(tmp_path / "v.mp4", [frame] * 2, 25)
    seen = next(iter(open_source(tmp_path / "v.mp4").frames()))[1]
    assert seen.shape == (62, 84, 3)
    assert np.abs(seen[:61, :83].astype(int) - frame).mean() < 5


def test_a_failure_leaves_the_older_file(tmp_path):
    path = tmp_path / "v.mp4"
    write_mp4(path, make.numbered(5), 25)
    before = path.read_bytes()

    def broken():
        yield from make.numbered(3)
        raise RuntimeError("renderer")

    with pytest.raises(RuntimeError, match="renderer"):
        write_mp4(path, broken(), 25)
    with pytest.raises(ValueError, match="no frames"):
        write_mp4(path, [], 25)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_the_machines_fault(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # as a quota does
    try:
        with pytest.raises(MachineFault, match=r"v\.mp4 cannot be written: File too large"):
            noise = np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3), dtype=np.uint8)
            write_mp4(tmp_path / "v.mp4", iter(noise), 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [*tmp_path.iterdir()] == []
