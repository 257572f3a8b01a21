import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.errors import UserError
from expportrait.importers import vfhq
from expportrait.importers.common import Found, LeftOut
from expportrait.video.reader import open_source

from ..video import make

NAME = "Clip+G0DGRma_p48+P0+C0+F50-80"
TEXT = "video id: G0DGRma_p48\nH 720\nW 1280\nFPS 25.0\nCROP 320 120 800 600\n"


@pytest.fixture
def meta(tmp_path):
    def meta(name=NAME, text=TEXT, folder="VFHQ-Train"):
        (tmp_path / "meta" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "meta" / folder / f"{name}.txt").write_bytes(text.encode("utf-8-sig"))
        (tmp_path / "videos").mkdir(exist_ok=True)
        return tmp_path / "meta", tmp_path / "videos"

    return meta


def test_a_clip_of_a_video(meta, importing, clip):
    annotations, videos = meta()
    clip(videos / "G0DGRma_p48.mp4", fps=25, height=360, width=640)
    rows, left = importing(vfhq.rows(annotations, videos))
    (row,) = rows.values()
    assert (row.clip, row.person, row.extra) == (NAME, "G0DGRma_p48+P0", {"video": "G0DGRma_p48"})
    assert row.source == "videos/G0DGRma_p48.mp4" and not left
    assert row.box == (160, 60, 400, 300)  # px of the file, which is half as large as the annotated one
    frames = [make.number(frame) for _, frame in open_source(row.path, row.start, row.end).frames()]
    assert frames == list(range(51, 80))


@pytest.mark.parametrize(("annotated", "actual", "first"), [("30", 30000 / 1001, 51), ("30", 25, 43), ("0", 25, 51)])
def test_frames_are_counted_at_the_right_rate(meta, importing, clip, annotated, actual, first):
    annotations, videos = meta(text=TEXT.replace("25.0", annotated))
    clip(videos / "G0DGRma_p48.mp4", fps=actual)
    (row,) = importing(vfhq.rows(annotations, videos))[0].values()
    assert make.number(next(iter(open_source(row.path, row.start, row.end).frames()))[1]) == first


def test_without_opening_the_videos(meta, importing, clip):
    annotations, videos = meta()
    clip(videos / "G0DGRma_p48.mp4")
    rows, left = importing(vfhq.rows(annotations, videos), probe=False)
    assert (rows[NAME].start, rows[NAME].end, rows[NAME].box) == (2.02, 3.18, None)
    assert "was not opened" in left[NAME][0]


def test_a_clip_without_its_box_says_so_when_it_is_cut(meta, importing, clip):
    annotations, videos = meta(text=TEXT.replace("320 120 800 600", "3200 120 3800 600"))
    clip(videos / "G0DGRma_p48.mp4", fps=25)
    rows, left = importing(vfhq.rows(annotations, videos), max_seconds=0.7, min_seconds=0.1)
    assert [row.box for row in rows.values()] == [None, None]
    assert left[NAME][0] == "kept without its box: it lies outside the picture"


def test_persons_of_a_video_that_is_in_the_table_get_its_split(meta, importing, clip):
    annotations, videos = meta()
    clip(videos / "G0DGRma_p48.mp4", fps=25)
    importing(vfhq.rows(annotations, videos), split="val")
    meta("Clip+G0DGRma_p48+P1+C1+F10-30")
    rows, _ = importing(vfhq.rows(annotations, videos), append=True, val=0, test=1)
    assert {row.person: row.split for row in rows.values()} == {"G0DGRma_p48+P0": "val", "G0DGRma_p48+P1": "val"}


def test_folders_of_frames_have_the_annotated_rate(meta, importing):
    annotations, videos = meta(text=TEXT.replace("25.0", "29.97"))
    (videos / NAME).mkdir()
    for n in range(3):
        cv2.imwrite(str(videos / NAME / f"{n:08d}.png"), np.zeros((20, 20, 3), np.uint8))
    (row,) = importing(vfhq.rows(annotations, videos))[0].values()
    assert (row.fps, row.start, row.box, row.source) == (29.97, None, None, f"videos/{NAME}")


