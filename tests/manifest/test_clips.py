import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.errors import UserError
from expportrait.manifest.clips import Row, default_shards, digest, mixed_splits, read_manifest, shards

HEADER = "clip,dataset,source,start,end,box,person,split,rev,note\n"
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,20}", fullmatch=True)


@pytest.fixture
def manifest(tmp_path):
    def write(text, name="my.csv"):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def test_every_column(manifest):
    file = manifest(HEADER + "a-1,hdtf,videos/a b.mp4,1.50,4,10 20 300 400.5,ann,val,2,hello\n")
    (row,) = read_manifest(file)
    assert (row.clip, row.dataset, row.source) == ("a-1", "hdtf", "videos/a b.mp4")
    assert row.path == file.parent / "videos" / "a b.mp4"
    assert (row.start, row.end, row.box) == (1.5, 4.0, (10.0, 20.0, 300.0, 400.5))
    assert (row.person, row.split, row.rev, row.extra) == ("ann", "val", "2", {"note": "hello"})


def test_folders_of_frames_have_a_rate_of_their_own(manifest):
    rows = read_manifest(manifest("clip,dataset,source,fps\na,d,frames,29.97\nb,d,frames,\n"))
    assert [row.fps for row in rows] == [29.97, None]
    assert rows[0].identity() == rows[1].identity() | {"fps": 29.97} and "fps" not in rows[1].identity()
    for wrong in ("0", "-25", "many"):
        with pytest.raises(UserError, match="line 2, column fps"):
            read_manifest(manifest(f"clip,dataset,source,fps\na,d,frames,{wrong}\n"))


def test_a_row_may_name_a_face_and_keys_of_others_stay(manifest):
    rows = read_manifest(manifest("clip,dataset,source,face\na,d,v.mp4,10 20 110 130.5\nb,d,v.mp4,\n"))
    assert [row.face for row in rows] == [(10.0, 20.0, 110.0, 130.5), None]
    assert rows[0].identity() == rows[1].identity() | {"face": (10.0, 20.0, 110.0, 130.5)}
    assert "face" not in rows[1].identity()
    without = rows[0]._replace(face=None)
    assert digest([rows[0]]) != digest([without]) and digest([without]) == digest([Row("a", "d", "v.mp4", None)])
    with pytest.raises(UserError, match="column face: '3 3 1 1' is empty"):
        read_manifest(manifest("clip,dataset,source,face\na,d,v.mp4,3 3 1 1\n"))


def test_only_the_required_columns(manifest):
    (row,) = read_manifest(manifest("source,clip,dataset\n/abs/v.mp4,a,d\n"))
    assert (row.start, row.end, row.box, row.person, row.split, row.rev) == (None, None, None, "a", "train", "")
    assert str(row.path) == "/abs/v.mp4"


def test_a_source_in_the_home_folder(manifest, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    home, other = read_manifest(manifest("clip,dataset,source\na,d,~/v.mp4\nb,d,./~/v.mp4\n"))
    assert (str(home.path), home.source) == ("/home/ann/v.mp4", "~/v.mp4")
    assert other.path.parent.name == "~"


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfclip,dataset,source\na,d,v.mp4\n",
        b"clip,dataset,source\r\na,d,v.mp4\r\n",
        b" clip , dataset,source \n\n  a , d ,v.mp4\n,,\n",
        b'clip,dataset,source\n"a","d","v.mp4"',
        b"clip,dataset,source\na,d,v.mp4,, ,\n,,,,\n",
    ],
    ids=["byte order mark", "windows line ends", "blanks", "quotes, no last line end", "empty cells at the end"],
)
def test_what_spreadsheets_write(manifest, text):
    (row,) = read_manifest(manifest(text))
    assert (row.clip, row.dataset, row.source) == ("a", "d", "v.mp4")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no clips"),
        (HEADER, "has no clips"),
        ("clip,source\na,v\n", "line 1: there is no column dataset"),
        ("clip;dataset;source\na;d;v\n", "separated by semicolons"),
        ("clip\tdataset\tsource\na\td\tv\n", "separated by tabs"),
        ("clip,dataset,source,clip\na,d,v,b\n", "line 1: the column clip stands there twice"),
        (HEADER + "a,d,v\na,d,w\n", "column clip: 'a' stands in more than one row"),
        (HEADER + "a,d,v\n../x,d,v\n", "line 3, column clip: '../x' is not a name"),
        (HEADER + "-a,d,v\n", "line 2, column clip: '-a' is not a name"),
        (HEADER + "a/b,d,v\n", "line 2, column clip"),
        (HEADER + f"{'a' * 101},d,v\n", "line 2, column clip"),
        (HEADER + ",d,v\n", "line 2, column clip: '' is not a name"),
        (HEADER + "a,d e,v\n", "line 2, column dataset: 'd e' is not a name"),
        (HEADER + "a,d\n", "line 2, column source: empty"),
        (HEADER + "a,d,v,soon\n", "line 2, column start: 'soon' is not a number"),
        (HEADER + "a,d,v,nan\n", "line 2, column start: 'nan' is not a number"),
        (HEADER + "a,d,v,-1\n", "line 2, column start: -1 s is before the beginning"),
        (HEADER + "a,d,v,3,3\n", "line 2, column end: 3 s is not after the start, 3 s"),
        (HEADER + "a,d,v,,0\n", "line 2, column end: 0 s is not after the start, 0 s"),
        (HEADER + "a,d,v,,inf\n", "line 2, column end"),
        (HEADER + "a,d,v,,,1 2 3\n", "line 2, column box: '1 2 3' is not 4 numbers"),
        (HEADER + "a,d,v,,,5 2 5 4\n", "line 2, column box: '5 2 5 4' is empty"),
        (HEADER + "a,d,v,,,,ann,dev\n", "line 2, column split: 'dev' is none of train, val, test"),
        (HEADER + "a,d,v\nb,d,v," + "x," * 20 + "\n", "line 3: 14 more values than columns"),
        (b"clip,dataset,source\na,d,\xff.mp4\n", "not a table of comma-separated values in UTF-8"),
        ('clip,dataset,source\na,d,"v\n', "not a table of comma-separated values"),
    ],
)
def test_mistakes_name_the_place(manifest, text, said):
    file = manifest(text)
    with pytest.raises(UserError) as error:
        read_manifest(file)
    assert said in str(error.value) and str(file) in str(error.value)


