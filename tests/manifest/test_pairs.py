from pathlib import Path

import pytest

from expportrait.errors import UserError
from expportrait.manifest.clips import Row, digest
from expportrait.manifest.pairs import default_pairs, pair_row, pair_shards, read_pairs


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
