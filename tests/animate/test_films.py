"""The command from files to films, with a short driver and few steps of the fit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from expportrait.animate.chain import Chain
from expportrait.animate.sources import Portrait, portrait_row, video_row
from expportrait.demo.portrait import SOURCES
from expportrait.errors import UserError
from expportrait.files import beside
from expportrait.settings.config import Config, Demo
from expportrait.stages import with_code
from expportrait.video.mark import read_mark
from expportrait.video.reader import open_source
from tests.animate.made import untrained
from tests.test_cli import run
from tests.video import talk

QUICK = """\
crop: {size: 256}
proxy: {rigid_steps: 30, landmark_steps: 40, coarse_passes: 1, static_passes: 1, dynamic_passes: 1, final_passes: 0}
"""
SECONDS = "0.48"  # of the driver: 12 frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a portrait, a driver and quick settings."""
    folder = tmp_path_factory.mktemp("animate")
    with_code("demo").run("astronaut-smile", folder / "smile.mp4", SimpleNamespace(demo=Demo(frames=49, size=256)))
    cv2.imwrite(str(folder / "grace.png"), cv2.cvtColor(SOURCES["hopper"].read(), cv2.COLOR_RGB2BGR))
    (folder / "quick.yaml").write_text(QUICK)
    return folder


@pytest.fixture(scope="module")
def asked(folder):
    """Runs the command there: its exit status or sentence, what it printed, and the log of the stages."""

    def asked(*options, portrait=("grace.png",), driver=("smile.mp4", SECONDS)):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            named = [word for file in portrait for word in ("--portrait", file)]
            log = folder / "results" / "animate" / "logs" / "animate.log"
            before = len(log.read_text()) if log.exists() else 0
            given = ("--driver", driver[0], "--end", driver[1], "--settings", "quick.yaml")
            code = run("animate", *named, *given, *options)
            return SimpleNamespace(code=code, log=log.read_text()[before:] if log.exists() else "")

    return asked


@pytest.fixture(scope="module")
def first(asked, folder):
    """What the first call left."""
    return asked("--out", "first.mp4")


def pictures(file):
    with av.open(str(file)) as film:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])


def test_the_whole_portrait_moves_over_its_own_still_background(first, folder):
    assert first.code in (0, None)
    film, portrait = pictures(folder / "first.mp4"), SOURCES["hopper"].read()
    assert film.shape == (12, *portrait.shape)
    apart = np.abs(film.astype(int) - portrait).max(-1)
    assert apart[:, -40:].mean() < 3, "what lies outside the face's box stays"
    assert apart[:, 130:330, 170:360].max(0).mean() > 15, "the face moves"
    assert pictures(folder / "first.side.mp4").shape == (12, 256, 3 * 256, 3)
    mark = read_mark(folder / "first.mp4")
    assert "grace.png, moved by smile.mp4, by the preview" in mark.words


def test_a_gain_is_all_that_is_made_anew_and_one_of_1_is_none(first, asked, folder):
    again = asked("--out", "again.mp4", "--expression", "1", "--pose", "1")
    assert again.code in (0, None) and " 0 computed" in again.log and "done in" not in again.log
    assert (folder / "again.mp4").read_bytes() == (folder / "first.mp4").read_bytes()
    still = asked("--out", "still.mp4", "--hold", "pose", "--jaw", "0")
    assert still.code in (0, None)
    done = {line.split()[0] for line in still.log.splitlines() if "done in" in line}
    assert done == {"drive", "appearance"}
    film, moved = pictures(folder / "still.mp4"), pictures(folder / "first.mp4")
    hat = np.s_[:, 30:90, 200:330]
    shakes = [np.abs(np.diff(one[hat].astype(int), axis=0)).mean() for one in (film, moved)]
    assert shakes[0] < shakes[1] / 3, "a held pose holds the hat"


def test_the_films_sound_is_the_drivers_and_in_time(first, asked, folder):
    frames = [frame for _, frame in open_source(folder / "smile.mp4").frames()]
    times = talk.even(Fraction(30000, 1001), 24)
    talk.source(folder / "beep.mp4", times, 9)
    with av.open(str(folder / "beep.mp4")) as beep, av.open(str(folder / "talks.mp4"), "w") as talks:
        sound, heard = beep.streams.audio[0], None
        shown = talks.add_stream("libx264", rate=Fraction(30000, 1001), options={"crf": "14"})
        shown.height, shown.width, shown.pix_fmt = 256, 256, "yuv420p"
        heard = talks.add_stream_from_template(sound)
        for frame in frames[:24]:
            talks.mux(shown.encode(av.VideoFrame.from_ndarray(frame).reformat(format="yuv420p")))
        talks.mux(shown.encode(None))
        for packet in beep.demux(sound):
            if packet.dts is not None:
                packet.stream = heard
                talks.mux(packet)
    made = asked("--out", "talked.mp4", driver=("talks.mp4", SECONDS))
    assert made.code in (0, None)
    film = talk.look(folder / "talked.mp4")
    assert abs(film.beep - times[9]) < 1 / 60
    np.testing.assert_allclose(film.times, times[: len(film.times)], atol=1e-4)