def test_a_missing_manifest_and_a_folder(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_manifest(path)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(NAMES, NAMES, st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)),
        min_size=1,
        unique_by=lambda row: row[0],
    )
)
def test_what_is_written_is_read(tmp_path_factory, rows):
    text = io.StringIO()
    csv.writer(text).writerows([("clip", "dataset", "source"), *rows])
    file = tmp_path_factory.mktemp("manifest") / "m.csv"
    file.write_text(text.getvalue(), "utf-8", newline="")
    assert [(row.clip, row.dataset, row.source) for row in read_manifest(file)] == rows


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_one_sentence(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("manifest") / "m.csv"
    file.write_bytes(b"clip,dataset,source\n" + data)
    try:
        rows = read_manifest(file)
    except UserError as error:
        assert "\n" not in str(error).replace(repr(str(file)), "")
    else:
        assert all("/" not in row.clip and not row.clip.startswith(".") for row in rows)


def rows_of(clips, dataset="d"):
    return [Row(clip, dataset, "v", None) for clip in clips]


@settings(max_examples=40, deadline=None)
@given(st.lists(NAMES, min_size=1, unique=True), st.integers(1, 20), st.randoms())
def test_shards_hold_every_clip_once_whatever_the_order(clips, number, random):
    rows = rows_of(clips)
    table = shards(rows, {"d": number})
    assert sorted(row.clip for part in table.values() for row in part) == sorted(clips)
    assert all(0 <= int(name.removeprefix("d-")) < number for name in table)
    random.shuffle(rows)
    assert shards(rows, {"d": number}) == table
    assert [digest(part) for part in shards(rows, {"d": number}).values()] == [digest(part) for part in table.values()]


def test_an_added_clip_moves_no_other():
    clips = [f"clip{i}" for i in range(200)]
    where = {row.clip: name for name, part in shards(rows_of(clips), {"d": 8}).items() for row in part}
    more = {row.clip: name for name, part in shards(rows_of([*clips, "new"]), {"d": 8}).items() for row in part}
    assert where.items() < more.items()


def test_default_number_of_shards():
    assert [default_shards(n) for n in (1, 181, 182, 362, 363, 800, 16000)] == [1, 1, 2, 2, 4, 8, 128]


def test_digest_follows_what_the_pixels_depend_on():
    row = Row("a", "d", "v.mp4", None, 0.5)
    assert digest([row]) == digest([Row("a", "d", "v.mp4", None, 0.50, person="ann", split="test", extra={"x": "y"})])
    others = [Row("b", "d", "v.mp4", None, 0.5), Row("a", "d", "w.mp4", None, 0.5), Row("a", "d", "v.mp4", None),
              Row("a", "d", "v.mp4", None, 0.5, 2.0), Row("a", "d", "v.mp4", None, 0.5, box=(0, 0, 1, 1)),
              Row("a", "d", "v.mp4", None, 0.5, rev="1")]  # fmt: skip
    assert len({digest([other]) for other in [row, *others]}) == 7
    assert digest([row], "person") != digest([Row("a", "d", "v.mp4", None, 0.5, person="ann")], "person")


def test_persons_in_two_splits():
    rows = [Row("a", "d", "v", None, person="ann"), Row("b", "d", "v", None, person="ann", split="test"),
            Row("c", "d", "v", None, person="bob")]  # fmt: skip
    assert mixed_splits(rows) == ["ann"]
