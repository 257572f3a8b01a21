"""Which rows the stages are given for what the command line names."""

import os
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.data import astronaut

from expportrait.animate.sources import Portrait, choose_face, portrait_row, read_portraits, video_row
from expportrait.demo.portrait import SOURCES
from expportrait.errors import UserError
from expportrait.manifest.clips import NAME
from expportrait.settings.config import Crop
from tests.video.make import video


def save(file, picture):
    assert cv2.imwrite(str(file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return file


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A picture of two people: the one on the left fills x < 400, the other one x >= 500."""
    picture = np.full((420, 900, 3), 200, np.uint8)
    picture[20:420, :400] = cv2.resize(astronaut()[:300, 76:376], (400, 400))
    picture[20:420, 500:] = cv2.resize(SOURCES["hopper"].read()[60:400, 90:430], (400, 400))
    return save(tmp_path_factory.mktemp("two") / "two.png", picture)


def test_results_are_called_by_what_is_in_a_file_not_by_where_it_is(tmp_path):
    (tmp_path / "other").mkdir()
    here = save(tmp_path / "an na!.png", astronaut())
    there, changed = shutil.copy(here, tmp_path / "other"), save(tmp_path / "other" / "b.png", astronaut()[:, ::-1])
    rows = [portrait_row(Portrait(file), tmp_path) for file in (here, tmp_path / "other" / "an na!.png")]
    assert rows[0].clip == rows[1].clip and rows[0].identity() == rows[1].identity() and there.endswith("an na!.png")
    changed.rename(tmp_path / "other" / "an na!.png")
    assert portrait_row(Portrait(tmp_path / "other" / "an na!.png"), tmp_path).clip != rows[0].clip
    assert rows[0].clip.startswith("an_na_-")


@given(name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_file_name_makes_a_name_that_the_manifest_would_take(tmp_path_factory, name):
    file = tmp_path_factory.mktemp("names") / name
    try:
        file.write_bytes(b"video")
    except (OSError, ValueError):
        return  # no name of a file
    assert NAME.fullmatch(video_row(file, 1.5, 2.25).clip)


def test_a_frame_of_a_video_becomes_a_picture_of_its_own(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    film = video(tmp_path / "anna.mp4", frames)
    row = portrait_row(Portrait(film, 3), tmp_path / "portraits")
    kept = cv2.cvtColor(cv2.imread(str(row.path)), cv2.COLOR_BGR2RGB).astype(int)
    errors = [np.abs(kept - frame).mean() for frame in frames]
    assert np.argmin(errors) == 3
    with pytest.raises(UserError, match="has no frame 5: its frames count from 0"):
        portrait_row(Portrait(film, 5), tmp_path / "portraits")
    image = save(tmp_path / "a.png", astronaut())
    with pytest.raises(UserError, match="is an image, so it has no frame 2"):
        portrait_row(Portrait(image, 2), tmp_path)


def test_of_two_people_it_has_to_be_said_who(two, tmp_path):
    row = portrait_row(Portrait(two), tmp_path)
    with pytest.raises(UserError, match=r"shows 2 faces: say which one by --face, 1 \(the leftmost\) to 2"):
        choose_face(Portrait(two), row, Crop())
    for face, (low, high) in ((1, (0, 400)), (2, (500, 900))):
        asked = Portrait(two, face=face)
        box = choose_face(asked, portrait_row(asked, tmp_path), Crop()).box
        assert low <= (box[0] + box[2]) / 2 <= high
    with pytest.raises(UserError, match="shows 2 faces"):
        choose_face(Portrait(two, face=3), row, Crop())


def test_a_small_face_in_the_background_is_no_rival(tmp_path):
    picture = np.full((512, 700, 3), 180, np.uint8)
    picture[:, :512] = astronaut()
    picture[300:420, 560:680] = cv2.resize(SOURCES["hopper"].read()[60:400, 90:430], (120, 120))
    file = save(tmp_path / "a.png", picture)
    row = portrait_row(Portrait(file), tmp_path)
    assert choose_face(Portrait(file), row, Crop()) == row


def test_faces_that_are_not_there_are_not_chosen(tmp_path):
    file = save(tmp_path / "wall.png", np.full((300, 300, 3), 90, np.uint8))
    row = portrait_row(Portrait(file), tmp_path)
    assert choose_face(Portrait(file), row, Crop()) == row, "crop says that there is none"
    with pytest.raises(UserError, match="shows no face: leave --face out"):
        choose_face(Portrait(file, face=1), row, Crop())


def test_a_table_lists_portraits_from_its_own_folder(tmp_path):
    table = tmp_path / "people.csv"
    table.write_text("portrait,frame,face\na.png,,\nb.mp4, 7 ,2\n\n")
    plain = Portrait(tmp_path / "c.png")
    found = read_portraits([table, plain.file, plain.file], 0, None)
    assert found == [Portrait(tmp_path / "a.png"), Portrait(tmp_path / "b.mp4", 7, 2), plain]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("picture\na.png\n", "line 1: there is no column portrait"),
        ("portrait,frames\na.png,1\n", "line 1: there is no column frames, only portrait, frame, face"),
        ("portrait,frame\na.png,first\n", "line 2, column frame: 'first' is no whole number of at most 9 digits"),
        ("portrait,frame\na.mp4,99999999999999999999\n", "column frame: '9+' is no whole number of at most 9 digits"),
        ("portrait\n\n", "lists no portraits"),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_its_place(tmp_path, text, said):
    table = tmp_path / "people.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=said):
        read_portraits([table], 0, None)


def test_a_table_may_not_ask_for_face_0(tmp_path):
    table = tmp_path / "people.csv"
    table.write_text("portrait,face\na.png,0\n")
    assert read_portraits([table], 0, 2) == [Portrait(tmp_path / "a.png", 0, 0)]
    file = save(tmp_path / "a.png", astronaut())
    asked = Portrait(file, face=0)
    with pytest.raises(UserError, match="shows one face: leave --face out"):
        choose_face(asked, portrait_row(asked, tmp_path), Crop())


def test_files_that_cannot_be_read_twice_or_are_empty_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UserError, match=r"pipe\.mp4 is no file that can be read more than once"):
        video_row(tmp_path / "pipe.mp4")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UserError, match=r"a\.mp4 is an empty file \(0 bytes\): copy it again"):
        video_row(tmp_path / "a.mp4")


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*gone\.mp4"):
        video_row(tmp_path / "gone.mp4")
    with pytest.raises(UserError, match="is a folder: name one file"):
        video_row(tmp_path)
