import pytest

from expportrait.errors import UserError
from expportrait.importers import nersemble, ravdess


def test_a_take_is_imported_once_with_its_labels(importing, tmp_path, clip):
    for name in ("02-01-06-01-02-01-12", "01-01-06-01-02-01-12", "02-02-03-02-01-02-18", "01-01-99-01-02-01-12"):
        clip(tmp_path / f"Actor_{name[-2:]}" / f"{name}.mp4", count=3)
    (tmp_path / "Actor_12" / "03-01-06-01-02-01-12.wav").touch()
    clip(tmp_path / "trailer.mp4", count=3)
    rows, left = importing(ravdess.rows(tmp_path), split="test")
    assert set(rows) == {"01-01-06-01-02-01-12", "02-02-03-02-01-02-18"}
    row = rows["01-01-06-01-02-01-12"]
    assert (row.person, row.split) == ("ravdess-12", "test")
    assert row.extra == {"channel": "speech", "emotion": "fearful", "intensity": "normal", "statement": "02",
                         "repetition": "01"}  # fmt: skip
    assert rows["02-02-03-02-01-02-18"].extra["channel"] == "song"
    assert {what: reason for what, (reason, _) in left.items()} == {
        "02-01-06-01-02-01-12": "the same take as another file",
        "03-01-06-01-02-01-12": "sound only",
        "01-01-99-01-02-01-12": "the file's name has a number that RAVDESS does not use",
        "trailer": "the file's name is not seven numbers of two digits",
    }


def test_one_camera_unless_others_are_asked_for(importing, tmp_path, clip):
    for person, take, serial in (("017", "EXP-1-head", "222200037"), ("017", "EXP-1-head", "220700191"),
                                 ("018", "SEN-01", "222200037"), ("019", "EXP-1-head", "220700191")):  # fmt: skip
        clip(tmp_path / "data" / person / "sequences" / take / "images" / f"cam_{serial}.mp4", count=3)
    (tmp_path / "data" / "017" / "sequences" / "BACKGROUND").mkdir()
    (tmp_path / "data" / "017" / "sequences" / "BACKGROUND" / "image_222200037.jpg").touch()
    old = tmp_path / "data" / "020" / "EXP-2" / "images"  # as the first version was converted
    old.mkdir(parents=True)
    (old / "cam_222200037_0001.jpg").touch()
    rows, left = importing(nersemble.rows(tmp_path / "data"))
    assert set(rows) == {"017_EXP-1-head_222200037", "018_SEN-01_222200037"}
    row = rows["017_EXP-1-head_222200037"]
    assert (row.person, row.extra) == ("nersemble-017", {"sequence": "EXP-1-head", "camera": "222200037"})
    assert {what: reason for what, (reason, _) in left.items()} == {
        "019_EXP-1-head_222200037": "there is no video of this camera",
        "020_EXP-2": "images of several cameras in one folder; videos are expected",
    }
    rows, _ = importing(nersemble.rows(tmp_path / "data", ["220700191", "222200037"], ["EXP-*"]), force=True)
    assert len(rows) == 3 and not any("SEN" in name for name in rows)


@pytest.mark.parametrize("rows", [ravdess.rows, nersemble.rows])
def test_a_missing_folder_is_a_mistake(rows, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        list(rows(tmp_path / "none"))
