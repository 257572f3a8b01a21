"""What files are called: no two alike, none too long."""

import os
import socket

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from expportrait.engine.heartbeat import Heartbeat
from expportrait.engine.names import check_names
from expportrait.errors import UserError
from expportrait.files import beside, replace_file
from expportrait.manifest.clips import Row, read_manifest, shards
from expportrait.manifest.pairs import default_pairs, pair_name, pair_row, pair_shards
from expportrait.stages import PIPELINE
from expportrait.store import Store, StoreWriter
from expportrait.video.write import write_mp4

ENDINGS = [ending for stage in PIPELINE.values() for ending in stage.endings]
LONG = [letter * 100 for letter in "ab"]
PARTS = ["a", "b", "_", "__", ".side", ".failed", ".zarr", ".mp4", ".json", ".damaged", "1", "__1", "-0000"]
IDS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map("".join).filter(lambda name: name[0] not in ".-")


def row(clip):
    return Row(clip, "d", clip, clip, person=clip, split="test")


@given(st.lists(st.tuples(IDS, IDS), unique=True, max_size=8), st.sampled_from(["drive", "reenact", "evaluate"]))
@example([("ann", "talk"), ("ann", "talk.side"), ("ann", "talk.side.side")], "reenact")
@example([("ann", "talk"), ("ann", "talk.failed")], "evaluate")
@example([("a", "b__c"), ("a__b", "c"), ("a", "_b"), ("a_", "b"), ("a", "b__c__1")], "drive")
def test_no_two_pairs_have_a_file_of_one_name(pairs, stage):
    names = [pair_name(*pair) + ending for pair in pairs for ending in PIPELINE[stage].endings]
    assert len({*names}) == len(names)


@given(st.from_regex(r"[A-Za-z0-9](_?[A-Za-z0-9.+-])*", fullmatch=True).filter(lambda name: not name.endswith(
    (".side", ".failed"))), st.from_regex(r"[A-Za-z0-9](_?[A-Za-z0-9.+-])*", fullmatch=True))  # fmt: skip
def test_ordinary_ids_give_the_name_that_they_always_gave(driver, target):
    assert pair_name(target, driver) == f"{target}__{driver}"


def test_default_pairs_that_read_the_same_are_two():
    made = default_pairs([row("a"), row("a__b"), row("b__c"), row("c")])
    assert len({pair.clip for pair in made}) == len(made) == 8


@given(st.text(min_size=1, max_size=200).filter(lambda text: "/" not in text and "\0" not in text and text != "."))
def test_temporary_names_have_one_length(name):
    assert len(beside(row("x").path / name).name) == len(beside(row("x").path).name) < 64


def test_the_longest_names_of_a_manifest_can_be_written_on_a_machine_with_a_long_name(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 64)
    monkeypatch.setattr("expportrait.engine.heartbeat.HOST", "h" * 64)
    pair = pair_row(row(LONG[0]), row("_" + LONG[1][1:]))
    for stage in ("drive", "reenact", "evaluate"):
        for ending in PIPELINE[stage].endings:
            replace_file(tmp_path / stage / f"{pair.clip}{ending}0", b"x")  # a byte more than is needed
    home = tmp_path / "made"
    for key in ("1", "2"):
        with StoreWriter(home / f"{pair.clip}.zarr", {"key": key}) as out:
            out.array("x", np.ones(3))
    assert Store(home / f"{pair.clip}.zarr").attrs["key"] == "2"
    write_mp4(home / f"{pair.clip}.side.mp4", np.zeros((2, 16, 16, 3), np.uint8), 25)
    assert {file.name for file in home.iterdir()} == {f"{pair.clip}.zarr", f"{pair.clip}.side.mp4"}
    dataset = "d" * 100
    (name,) = shards([row(LONG[0])._replace(dataset=dataset)], {})
    told = tmp_path / f"{name}.progress.json"
    Heartbeat(told, "crop", name, 1).end()
    assert told.exists()


def test_what_the_manifest_allows_fits_where_names_have_255_bytes(tmp_path):
    file = tmp_path / "m.csv"
    file.write_text("clip,dataset,source,split\n" + "".join(f"{name},{name},x.mp4,test\n" for name in LONG))
    rows = read_manifest(file)
    pairs = default_pairs(rows)
    check_names(tmp_path, [one.clip for one in (*rows, *pairs)], [*shards(rows, {}), *pair_shards(pairs, {})], ENDINGS)


def test_names_that_the_file_system_does_not_take_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "pathconf", lambda *_: 143)  # as of a folder that eCryptfs encrypts
    check_names(tmp_path / "new/results", ["a" * 100], ["d-0000"], ENDINGS)
    with pytest.raises(UserError, match=r"takes file names of 143 bytes, a{100}__b{100}\.failed\.json has 214"):
        check_names(tmp_path / "new/results", [pair_name(*LONG)], ["d-0000"], ENDINGS)
