import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.errors import UserError
from expportrait.importers import celebvhq
from expportrait.importers.common import LeftOut, Media

BOX = {"top": 0.0, "bottom": 0.8815, "left": 0.1964, "right": 0.6922}


def entry(video="M2_h-0FAaJU", start=81.62, end=86.17, box=BOX, labels="neutral"):
    emotion = {"sep_flag": not isinstance(labels, str), "labels": labels}
    return {"ytb_id": video, "duration": {"start_sec": start, "end_sec": end}, "bbox": box,
            "attributes": {"appearance": [0, 1], "action": [1, 0], "emotion": emotion}, "version": "v0.1"}  # fmt: skip


@pytest.fixture
def info(tmp_path):
    def info(text, **clips):
        file = tmp_path / "celebvhq_info.json"
        file.write_text(text or json.dumps({"meta_info": {"appearance_mapping": [], "action_mapping": []},
                                            "clips": clips}))  # fmt: skip
        (tmp_path / "raw").mkdir(exist_ok=True)
        return file, tmp_path / "raw"

    return info


def test_interval_box_and_emotion(info, importing, clip):
    labels = [{"emotion": word, "start_sec": 0, "end_sec": 3.28} for word in ("happy", "neutral", "happy")]
    where = info("", **{"M2_h-0FAaJU_1": entry(), "M2_h-0FAaJU_1_0": entry(start=3, end=4, labels=labels)})
    clip(where[1] / "M2_h-0FAaJU.mp4", height=480, width=640)
    rows, left = importing(celebvhq.rows(*where))
    row = rows["M2_h-0FAaJU_1"]
    assert (row.start, row.end, row.person, row.source) == (81.62, 86.17, "M2_h-0FAaJU", "raw/M2_h-0FAaJU.mp4")
    # by hand: 0.1764..0.7122 of 640 by 0..0.9015 of 480, a square of 2 * 171 px about the centre
    x, y = (0.1764 + 0.7122) * 320, 0.9015 * 240
    assert row.box == pytest.approx((x - 171, y - 171, x + 171, y + 171), abs=0.06)
    assert row.extra["emotion"] == "neutral"
    assert rows["M2_h-0FAaJU_1_0"].extra["emotion"] == "happy neutral" and not left


def test_clips_of_the_official_script_are_taken_whole(info, importing, clip):
    where = info("", **{"M2_h-0FAaJU_1": entry()})
    clip(where[1] / "processed" / "M2_h-0FAaJU_1.mp4")
    clip(where[1] / "M2_h-0FAaJU.mp4")
    (row,) = importing(celebvhq.rows(*where))[0].values()
    assert (row.source, row.start, row.box) == ("raw/processed/M2_h-0FAaJU_1.mp4", None, None)


def test_ids_that_begin_with_a_dash_become_names(info, importing, clip):
    where = info("", **{"-2_h-0FAaJU_1": entry("-2_h-0FAaJU"), "_-2_h-0FAaJU_1": entry("_2_h-0FAaJU")})
    clip(where[1] / "-2_h-0FAaJU.mp4")
    clip(where[1] / "_2_h-0FAaJU.mp4")
    rows, left = importing(celebvhq.rows(*where))
    assert len(rows) == 2 and not left and {row.person for row in rows.values()} == {"-2_h-0FAaJU", "_2_h-0FAaJU"}


def test_what_is_left_out_says_why(info, importing, clip):
    where = info("", a_1=entry("aa"), b_1=entry("gone"), c_1=entry("aa", end=80), d_1={"ytb_id": "aa"},
                 e_1=entry("aa", start=200, end=210), f_1=entry("bad"),
                 g_1=entry("aa", box=BOX | {"left": 0.8}))  # fmt: skip
    clip(where[1] / "aa.mp4")
    (where[1] / "bad.mp4").write_text("no video")
    rows, left = importing(celebvhq.rows(*where))
    assert set(rows) == {"a_1", "g_1"} and rows["g_1"].box is None
    assert {what: reason for what, (reason, _) in left.items()} == {
        "b_1": "the video is not there",
        "c_1": "the annotation's interval is empty",
        "d_1": "the annotation cannot be read",
        "e_1": "the interval lies behind the end of the video",
        "f_1": "the source cannot be used",
        "g_1": "kept without its box: it is empty",
    }
    assert "not a video" in left["f_1"][1]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"clips": 3}', "{'clips'"])
def test_another_file_is_a_mistake(info, text):
    file, videos = info(text or "\n")
    with pytest.raises(UserError, match=r"is not celebvhq_info\.json"):
        list(celebvhq.rows(file, videos))


JSON = st.recursive(st.none() | st.floats() | st.integers() | st.text(max_size=5), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(
        ["ytb_id", "duration", "bbox", "start_sec", "end_sec", "top", "attributes", "emotion", "labels"]
    ), inner, max_size=4)), max_leaves=12)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(JSON, st.dictionaries(st.sampled_from(["duration", "bbox", "attributes", "ytb_id"]), JSON, max_size=2))
def test_any_entry_is_a_clip_or_a_reason(tmp_path_factory, whole, changed):
    home = tmp_path_factory.mktemp("info")
    (home / "aa.mp4").touch()
    (home / "info.json").write_text(json.dumps({"clips": {"x": whole, "y": entry("aa") | changed}}))
    found = list(celebvhq.rows(home / "info.json", home))
    assert len(found) == 2 and isinstance(found[0], LeftOut)
    if not isinstance(found[1], LeftOut):
        try:
            place = found[1].place(Media(640, 480, 25, 0))
        except ValueError as error:
            assert str(error)
        else:
            assert place.note or place.box[0] < place.box[2]
