from fractions import Fraction
from itertools import islice
from types import MappingProxyType

import av
import cv2
import numpy as np
import pytest

from expportrait.video.reader import VideoReader
from expportrait.video.sound import Sound
from expportrait.video.write import write_mp4

from . import make
from .talk import Track, even, look, source, uneven

RATES = {
    "23.976": Fraction(24000, 1001),
    "25": Fraction(25),
    "30": Fraction(30),
    "59.94": Fraction(60000, 1001),
    "uneven": None,
}


def film(path, out, start=None, end=None, shot=slice(None)):
    """What a stage does: frames of the row's span, of them a shot, and the sound of that."""
    reader = VideoReader(path, start, end)
    times, frames = zip(*islice(reader.frames(), shot.start, shot.stop), strict=True)

    class Crop(dict):
        attrs = MappingProxyType({"fps": reader.fps})

    sound = Sound.of(path, Crop(timestamps=np.array(times)), len(times))
    write_mp4(out, frames, reader.fps, times=times, sound=sound)
    return look(out)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("cut", ["whole", "row", "shot"])
def test_what_is_heard_is_heard_when_it_is_seen(tmp_path, rate, cut):
    count = 240
    times = even(RATES[rate], count) if RATES[rate] else uneven(count)
    blink = 150
    path = source(tmp_path / "v.mp4", times, blink)
    span = {"whole": {}, "row": {"start": times[90] + 0.004, "end": times[200]},
            "shot": {"start": times[20], "shot": slice(67, 180)}}[cut]  # fmt: skip
    seen = film(path, tmp_path / "film.mp4", **span)
    step = 1 / float(RATES[rate] or 30)
    assert seen.blink is not None and seen.beep is not None
    assert abs(seen.beep - seen.blink) < step / 2
    if cut == "shot":
        assert seen.blink == pytest.approx(times[150] - times[87], abs=2e-3)


def test_films_keep_even_rates_as_fractions_and_uneven_times_as_they_are(tmp_path):
    for rate in filter(None, RATES.values()):
        path = source(tmp_path / "even.mp4", even(rate, 50), 20)
        film(path, tmp_path / "film.mp4", shot=slice(5, 40))
        with av.open(str(tmp_path / "film.mp4")) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == rate
            stamps = sorted(packet.pts for packet in container.demux(stream) if packet.size)
            assert set(np.diff(stamps)) == {1 / (rate * stream.time_base)}
    times = uneven(60)
    path = source(tmp_path / "uneven.mp4", times, 20)
    seen = film(path, tmp_path / "film.mp4", shot=slice(5, 60))
    np.testing.assert_allclose(seen.times, np.array(times[5:]) - times[5], atol=2e-5)


