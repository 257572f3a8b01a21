import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.errors import UserError
from expportrait.importers import hdtf
from expportrait.importers.common import LeftOut, Media

URL = "https://www.youtube.com/watch?v="
TABLES = {
    "RD_video_url.txt": f"Radio11 {URL}abcdefghijk&t=3\nRadio24 {URL}bbbbbbbbbbb\nRadio1 {URL}ccccccccccc\n",
    "RD_annotion_time.txt": "Radio11.mp4 00:20-00:35 00:40-01:15\nRadio1.mp4 00:10-00:20 1:00:00-1:01:00 soon\n",
    "RD_crop_wh.txt": "Radio11_0.mp4 412 300 0 300\nRadio1_0.mp4 0 240 0 240\n",
    "RD_resolution.txt": "Radio11.mp4 720\nRadio1.mp4 0\n",
    "WDA_video_url.txt": f"\ufeffCarolynMaloney2 {URL}ddddddddddd\r\nCarolynMaloney {URL}eeeeeeeeeee\r\n",
    "WDA_annotion_time.txt": "CarolynMaloney2.mp4 00:00-00:30\nCarolynMaloney.mp4 00:00-00:30\n",
    "WDA_crop_wh.txt": "CarolynMaloney2_0.mp4 10 20 10 20\nCarolynMaloney_0.mp4 1 x 3 4\n",
    "WDA_resolution.txt": "CarolynMaloney2.mp4 360\nCarolynMaloney.mp4 714\n",
}


@pytest.fixture
def tables(tmp_path):
    def tables(**changed):
        (tmp_path / "HDTF_dataset").mkdir()
        (tmp_path / "videos").mkdir()
        for name, text in (TABLES | changed).items():
            (tmp_path / "HDTF_dataset" / name).write_bytes(text.encode())
        return tmp_path / "HDTF_dataset", tmp_path / "videos"

    return tables


def test_a_row_for_each_interval(tables, importing, clip):
    annotations, videos = tables()
    clip(videos / "Radio11.mp4", height=360, width=640)
    clip(videos / "ddddddddddd.mp4", height=360, width=640)  # YouTube's name; its line has the byte order mark
    rows, left = importing(hdtf.rows(annotations, videos))
    assert [(row.clip, row.start, row.end, row.box) for row in rows.values()] == [
        ("Radio11_0", 20, 35, (206, 0, 356, 150)),  # x w y h, at 720 lines
        ("Radio11_1", 40, 75, None),
        ("CarolynMaloney2_0", 0, 30, (10, 10, 30, 30)),
    ]
    assert rows["Radio11_0"].extra == {"video": "abcdefghijk", "part": "RD"}
    assert left["Radio11_1"][0] == "kept without its box: the annotation has none"
    assert left["Radio24"][0] == "the annotation has no interval"
    assert left["CarolynMaloney_0"] == ("the video is not there", "CarolynMaloney.mp4 or eeeeeeeeeee.mp4")


def test_persons_are_not_videos(tables, importing, clip):
    annotations, videos = tables()
    for name in ("Radio11", "Radio1", "CarolynMaloney", "CarolynMaloney2"):
        clip(videos / f"{name}.mp4")
    rows, left = importing(hdtf.rows(annotations, videos), val=0.4, test=0.4)
    persons = {row.clip: row.person for row in rows.values()}
    assert persons["CarolynMaloney_0"] == persons["CarolynMaloney2_0"] == "hdtf-CarolynMaloney"
    assert len({persons["Radio11_0"], persons["Radio11_1"], persons["Radio1_0"]}) == 2
    assert rows["CarolynMaloney_0"].split == rows["CarolynMaloney2_0"].split
    assert left["Radio1_0"][0] == "kept without its box: the annotation's resolution is 0 or missing"
    assert left["CarolynMaloney_0"][0] == "kept without its box: the annotation's box or resolution cannot be read"
    assert left["Radio1_1"][0] == "the interval lies behind the end of the video"
    assert left["Radio1_2"] == ("the annotation cannot be read", "RD_annotion_time.txt: 'soon'")


def test_clips_that_are_cut_already_are_taken_whole(tables, importing, clip):
    annotations, videos = tables()
    clip(videos / "RD_Radio11_001.mp4")
    clip(videos / "Radio11.mp4")
    rows, _ = importing(hdtf.rows(annotations, videos))
    assert rows["Radio11_0"].start == 20
    assert (rows["Radio11_1"].start, rows["Radio11_1"].source) == (None, "videos/RD_Radio11_001.mp4")


def test_another_folder_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="HDTF_dataset is expected"):
        list(hdtf.rows(tmp_path, tmp_path))


WORDS = st.text("R0123456789:-. \t\n\ufeff٣é", max_size=40)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS, WORDS)
def test_any_line_is_a_clip_or_a_reason(tmp_path_factory, times, crop, height):
    home = tmp_path_factory.mktemp("tables")
    (home / "R.mp4").touch()
    texts = {"video_url": "R", "annotion_time": f"R.mp4 {times}", "crop_wh": f"R_0.mp4 {crop}",
             "resolution": f"R.mp4 {height}"}  # fmt: skip
    for name, text in texts.items():
        (home / f"WRA_{name}.txt").write_text(text, "utf-8")
    for found in hdtf.rows(home, home):
        if isinstance(found, LeftOut):
            assert found.reason
            continue
        try:
            place = found.place(Media(640, 360, 25, 0))
        except ValueError as error:
            assert str(error)
        else:
            assert 0 <= place.start < place.end and (place.note or place.box[1] < place.box[3])