def test_what_settings_say_of_the_head_counts_and_options_win(first, asked, folder):
    far = ("--set", "drive.max_move=0.5", "--set", "drive.pose=absolute", "--set", "appearance.body_follows=true")
    for name, options in (("far", far), ("back", (*far[2:4], "--pose-mode", "relative"))):
        assert asked("--out", f"{name}.mp4", *options).code in (0, None)
    ours = (folder / "first.mp4").read_bytes()
    assert (folder / "far.mp4").read_bytes() != ours and (folder / "back.mp4").read_bytes() == ours


def test_a_portrait_may_be_called_anything_and_have_odd_sides(first, asked, folder, capsysbinary):
    name = os.fsdecode(b"gr\xff\x01.png")
    cv2.imwrite(str(folder / "odd.png"), cv2.cvtColor(SOURCES["hopper"].read()[:599, :511], cv2.COLOR_RGB2BGR))
    (folder / "odd.png").rename(folder / name)
    got = asked("--out", "odd.mp4", portrait=(name,))
    assert got.code in (0, None)
    assert b"12 frames, 512x600, a preview" in capsysbinary.readouterr().out
    assert pictures(folder / "odd.mp4").shape == (12, 600, 512, 3)
    assert "the portrait gr??.png, moved by smile.mp4" in read_mark(folder / "odd.mp4").words


def test_copies_of_a_picture_are_each_called_by_their_own_name(first, asked, folder):
    cv2.imwrite(str(folder / "bare.png"), np.full((300, 300, 3), 60, np.uint8))
    (folder / "there").mkdir()
    shutil.copy(folder / "bare.png", folder / "there")
    here, there = (f"no face in {file}: 1 of 1 frames were looked at" for file in ("bare.png", "there/bare.png"))
    for file, why in (("bare.png", here), ("there/bare.png", there)):
        assert asked("--out", "bare.mp4", portrait=(file,)).code == f"expportrait: {why}"
    got = asked("--out", "bare", portrait=("bare.png", "there/bare.png", "grace.png"))
    assert got.code == f"expportrait: 2 of 3 films could not be made: {here}; {there}"


def test_a_generator_is_used_as_it_was_trained_and_sharper_than_it_sees(first, asked, folder):
    made = asked("--out", "generated.mp4", "--generator", str(untrained(folder / "trained")))
    assert made.code in (0, None)
    done = {line.split()[0] for line in made.log.splitlines() if "done in" in line}
    assert done == {"reenact"}, "the appearance is the preview's"
    film, preview = pictures(folder / "generated.mp4"), pictures(folder / "first.mp4")
    assert film.shape == preview.shape and "by a trained generator" in read_mark(folder / "generated.mp4").words
    # it changes nothing, at half of the crop's size: what is finer has to come from the preview
    assert cv2.PSNR(film, preview) > 36