@pytest.mark.parametrize(
    "suffix, track",
    [
        (".mkv", Track()),
        (".ts", Track(rate=44100, layout="stereo")),
        (".mp4", Track("libmp3lame", 44100, "stereo")),
        (".mkv", Track("libopus")),
        (".mkv", Track("flac", 44100)),
        (".mkv", Track("pcm_s16le", 8000)),
        (".mov", Track("pcm_s16le", 22050, "stereo")),
        (".mkv", Track("pcm_s16le", 7350)),
        (".mkv", Track("pcm_s16le", 192000, "stereo")),
        (".mkv", Track("aac", 48000, "5.1")),
        (".mkv", Track("flac", 48000, "6.1")),
        (".mkv", Track("ac3", 48000, "3.0")),
    ],
    ids=str,
)
def test_all_kinds_of_sound_become_a_films(tmp_path, capsys, suffix, track):
    times = even(25, 100)
    path = source(tmp_path / f"v{suffix}", times, 60, [track])
    seen = film(path, tmp_path / "film.mp4", shot=slice(30, 90))
    assert abs(seen.beep - seen.blink) < 0.02 and seen.loud > 0.3
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.audio[0].codec_context.channels <= (6 if track.codec == "aac" else 2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_aac_is_copied(tmp_path, suffix):
    path = source(tmp_path / f"v{suffix}", even(30, 90), 50)
    film(path, tmp_path / "film.mp4", shot=slice(40, 80))
    given, taken = (_packets(file) for file in (path, tmp_path / "film.mp4"))
    assert len(taken) > 30 and set(taken) <= set(given)


def _packets(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_sound_that_begins_later_or_ends_earlier_stays_where_it_was(tmp_path, codec):
    path = source(tmp_path / "v.mkv", even(25, 150), 80, [Track(codec, begins=2.0, ends=4.0)])
    for shot in (slice(None), slice(60, 150)):
        seen = film(path, tmp_path / "film.mp4", shot=shot)
        assert abs(seen.beep - seen.blink) < 0.02
        assert seen.ends == pytest.approx(4.0 - (shot.start or 0) / 25, abs=0.06)


def test_a_file_whose_clock_does_not_begin_at_0(tmp_path):
    path = source(tmp_path / "v.ts", even(25, 120), 80, begins=7.3)
    seen = film(path, tmp_path / "film.mp4", start=2.4)
    assert abs(seen.beep - seen.blink) < 0.02


def test_the_default_one_of_several_streams_is_heard(tmp_path):
    path = source(tmp_path / "v.mkv", even(25, 50), 20, [Track(loud=0.0), Track(default=True), Track(loud=0.0)])
    assert film(path, tmp_path / "film.mp4").loud > 0.5


def test_silent_sources_make_silent_films_without_a_word(tmp_path, capsys):
    (tmp_path / "frames").mkdir()
    image = tmp_path / "frames" / "0.png"
    cv2.imwrite(str(image), make.numbered(1)[0])
    silent = make.video(tmp_path / "v.mp4", make.numbered(5))
    moving = make.video(tmp_path / "v.gif", make.numbered(5), codec="gif", pix_fmt="rgb8", layout="rgb24")
    over = source(tmp_path / "over.mkv", even(25, 60), 50, [Track(ends=0.3)])
    for path in (silent, moving, over, image, image.parent):
        write_mp4(tmp_path / "film.mp4", make.numbered(5), 25, sound=Sound(path, 1.0, 1.2))
        with av.open(str(tmp_path / "film.mp4")) as container:
            assert not container.streams.audio
    assert capsys.readouterr().err == ""


def test_a_source_that_is_gone_makes_silent_films_and_one_sentence(tmp_path, capsys):
    gone = tmp_path / "gone.mp4"
    sound = Sound(gone, 0, 0.2)
    for name in ("film.mp4", "film.side.mp4"):
        write_mp4(tmp_path / name, make.numbered(5), 25, sound=sound)
        assert len(look(tmp_path / name).times) == 5
    assert capsys.readouterr().err == f"a film stays without the sound of {gone}: it is not there any more\n"


def test_a_source_that_is_no_video_any_more_makes_a_silent_film_and_one_sentence(tmp_path, capsys):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"no video" * 99)
    write_mp4(tmp_path / "film.mp4", make.numbered(5), 25, sound=Sound(path, 0, 0.2))
    assert len(look(tmp_path / "film.mp4").times) == 5
    assert capsys.readouterr().err.count("\n") == 1


def test_files_one_behind_the_other_stay_in_sync(tmp_path):
    one = source(tmp_path / "a.ts", even(25, 60), 70 % 60, [Track(rate=44100, layout="stereo", loud=0, ends=2.4)])
    two = source(tmp_path / "b.ts", even(25, 60), 40, [Track()])
    path = make.joined(tmp_path / "v.ts", one, two)
    seen = film(path, tmp_path / "film.mp4", shot=slice(20, 110))
    assert seen.beep == pytest.approx((60 + 40 - 20) / 25, abs=0.06)


def test_damaged_sound_is_heard_as_far_as_it_can_be_and_stays_in_sync(tmp_path):
    path = source(tmp_path / "v.mp4", even(25, 150), 100, broken=0.1)
    seen = film(path, tmp_path / "film.mp4")
    assert len(seen.times) == 150
    assert seen.beep is None or seen.beep > seen.blink - 0.05


def test_sound_that_cannot_be_decoded_is_left_out_with_a_sentence(tmp_path, capsys):
    path = source(tmp_path / "v.mkv", even(25, 50), 20, [Track("flac", 44100)], broken=1.0)
    seen = film(path, tmp_path / "film.mp4")
    assert len(seen.times) == 50 and seen.beep is None
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and str(path) in told[0] and "cannot be decoded" in told[0]


def test_a_file_that_breaks_off_gives_the_sound_that_is_there(tmp_path):
    path = source(tmp_path / "v.mkv", even(25, 200), 40, [Track("flac", 44100)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen = film(path, tmp_path / "film.mp4")
    assert 40 < len(seen.times) < 200 and abs(seen.beep - seen.blink) < 0.02


def test_sound_and_pictures_lie_side_by_side_in_the_file(tmp_path):
    for codec in ("aac", "flac"):
        path = source(tmp_path / "v.mkv", even(25, 500), 40, [Track(codec, 44100)])
        film(path, tmp_path / "film.mp4")
        at = {"audio": 0.0, "video": 0.0}
        with av.open(str(tmp_path / "film.mp4")) as container:
            for packet in sorted((p for p in container.demux() if p.size), key=lambda p: p.pos):
                at[packet.stream.type] = float(packet.dts * packet.time_base)
                assert abs(at["audio"] - at["video"]) < 2.5
