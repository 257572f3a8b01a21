"""The command from files to films, with a short driver and few steps of the fit."""

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

from expportrait.demo.portrait import SOURCES
from expportrait.settings.config import Demo
from expportrait.stages import with_code
from expportrait.video.mark import read_mark
from expportrait.video.reader import open_source
from tests.animate.made import untrained
from tests.test_cli import run
from tests.video import talk

QUICK = """\
crop: {size: 256}
proxy: {rigid_steps: 30, landmark_steps: 40, coarse_passes: 1, static_passes: 1, dynamic_passes: 1}
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
    made = asked("--out", "talked.mp4", driver=("talks.mp4", "0.75"))
    assert made.code in (0, None)
    film = talk.look(folder / "talked.mp4")
    assert abs(film.beep - times[9]) < 1 / 60
    np.testing.assert_allclose(film.times, times[: len(film.times)], atol=1e-4)


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
        (("--out", "smile.mp4"), "--out smile.mp4 is one of the files that the film is made from: name another one"),
        (("--gaze", "left"), "--gaze left: a gain such as 0.5 is expected, or camera"),
        (("--generator", "nowhere"), "--generator: nowhere holds no trained generator: "
         "there is no generator.json in it or in its model/"),
        (("--pose-from", "gone.mp4"), "there is no file gone.mp4"),
        (("--set", "proxy.focal=x"), "the command line: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(asked, folder, options, said):
    before = {file.name for file in folder.iterdir()}
    code = asked(*options).code
    assert isinstance(code, str) and (code == f"expportrait: {said}" or "focal" in code)
    assert {file.name for file in folder.iterdir()} - before <= {"results"}


def test_a_killed_one_goes_on_where_it_was(folder):
    other = ("--portrait", "grace.png", "--driver", "smile.mp4", "--end", SECONDS, "--settings", "quick.yaml")
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
    assert len(list(open_source(folder / "killed.mp4").frames())) == 12
    assert not [file for file in folder.iterdir() if file.name.endswith(".tmp")]
