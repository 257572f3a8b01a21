import pytest

from expportrait.errors import UserError
from expportrait.importers.split.sources import listed, named, of_shard


def table(folder, text):
    file = folder / "sources.csv"
    file.write_text(text)
    return file


def test_names_are_ids_and_no_two_are_equal(tmp_path):
    for name in ("a/film.mp4", "b/film.mp4", "b/näher dran.mkv", "b/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"words\n")
    found = named([tmp_path, tmp_path / "a" / "film.mp4"])
    assert [one.path.name for one in found] == ["film.mp4", "film.mp4", "näher dran.mkv"]
    names = [one.name for one in found]
    assert len({*names}) == 3 and names[0].startswith("film-") and names[1].startswith("film-")
    assert all(name.isascii() and " " not in name for name in names)


def test_a_table_carries_along_what_it_says(tmp_path):
    (one, two) = listed(table(tmp_path, "source, name, licence,rev\nx/a.mp4,first,CC0,2\n\n../b.mp4,,,\n"))
    assert one.name == "first" and one.path == tmp_path / "x" / "a.mp4"
    assert one.given == {"licence": "CC0", "rev": "2"}
    assert two.name == "b" and two.path == tmp_path.parent / "b.mp4"


@pytest.mark.parametrize(("text", "words"), [
    ("file\na.mp4\n", "no column source"), ("source,start\na.mp4,3\n", "start"), ("source\n", "no videos"),
    ("source,licence\n,CC0\n", "line 2, column source: empty"), ("source,split\na.mp4,dev\n", "'dev' is none of"),
    ("source;licence\na.mp4;CC0\n", "no column source, only source;licence"), ("", "no column source, nothing"),
    ("source,frames\na.mp4,3\n", "the column frames is one that cutting fills in"),
    ("source,licence\na.mp4,CC BY, 4.0\n", "line 2: 1 more values than columns"),
    ("source\na.mp4\na.mp4\n", "twice"), ("source,dataset\na.mp4,a b\n", "'a b' is not a name"),
])  # fmt: skip
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        listed(table(tmp_path, text))


def test_shards_share_out_all_videos_and_none_moves_when_one_comes(tmp_path):
    some = listed(table(tmp_path, "source\n" + "".join(f"v{n}.mp4\n" for n in range(40))))
    more = listed(table(tmp_path, "source\nnew.mp4\n" + "".join(f"v{n}.mp4\n" for n in range(40))))
    parts = [[one.name for one in of_shard(some, k, 4)] for k in range(4)]
    assert sorted(name for part in parts for name in part) == sorted(one.name for one in some) and all(parts)
    assert all({*part} <= {one.name for one in of_shard(more, k, 4)} for k, part in enumerate(parts))


def test_nothing_to_cut_is_said(tmp_path):
    with pytest.raises(UserError, match="there is no video"):
        named([tmp_path])