def test_a_portrait_that_cannot_be_used_does_not_cost_the_others(first, asked, folder, capsys):
    cv2.imwrite(str(folder / "wall.png"), np.full((300, 300, 3), 120, np.uint8))
    got = asked("--out", "several", portrait=("wall.png", "grace.png"))
    assert got.code == (
        "expportrait: 1 of 2 films could not be made: no face in wall.png: 1 of 1 frames were looked at"
    )
    assert [file.name for file in sorted((folder / "several").iterdir())] == [
        "grace_smile.mp4", "grace_smile.side.mp4"
    ]  # fmt: skip
    assert "wrote several/grace_smile.mp4 (12 frames, 512x600, a preview)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "film.avi"), "--out film.avi: films are MP4 files: name one that ends in .mp4"),
        (("--out", "smile.mp4"), "smile.mp4 is one of the files that the film is made from: name another one by --out"),
        (("--out", "pose.mp4", "--pose-from", "pose.side.mp4"),
         "pose.side.mp4 is one of the files that the film is made from: name another one by --out"),
        (("--out", "grace.png/film.mp4"),
         "grace.png/film.mp4 cannot be written: {folder}/grace.png is no folder in which you may write"),
        (("--out", "films.mp4"), "films.mp4 is a folder, where the film is to be written: name another file by --out"),
        (("--out", f"{'a' * 250}.mp4"),
         f"{'a' * 250}.side.mp4: that name is too long for a file: name a shorter one by --out"),
        (("--results", "grace.png"),
         "nothing can be kept in grace.png (Not a directory): name another folder by --results"),
        (("--start", "50"), "smile.mp4 has no frames between 50 s and 0.48 s; check start and end"),
        (("--set", "drive.offsets=transfer"),
         "drive.offsets is transfer: --transfer and `transfer` go together"),
        (("--gaze", "left"), "--gaze left: a gain such as 0.5 is expected, or camera"),
        (("--generator", "nowhere"), "--generator: nowhere holds no trained generator: "
         "there is no generator.json in it or in its model/"),
        (("--pose-from", "gone.mp4"), "there is no file gone.mp4"),
        (("--set", "proxy.focal=x"), "the command line: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(asked, folder, options, said):
    (folder / "films.mp4").mkdir(exist_ok=True)
    shutil.copy(folder / "smile.mp4", folder / "pose.side.mp4")
    before = {file.name for file in folder.iterdir()}
    code = asked(*options).code
    assert isinstance(code, str) and (code == f"expportrait: {said.format(folder=folder)}" or "focal" in code)
    assert (folder / "pose.side.mp4").read_bytes() == (folder / "smile.mp4").read_bytes()
    assert {file.name for file in folder.iterdir()} - before <= {"results"}


@pytest.mark.parametrize("start", ["inf", "nan", "-1", "1e300"])
def test_a_time_that_is_none_is_a_matter_of_the_command_line(asked, start, capsys):
    assert asked("--start", start).code == 2
    assert "Invalid value for '--start'" in capsys.readouterr().err


def test_a_part_of_the_driver_is_the_same_part_where_it_gives_the_expression_too(first, asked, folder):
    made = asked("--out", "own.mp4", "--expression-from", "smile.mp4")
    assert made.code in (0, None) and "crop smile" not in made.log
    assert (folder / "own.mp4").read_bytes() == (folder / "first.mp4").read_bytes()


def test_a_driver_that_breaks_off_is_said_to(first, asked, folder, capsys):
    whole = (folder / "smile.mp4").read_bytes()
    (folder / "broken.mp4").write_bytes(whole[: 2 * len(whole) // 3])
    assert asked("--out", "broken_off.mp4", "--start", "0.36", driver=("broken.mp4", "9")).code in (0, None)
    assert "; the driver is damaged or cut off, and is shown as far as it can be read)" in capsys.readouterr().out


def test_a_clip_that_another_process_cut_anew_makes_no_film(first, folder):
    rows = portrait_row(Portrait(folder / "grace.png"), folder), video_row(folder / "smile.mp4", end=float(SECONDS))
    one, two = (
        Chain(Config.model_validate({"results": folder / "shared", "crop": {"size": size}}), "cpu", "torch", (), 12)
        for size in (128, 256)
    )
    pair = one.pair(*rows, {})
    one.bring("crop", [*rows])
    assert one.stores(pair)["driver"]["frames"].shape == (12, 128, 128, 3)
    two.bring("crop", [rows[1]])
    with pytest.raises(UserError, match="was made anew with other settings by another process"):
        one.stores(pair)


def test_what_a_call_left_that_died_over_its_film_is_removed(first, asked, folder):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = [beside(folder / name) for name in ("after.mp4", "after.side.mp4")]
    left = [file.with_name(file.name.replace(f"{os.getpid():010d}", f"{dead.pid:010d}")) for file in left]
    for file in left:
        file.write_bytes(b"half a film")
    assert asked("--out", "after.mp4").code in (0, None)
    assert not any(file.exists() for file in left)


def test_a_killed_one_goes_on_where_it_was(folder):
    other = ("--portrait", "grace.png", "--driver", "smile.mp4", "--end", "0.4", "--settings", "quick.yaml")
    command = [sys.executable, "-m", "expportrait", "animate", *other, "--results", "killed", "--out", "killed.mp4"]
    log, begun = folder / "killed" / "logs" / "animate.log", time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    while not (log.exists() and "crop smile" in log.read_text()) and time.monotonic() < begun + 120:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "killed.mp4").exists()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    text = log.read_text()
    assert text.count("crop smile") == 1 and text.count("done in") >= 10
    assert len(list(open_source(folder / "killed.mp4").frames())) == 10
    assert not [file for file in folder.iterdir() if file.name.endswith(".tmp")]
