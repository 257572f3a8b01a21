import cv2
import numpy as np
import pytest

from expportrait.errors import UserError
from expportrait.importers import folder

from ..video import make


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))


@pytest.fixture
def home(tmp_path, clip):
    home = tmp_path / "in"
    clip(home / "anna" / "day 1" / "talk.mp4", count=3)
    clip(home / "anna" / "smile.MOV", count=3)
    clip(home / "bob.mp4", count=3)
    for n in (1, 2, 10):
        image(home / "carl" / "frames" / f"f{n}.png")
    image(home / "carl" / "portrait.jpg")
    image(home / "carl" / "other.jpg")
    (home / "notes.txt").write_text("-")
    (home / ".hidden.mp4").touch()
    return home


def test_videos_images_and_folders_of_frames(importing, home):
    rows, left = importing(folder.rows(home, fps=12.5))
    assert {row.source: (row.person, row.fps) for row in rows.values()} == {
        "in/anna/day 1/talk.mp4": ("anna", None), "in/anna/smile.MOV": ("anna", None), "in/bob.mp4": ("bob", None),
        "in/carl/frames": ("carl", 12.5), "in/carl/portrait.jpg": ("carl", None), "in/carl/other.jpg": ("carl", None),
    }  # fmt: skip
    assert {"anna_smile", "bob", "carl_frames", "carl_portrait"} < set(rows)
    assert left == {"notes.txt": ("neither a video nor an image", "")}


def test_parts_of_a_folder_of_frames_keep_the_rate_that_they_were_cut_at(importing, tmp_path):
    for n in range(100):
        image(tmp_path / "in" / "ann" / "frames" / f"f{n:03d}.png")
    rows, _ = importing(folder.rows(tmp_path / "in"), max_seconds=2)
    assert [(row.start, row.end, row.fps) for row in rows.values()] == [(0, 2, 25), (2, 4, 25)]
    rows, _ = importing(folder.rows(tmp_path / "in", fps=50), max_seconds=1, force=True)
    assert [(row.start, row.end, row.fps) for row in rows.values()] == [(0, 1, 50), (1, 2, 50)]
    rows, _ = importing(folder.rows(tmp_path / "in"), force=True, max_seconds=60)
    assert [(row.start, row.fps) for row in rows.values()] == [(None, None)], "crop.folder_fps may be any"


def test_images_and_persons_as_asked(importing, home):
    rows, _ = importing(folder.rows(home / "carl" / "frames", images="single", person="clip"))
    assert {row.person for row in rows.values()} == {"f1", "f2", "f10"}
    rows, left = importing(folder.rows(home, person_regex=r"^(\w)[^/]*/", images="frames"), force=True)
    assert {row.clip: row.person for row in rows.values() if row.clip.startswith("carl")} == {"carl_frames": "c"}
    assert left["bob.mp4"][0] == "--person-regex finds no person in the path"
    with pytest.raises(UserError, match="not a regular expression"):
        list(folder.rows(home, person_regex="("))


def test_names_that_would_be_equal_get_their_own(importing, tmp_path, clip):
    for name in ("in/a_b.mp4", "in/a/b.mp4", "in/a/b.mkv", "in/ä.mp4", "in/ö.mp4", f"in/{'x' * 200}.mp4"):
        clip(tmp_path / name, count=3)
    rows, left = importing(folder.rows(tmp_path / "in"))
    assert len(rows) == 6 and not left
    assert set(importing(folder.rows(tmp_path / "in"), force=True)[0]) == set(rows)


def test_a_video_with_cuts_becomes_rows(importing, tmp_path):
    (tmp_path / "in").mkdir()
    frames = [frame for seed, count in ((1, 100), (2, 10), (3, 50)) for frame in [make.wall(90, 160, seed)] * count]
    make.video(tmp_path / "in" / "v.mp4", frames)
    rows, left = importing(folder.rows(tmp_path / "in"), split_shots=True, max_seconds=2.5)
    assert [(row.clip, row.start, row.end, row.person) for row in rows.values()] == [
        ("v-000", 0, 2, "v"), ("v-001", 2, 4, "v"), ("v-002", 4.4, 6.4, "v")
    ]  # fmt: skip
    assert left["v"] == ("a shot is shorter than --min-seconds", "4.000 to 4.400 s")
    again, left = importing(folder.rows(tmp_path / "in"), append=True)
    assert again == rows and left["v"] == ("it stands in the table already", "")
    rows, _ = importing(folder.rows(tmp_path / "in"), force=True, max_seconds=4)
    assert [(row.start, row.end) for row in rows.values()] == [(0, 3.2), (3.2, 6.4)]
    rows, _ = importing(folder.rows(tmp_path / "in"), force=True, max_seconds=60)
    assert [(row.clip, row.start) for row in rows.values()] == [("v", None)]
