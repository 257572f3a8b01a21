import os
from collections import Counter

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from expportrait.cli import app
from expportrait.errors import UserError
from expportrait.importers import folder
from expportrait.video.reader import open_source

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


def encoded(path, codec="libx264", pix_fmt="yuv420p", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    return make.video(path, make.numbered(3, 144, 176), codec=codec, pix_fmt=pix_fmt, **options)


def test_a_file_is_what_is_found_in_it(importing, tmp_path, clip):
    home = tmp_path / "in"
    for name, codec in (("b.m2ts", "libx264"), ("c.vob", "mpeg2video"), ("d.3gp", "h263")):
        encoded(home / name, codec)
    make.video(home / "e.avif", make.numbered(1), codec="libsvtav1", pix_fmt="yuv420p")
    encoded(home / "a.mp4").rename(home / "f.unknown")
    encoded(home / "a.ogg", "libtheora" if "libtheora" in av.codecs_available else "libvpx").rename(home / "g.ogv")
    image(home / "h.jpg")
    (home / "h.jpg").rename(home / "h.jfif")
    image(home / "i.png")
    (home / "i.png").rename(home / "portrait")
    make.sound(home / "k.m4a")
    (home / "l.nfo").write_text("a line of text\n" * 100)
    (home / "m.txt").write_text("a line of text\n" * 100)
    (home / "n.bin").write_bytes(np.random.default_rng(0).bytes(5000))
    (home / "o.dangling").symlink_to("nowhere")
    os.mkfifo(home / "p.pipe")
    rows, left = importing(folder.rows(home))
    assert set(rows) == {"b", "c", "d", "e", "f", "g", "h", "portrait"}
    assert set(left) == {"k.m4a", "l.nfo", "m.txt", "n.bin", "o.dangling", "p.pipe"}
    assert {why for why, _ in left.values()} == {"neither a video nor an image"}
    for row in rows.values():
        assert next(open_source(row.path).frames())[1].size


def test_a_cover_is_no_video(importing, tmp_path):
    (home := tmp_path / "in").mkdir()
    encoded(home / "v.mp4")
    with av.open(str(home / "song.mp3"), "w") as container:
        audio = container.add_stream("libmp3lame", rate=44100, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.height, cover.width, cover.pix_fmt = 20, 20, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((20, 20, 3), np.uint8), format="rgb24")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        for stream, frame in ((cover, picture), (cover, None), (audio, silence), (audio, None)):
            container.mux(stream.encode(frame))
    rows, left = importing(folder.rows(home))
    assert set(rows) == {"v"} and left == {"song.mp3": ("neither a video nor an image", "")}


def test_appending_a_folder_with_equal_names_adds_its_clips(importing, tmp_path, clip):
    for home in ("one", "two"):
        clip(tmp_path / home / "talk.mp4", count=3)
        clip(tmp_path / home / "anna" / "talk.mp4", count=3)
    first, _ = importing(folder.rows(tmp_path / "one"), split="train")
    both, left = importing(folder.rows(tmp_path / "two"), append=True, split="train")
    assert not left and first.items() < both.items() and len(both) == 4
    added = {row.source: row for row in both.values() if row.clip not in first}
    assert set(added) == {"two/talk.mp4", "two/anna/talk.mp4"}
    assert added["two/talk.mp4"].person == added["two/talk.mp4"].clip != "talk", "another file is another person"
    assert added["two/anna/talk.mp4"].person == "anna"
    for home in ("one", "two"):
        again, left = importing(folder.rows(tmp_path / home), append=True)
        assert again == both and {why for why, _ in left.values()} == {"it stands in the table already"}
    (tmp_path / "link").symlink_to("two")
    assert importing(folder.rows(tmp_path / "link"), append=True)[0] == both, "another way to the same files"


def test_parts_of_clips_with_equal_names_have_ids_of_their_own(importing, tmp_path, clip):
    for name in ("one/v.mp4", "two/v.mp4", "two/v-000.mp4"):
        clip(tmp_path / name, count=20)
    importing(folder.rows(tmp_path / "one"), max_seconds=10)
    rows, left = importing(folder.rows(tmp_path / "two"), append=True, max_seconds=10)
    assert len(rows) == 6 and not left
    again, left = importing(folder.rows(tmp_path / "two"), append=True, max_seconds=10)
    assert again == rows and len(left) == 2


def numbered(home, pictures):
    home.mkdir(parents=True)
    for n, picture in enumerate(pictures):
        cv2.imwrite(str(home / f"{n:05d}.png"), picture)


def test_numbered_portraits_are_not_the_frames_of_a_clip(importing, tmp_path):
    numbered(tmp_path / "in" / "portraits", [make.wall(200, 160, seed) for seed in range(14)])
    numbered(tmp_path / "in" / "sizes", [make.wall(200, 160 + n)[:, :160] for n in range(3)])
    image(tmp_path / "in" / "sizes" / "00009.png")
    numbered(tmp_path / "in" / "frames", [make.wall(200, 800)[:, 20 * n :][:, :160] for n in range(14)])
    numbered(tmp_path / "in" / "still", [make.wall(200, 160)] * 2)
    numbered(tmp_path / "in" / "two", [make.wall(200, 160, 1), make.wall(200, 160, 2)])
    rows, left = importing(folder.rows(tmp_path / "in"))
    assert Counter(row.source.split("/")[1] for row in rows.values()) == {
        "portraits": 14, "sizes": 4, "frames": 1, "still": 1, "two": 2
    }  # fmt: skip
    assert not left
    assert set(importing(folder.rows(tmp_path / "in", images="frames"), force=True, probe=False)[0]) == {
        "portraits", "sizes", "frames", "still", "two"
    }  # fmt: skip
    assert len(importing(folder.rows(tmp_path / "in", images="single"), force=True)[0]) == 36


def test_frames_that_cannot_be_read_are_still_frames(importing, tmp_path):
    numbered(tmp_path / "in" / "frames", [make.wall(200, 800)[:, 8 * n :][:, :160] for n in range(6)])
    for n in (0, 3):
        (tmp_path / "in" / "frames" / f"0000{n}.png").unlink()
        (tmp_path / "in" / "frames" / f"0000{n}.png").symlink_to("nowhere")
    assert set(importing(folder.rows(tmp_path / "in"), probe=False)[0]) == {"frames"}


def test_the_summary_says_what_was_taken_for_what_and_how_to_change_it(tmp_path, clip):
    clip(tmp_path / "in" / "v.mp4", count=3)
    numbered(tmp_path / "in" / "portraits", [make.wall(200, 160, seed) for seed in range(14)])
    numbered(tmp_path / "in" / "frames", [make.wall(200, 160)] * 3)
    arguments = ["import", "folder", str(tmp_path / "in"), "--out", str(tmp_path / "my.csv")]
    said = CliRunner().invoke(app, arguments).output
    assert "taken for: videos (1), numbered portraits (14), folders of frames (1)" in said
    assert str(tmp_path / "in" / "portraits") in said and str(tmp_path / "in" / "frames") in said
    assert "--images frames" in said and "--images single" in said and "--person clip" in said
    assert "16 rows of 3 persons" in said
    plain = CliRunner().invoke(app, [*arguments, "--images", "single", "--force"]).output
    assert "taken for: videos (1), single images (17)" in plain and "--images" not in plain


def test_a_gap_in_the_times_makes_two_rows(importing, tmp_path):
    (tmp_path / "in").mkdir()
    parts = [make.video(tmp_path / f"{n}.ts", [make.wall(90, 160)] * 50, offset=n) for n in (0, 20000)]
    make.joined(tmp_path / "in" / "v.ts", *parts)
    rows, left = importing(folder.rows(tmp_path / "in"), split_shots=True, max_seconds=60)
    assert [row.end - row.start for row in rows.values()] == [pytest.approx(2, abs=1e-3)] * 2 and not left
    for row in rows.values():
        assert len(list(open_source(row.path, row.start, row.end).frames())) == 50