def test_the_official_test_split_keeps_its_videos(meta, importing, clip):
    meta()
    meta("Clip+G0DGRma_p48+P1+C1+F10-30", folder="VFHQ-Test")
    annotations, videos = meta("Clip+-bcdefghijk+P0+C0+F10-30")
    for name in ("G0DGRma_p48", "-bcdefghijk"):
        clip(videos / f"{name}.mp4", fps=25)
    rows, left = importing(vfhq.rows(annotations, videos), test=0, val=0)
    assert {row.clip: row.split for row in rows.values()} == {
        "Clip+G0DGRma_p48+P1+C1+F10-30": "test", "Clip+-bcdefghijk+P0+C0+F10-30": "train"
    }  # fmt: skip
    assert "own split test" in left[NAME][0]


def test_what_is_left_out_says_why(meta, importing, clip):
    meta()
    meta("Clip+gone+P0+C0+F1-9")
    meta("Clip+G0DGRma_p48+P0+C1+F9000-9090")
    meta("Clip+G0DGRma_p48+P0+C2+F9-9")
    meta("Clip+G0DGRma_p48+P0+C3")
    meta("Clip+G0DGRma_p48+P0+C4+F1-9", "H 720\nW 1280\nFPS many\nCROP 1 2 3 4\n")
    meta("Clip+G0DGRma_p48+P0+C5+F1-9", "H 0\nW 0\nFPS 25\nCROP 1 2 30 40\n")
    annotations, videos = meta("Clip+G0DGRma_p48+P0+C6+F1-9", "H 720\nW 1280\nFPS 25\nCROP 1300 0 1500 200\n")
    clip(videos / "G0DGRma_p48.mp4", fps=25)
    rows, left = importing(vfhq.rows(annotations, videos))
    assert len(rows) == 3
    reasons = {what.split("+", 3)[-1] if "gone" not in what else "gone": reason for what, (reason, _) in left.items()}
    assert reasons == {
        "gone": "the video is not there",
        "C1+F9000-9090": "the interval lies behind the end of the video",
        "C2+F9-9": "the annotation's interval is empty",
        "C3.txt": "the file's name is not Clip+video+person+clip+frames",
        "C4+F1-9": "the annotation cannot be read",
        "C5+F1-9": "kept without its box: the annotation has no size of the picture that its box refers to",
        "C6+F1-9": "kept without its box: it lies outside the picture",
    }


def test_another_folder_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="holds no file Clip"):
        list(vfhq.rows(tmp_path, tmp_path))


LINE = st.one_of(
    st.text(max_size=30),
    st.builds("{} {}".format, st.sampled_from(["H", "W", "FPS", "CROP"]), st.text("0123456789.-e inf", max_size=20)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINE, max_size=6), st.sampled_from([NAME, "Clip+a+P0+C0+F0-99999", "Clip+a++C0+F1-2", "Clip+++"]))
def test_any_text_is_a_clip_or_a_reason(tmp_path_factory, text, name):
    home = tmp_path_factory.mktemp("meta")
    (home / f"{name}.txt").write_text("\n".join(text), "utf-8", errors="replace")
    for video in ("a", "G0DGRma_p48"):
        (home / f"{video}.mp4").touch()
    (found,) = vfhq.rows(home, home)
    if isinstance(found, LeftOut):
        assert found.reason and "\n" not in found.reason
        return
    assert isinstance(found, Found)
    try:
        place = found.place(vfhq.Media(640, 360, 25, 0))
    except ValueError as error:
        assert str(error)
    else:
        assert 0 <= place.start < place.end
        assert place.note or (place.box and all(map(math.isfinite, place.box)) and place.box[0] < place.box[2])
