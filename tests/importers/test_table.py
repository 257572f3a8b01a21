import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from expportrait.errors import UserError
from expportrait.importers.common import Found, LeftOut, Sources, clip_id, split_of, walk
from expportrait.importers.table import Options, write
from expportrait.manifest.clips import read_manifest


def found(*names, **more):
    return [Found(clip=name, source=Path(f"/v/{name}.mp4"), **{"person": name, **more}) for name in names]


@given(st.text(min_size=1), st.text(min_size=1))
def test_ids_are_names_of_the_manifest_and_differ(tmp_path_factory, one, other):
    home = tmp_path_factory.getbasetemp()
    if one != other:
        assert clip_id(one) != clip_id(other)
    options = Options("d", home / "ids.csv", force=True, probe=False)
    write([Found(clip_id(one), home / "v.mp4", "p")], options)
    assert read_manifest(home / "ids.csv")[0].clip == clip_id(clip_id(one)) == clip_id(one)


def test_splits_follow_the_person_alone():
    splits = {f"p{n}": split_of(f"p{n}", 0.1, 0.2) for n in range(2000)}
    share = {name: [*splits.values()].count(name) / 2000 for name in ("train", "val", "test")}
    assert share == {"train": pytest.approx(0.7, abs=0.03), "val": pytest.approx(0.1, abs=0.03),
                     "test": pytest.approx(0.2, abs=0.03)}  # fmt: skip
    # more for one split moves nobody out of it, and nobody between train and val who need not move
    assert all(split_of(name, 0.1, 0.3) == "test" for name, split in splits.items() if split == "test")


def test_a_person_stays_in_the_split_that_the_table_has(importing):
    rows, _ = importing(found("a", person="ann"), probe=False, split="val")
    rows, _ = importing(found("b", "c", person="ann"), probe=False, append=True, val=0, test=1)
    assert {row.split for row in rows.values()} == {"val"} and len(rows) == 3


def test_appending_keeps_rows_columns_and_other_reasons(importing, tmp_path):
    importing([*found("a", extra={"emotion": "sad"}), LeftOut("x", "why")], probe=False, dataset="one")
    more = [*found("b", extra={"camera": "7"}), *found("a"), LeftOut("y", "why not")]
    rows, left = importing(more, probe=False, dataset="two", append=True)
    assert rows["a"].extra == {"emotion": "sad", "camera": ""} and rows["b"].extra == {"emotion": "", "camera": "7"}
    assert (rows["a"].dataset, rows["b"].dataset) == ("one", "two")
    assert left == {"x": ("why", ""), "y": ("why not", ""), "a": ("it stands in the table already", "")}


def test_sources_are_relative_to_the_manifest(tmp_path):
    (tmp_path / "lists").mkdir()
    write([Found("a", tmp_path / "v" / "a.mp4", "a")], Options("d", tmp_path / "lists" / "my.csv", probe=False))
    (row,) = read_manifest(tmp_path / "lists" / "my.csv")
    assert row.source == "../v/a.mp4" and row.path == tmp_path / "v" / "a.mp4"


def test_names_that_a_manifest_cannot_hold_are_left_out(importing):
    odd = [Found(f"c{n}", Path(name), "p") for n, name in enumerate(("/v/\udcff.mp4", "/v/a.mp4 ", "/v/a\n.mp4"))]
    rows, left = importing(odd, probe=False)
    assert set(rows) == {"c2"} and rows["c2"].path == Path("/v/a\n.mp4")
    assert "not UTF-8" in left["c0"][0] and left["c0"] == left["c0"] and "blanks" in left["c1"][0]


@pytest.mark.parametrize(("options", "said"), [
    ({"val": 0.6, "test": 0.6}, "at most 1 together"), ({"split": "dev"}, "none of train, val, test"),
    ({"force": True, "append": True}, "one of them"), ({"out": Path("/none/my.csv")}, "is not a folder"),
    ({"probe": False, "max_seconds": 5}, "--no-probe"), ({"max_seconds": 0.5}, "below --min-seconds"),
    ({"dataset": "a b"}, "letters, digits"),
])  # fmt: skip
def test_options_that_cannot_be_meant(importing, options, said):
    with pytest.raises(UserError, match=said):
        importing(found("a"), **options)


