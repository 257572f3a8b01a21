import csv
import tempfile
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.errors import UserError
from expportrait.manifest.clips import Row, digest
from expportrait.manifest.pairs import OWN, default_pairs, pair_row, pair_shards, portraits, read_pairs
from expportrait.settings.sections import Drive


def row(clip, person, split="test"):
    return Row(clip, "d", clip, Path(clip), person=person, split=split)


ROWS = [row("a1", "a"), row("a2", "a", "train"), row("b1", "b", "train"), row("c1", "c")]


def pairs_of(rows):
    return [(r.extra["target"], r.extra["driver"]) for r in rows]


def write(tmp_path, text):
    file = tmp_path / "pairs.csv"
    file.write_text(text)
    return file


def test_table(tmp_path):
    made = read_pairs(write(tmp_path, "driver, target,note\nb1, a1,x\n\na1,a1,\n"), ROWS)
    assert pairs_of(made) == [("a1", "b1"), ("a1", "a1")]
    assert [r.clip for r in made] == ["a1__b1", "a1__a1"]
    assert made[0].person == "a"


def test_a_pair_knows_where_its_drivers_source_is_and_no_key_does():
    target, driver = ROWS[0], ROWS[2]
    here, there = (pair_row(target, driver._replace(place=place)) for place in ("v/b.mp4", "w/b.mp4"))
    assert here.path == Path("v/b.mp4") and there.path == Path("w/b.mp4")
    assert here.identity() == there.identity() and digest([here]) == digest([there])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target,driver\na1,b1\nc1,b11\n", "line 3, column driver: the manifest has no clip 'b11'; did you mean 'b1'"),
        ("target,driver\na1\n", "line 2, column driver: the manifest has no clip ''"),
        ("target,drivers\na1,b1\n", "line 1: there is no column driver"),
        ("target,driver\na1,b1\na1,b1\n", "line 3: the pair a1__b1 stands there twice"),
        ("target,driver\n", "has no pairs"),
        ("target,driver,pose_from\na1,b1,b11\n", "line 2, column pose_from: the manifest has no clip 'b11'; did you"),
        ("target,driver,gain_mouth\na1,b1,much\n", "line 2, column gain_mouth: 'much': input should be a valid number"),
        ("target,driver,gain_eyes\na1,b1,\na1,a1,-1\n", "line 3, column gain_eyes: '-1': input should be greater than"),
        ("target,driver,gain_pose\na1,b1,nan\n", "line 2, column gain_pose: 'nan': input should be"),
        ("target,driver,gaze\na1,b1,away\n", "line 2, column gaze: 'away': input should be 'driver' or 'camera'"),
        (
            "target,driver,hold\na1,b1,pose nose\n",
            "line 2, column hold: 'pose nose': input should be 'pose' or 'expres",
        ),
        ("target,driver,reference\na1,b1,1.5\n", "line 2, column reference: '1.5': input should be a valid integer"),
        ("target,driver,pair\na1,b1,a/b\n", "line 2, column pair: 'a/b' is not a name"),
        ("target,driver,pair\na1,b1,x.side\n", "line 2, column pair: 'x.side' is not a name .*not ending in .side"),
        ("target,driver,pair\na1,b1,a2\n", "line 2, column pair: 'a2' is the name of a clip"),
        ("target,driver,pair\na1,b1,x\na1,a1,x\n", "line 3: the pair x stands there twice$"),
        ("target,driver,gain_jaw\na1,b1,1\na1,b1,2\n", "twice; give one of them a name of its own, in a column pair"),
        ("target,driver,gain_nose\na1,b1,1\n", "line 1: there is no column gain_nose of pairs"),
        ("target,driver,refrence\na1,b1,1\n", "there is no column refrence of pairs; did you mean reference"),
        ("target,driver,smooth,smooth\na1,b1,1,2\n", "line 1: the column smooth stands there twice"),
        ("target,driver,target_proxy\na1,b1,clip\n", "there is no column target_proxy of pairs"),
        ("", "line 1: there is no column target, driver"),
    ],
)
def test_mistakes_are_one_sentence_with_their_place(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_pairs(write(tmp_path, text), ROWS)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv cannot be read"):
        read_pairs(tmp_path / "none.csv", ROWS)


def test_pairs_whose_names_read_the_same_have_names_of_their_own(tmp_path):
    rows = [row(name, name) for name in ("a", "a__b", "b__c", "c")]
    made = read_pairs(write(tmp_path, "target,driver\na,b__c\na__b,c\na,c\n"), rows)
    assert [r.clip for r in made] == ["a__b__c__1", "a__b__c__4", "a__c"]


def test_default_is_each_test_clip_by_itself_and_by_another_person():
    made = pairs_of(default_pairs(ROWS))
    assert made == [("a1", "a1"), ("a1", "c1"), ("c1", "c1"), ("c1", "a1")]
    assert pairs_of(read_pairs(None, ROWS)) == made


def test_default_does_not_depend_on_the_order_of_the_rows():
    rows = [row(f"x{i}", f"p{i // 2}") for i in range(12)]
    assert default_pairs(rows) == default_pairs(rows[::-1])
    drivers = {d for t, d in pairs_of(default_pairs(rows)) if t != d}
    assert len(drivers) > 2


def test_default_drivers_come_from_training_where_there_is_no_other_test_person():
    assert pairs_of(default_pairs(ROWS[:3])) == [("a1", "a1"), ("a1", "b1")]
    assert pairs_of(default_pairs(ROWS[:1])) == [("a1", "a1")]
    assert default_pairs(ROWS[1:3]) == []


def test_shards_keep_a_target_together():
    rows = [row(f"x{i}", f"p{i}") for i in range(30)]
    table = pair_shards(default_pairs(rows), {"pairs": 8})
    assert sum(map(len, table.values())) == 60
    assert len(table) > 4
    homes = {}
    for shard, members in table.items():
        for pair in members:
            assert homes.setdefault(pair.extra["target"], shard) == shard
    assert len(pair_shards(default_pairs(rows), {})) == 1
    assert pair_shards([], {}) == {}


def test_columns_are_settings_of_the_pair_and_empty_cells_are_none(tmp_path):
    text = (
        "target,driver,pair,gain_mouth,hold,smooth,gaze,pose_from\na1,b1,soft,0.5,pose expression,,,\na1,b1,,,,,,c1\n"
    )
    soft, plain = read_pairs(write(tmp_path, text), ROWS)
    assert soft.clip == "soft" and soft.settings == {"drive": {"gain_mouth": 0.5, "hold": ["pose", "expression"]}}
    assert plain.clip == "a1__b1" and not plain.settings and plain.extra["pose_from"] == "c1"
    assert soft.extra == {"target": "a1", "driver": "b1"}


def test_a_pair_without_columns_of_its_own_is_what_it_always_was(tmp_path):
    bare = read_pairs(write(tmp_path, "target,driver\na1,b1\n"), ROWS)
    blank = read_pairs(write(tmp_path, "pair,gain_lids,target,driver,reference\n ,,a1,b1, \n"), ROWS)
    assert bare == blank and digest(bare) == digest(blank) and bare[0].rev == ""


def test_jobs_see_each_column(tmp_path):
    """Snakemake goes by the digest of a shard's pairs."""
    cells = {"pair": "x", "pose_from": "c1", "expression_from": "c1", "gaze": "camera", "hold": "pose",
             "pose": "relative", "anchor": "mean", "offsets": "copy", "expression": "relative"}  # fmt: skip
    columns = ["pair", "pose_from", "expression_from", *OWN]
    found = set()
    for column in columns:
        value = cells.get(column, "2")
        found.add(digest(read_pairs(write(tmp_path, f"target,driver,{column}\na1,b1,{value}\n"), ROWS)))
    assert len(found) == len(columns)


VALUES = {"reference": st.integers(0, 99), "hold": st.lists(st.sampled_from(["pose", "expression"]), max_size=2)}
GIVEN = st.dictionaries(st.sampled_from(OWN), st.none(), max_size=6).flatmap(
    lambda names: st.fixed_dictionaries({name: VALUES[name] if name in VALUES else _values(name) for name in names})
)


def _values(name):
    kinds = Drive.model_fields[name].annotation
    number = float in (kinds, *get_args(kinds))  # ``max_move`` may be empty, as any cell
    return st.floats(1e-6, 1e6) if number else st.sampled_from(get_args(kinds))


@given(GIVEN)
@settings(max_examples=60, deadline=None)
def test_what_is_written_into_cells_is_what_the_pair_has(given_values):
    with tempfile.TemporaryDirectory() as folder:
        cells = {name: " ".join(value) if isinstance(value, list) else value for name, value in given_values.items()}
        file = Path(folder) / "pairs.csv"
        with file.open("w", newline="") as text:
            writer = csv.writer(text)
            writer.writerows([["target", "driver", *cells], ["a1", "b1", *cells.values()]])
        (pair,) = read_pairs(file, ROWS)
    wanted = {name: value for name, value in given_values.items() if value != []}
    assert pair.settings == ({"drive": wanted} if wanted else {})


@given(st.text(alphabet="pose from,\"'\n;\t0.-1nan", max_size=40), st.sampled_from(["pair", "pose_from", *OWN]))
@settings(max_examples=150, deadline=None)
def test_whatever_a_cell_says_ends_in_pairs_or_in_one_sentence(text, column):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.csv"
        file.write_text(f"target,driver,{column}\na1,b1,{text}\n")
        try:
            assert all(pair.extra["target"] in ("a1", "a2", "b1", "c1") for pair in read_pairs(file, ROWS))
        except UserError as error:
            assert str(error).startswith(str(file))


def test_targets_are_asked_for_by_frame_where_pairs_name_one(tmp_path):
    text = "target,driver,pair,reference\na1,b1,,\na1,c1,,5\na1,b1,x,5\nc1,a1,,0\n"
    pairs = read_pairs(write(tmp_path, text), ROWS)
    made = portraits(ROWS, pairs)
    assert [(row.clip, dict(row.settings)) for row in made] == [
        ("a1", {}), ("a1@5", {"drive": {"reference": 5}}), ("c1@0", {"drive": {"reference": 0}}),
    ]  # fmt: skip
    assert made[0] is ROWS[0] and made[1].path == ROWS[0].path