def test_a_table_is_not_overwritten(importing, tmp_path):
    (tmp_path / "my.csv").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        importing(found("a"), probe=False)
    with pytest.raises(UserError, match="no column clip"):
        importing(found("a"), probe=False, append=True)
    with pytest.raises(UserError, match="no clip is left"):
        importing(found("a"), force=True)  # there is no such video
    assert (tmp_path / "my.csv").read_text() == "mine"
    assert "does not exist" in (tmp_path / "my.left_out.csv").read_text()


def test_the_command_counts_reasons(tmp_path, clip):
    from expportrait.cli import app

    (tmp_path / "in" / "x").mkdir(parents=True)
    for name in ("x/a", "x/b", "c"):
        clip(tmp_path / "in" / f"{name}.mp4", count=3)
    for name in ("d", "e"):
        (tmp_path / "in" / f"{name}.mp4").write_text("no video")
    arguments = ["import", "folder", str(tmp_path / "in"), "--out", str(tmp_path / "my.csv"), "--dataset", "mine"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "3 rows of 2 persons" in done.output and "left out, 2:" in done.output
    assert "2  the source cannot be used" in done.output and "my.left_out.csv" in done.output
    assert {row.dataset for row in read_manifest(tmp_path / "my.csv")} == {"mine"}
    assert isinstance(CliRunner().invoke(app, arguments).exception, UserError)


def test_a_source_that_provokes_the_unforeseen_is_left_out(importing, tmp_path, clip, monkeypatch):
    from expportrait.video import reader

    def broken(self, path, start, end):
        raise (MemoryError if path.stem == "c" else KeyError)(path.stem)

    for name in "abc":
        clip(tmp_path / f"{name}.mp4", count=3)
    monkeypatch.setattr(reader.VideoReader, "__init__", broken)
    sources = {name: Found(name, tmp_path / f"{name}.mp4", "p") for name in "abc"}
    with pytest.raises(UserError, match="no clip is left"):
        importing([sources["a"], sources["b"]])
    assert "unforeseen KeyError" in (tmp_path / "my.left_out.csv").read_text()
    with pytest.raises(MemoryError):
        importing([sources["c"]])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_not_passed_over(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(UserError, match="cannot be read"):
        walk(tmp_path)


def test_links_are_followed_once(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").touch()
    (tmp_path / "real" / "back").symlink_to(tmp_path)
    assert [files for _, files in walk(tmp_path)] == [[], ["a.mp4"]]


def test_the_videos_of_a_data_set_may_have_any_suffix(tmp_path, clip):
    clip(tmp_path / "in" / "a.unknown", count=3)
    clip(tmp_path / "in" / "b.mp4", count=3)
    for name in ("a.txt", "b.aux", "c.txt"):
        (tmp_path / "in" / name).write_text("a line of text\n" * 50)
    sources = Sources(tmp_path / "in")
    assert sources.find("a") == tmp_path / "in" / "a.unknown" and sources.find("c") is None
    assert sources.find("c", "b") == tmp_path / "in" / "b.mp4"


def test_another_source_of_an_equal_name_is_another_clip(importing):
    rows, _ = importing(found("a", person="ann"), probe=False, split="val")
    other = [Found(clip="a", source=Path("/w/a.mp4"), person="ann")]
    both, left = importing(other, probe=False, append=True)
    assert rows.items() < both.items() and len(both) == 2 and not left
    (added,) = both.keys() - rows.keys()
    assert added.startswith("a-") and (both[added].person, both[added].split) == ("ann", "val")
    again, left = importing([*found("a", person="ann"), *other], probe=False, append=True)
    assert again == both and left == {"a": ("it stands in the table already", "")}
