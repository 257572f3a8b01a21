"""Stage ``evaluate`` as a loop over pairs: what it does where a pair cannot be measured. The networks are left out."""

import csv
import json

import numpy as np
import pytest

from expportrait.engine.costs import read_costs
from expportrait.engine.heartbeat import read_heartbeat
from expportrait.engine.loop import run
from expportrait.errors import ClipError, MachineFault
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import pair_row
from expportrait.metrics.pair import METHODS, Scores
from expportrait.settings.config import Config, Drive
from expportrait.stages import PIPELINE, evaluate, with_code
from expportrait.store import StoreWriter

PAIRS = [("ann", "ann"), ("ann", "bob")]


def evaluated(config, pairs=PAIRS):
    """The rows of the table."""
    rows = [pair_row(*(Row(clip, "d", clip, clip, person=clip) for clip in pair)) for pair in pairs]
    run(with_code("evaluate"), rows, config)
    return json.loads((config.results / PIPELINE["evaluate"].table).read_text())["rows"]


def write(path, frames, seed=0, **attrs):
    with StoreWriter(path, {"key": path.stem, **attrs}) as out:
        out.array("frames", np.random.default_rng(seed).integers(0, 255, (frames, 8, 8, 3), np.uint8))


def test_of_what_controls_make_of_a_driver_there_is_no_truth_and_no_mean_counts_it(config):
    rows = {clip: Row(clip, "d", clip, clip, person=clip) for clip in ("ann", "bob")}
    plain = [pair_row(rows[target], rows[driver]) for target, driver in PAIRS]
    soft = pair_row(rows["ann"], rows["ann"], "soft", {}, {"gain_mouth": 0.5, "hold": ["pose"]})
    mixed = pair_row(rows["ann"], rows["bob"], "mixed", {"pose_from": "ann"})
    ways = {"pose": "relative", "gain_mouth": 1.0, "expression": "relative"}
    same = pair_row(rows["ann"], rows["ann"], "same", {}, ways)
    for pair in (soft, mixed, same):
        write(config.results / "reenact" / f"{pair.clip}.zarr", 4, reference=1)
        with StoreWriter(config.results / "appearance" / f"{pair.clip}.zarr", {"key": f"{pair.clip} moved"}) as out:
            out.array("appearance", np.zeros((4, 8, 8, 3), np.uint8))
    pairs = [*plain, soft, mixed, same]
    run(with_code("evaluate"), pairs, config)
    table = json.loads((config.results / PIPELINE["evaluate"].table).read_text())
    found = {row["pair"]: row for row in table["rows"]}
    assert [found[pair.clip]["mode"] for pair in pairs] == ["self", "cross", "steered", "steered", "self"]
    for pair, why in ((soft, "(hold, gain_mouth)"), (mixed, "(pose_from)")):
        (told,) = {*found[pair.clip]["reasons"].values()}
        assert told.startswith("not needed: the motion is not the driver's as it is") and why in told
    of = table["means"][0]["of"]
    assert of == {"self": 2, "cross": 1}
    for pair in plain:
        write(config.results / "reenact" / f"{pair.clip}.zarr", 4, reference=1, key=f"{pair.clip} with less pose")
    whole = config.model_copy(update={"drive": Drive(gain_pose=0.5)})
    assert {row["mode"] for row in evaluated(whole)} == {"steered"}, "also where the settings say so for all pairs"
    assert "steered" in (config.results / "evaluate/table.md").read_text()


def scores(count):
    """No face in the last frame."""
    faces = {"result": np.arange(count) < count - 1, "driver": np.ones(count, bool)}
    return Scores({"psnr": np.ones(count)}, {}, {}, faces)


def frames_of(rows):
    """How many frames were measured, pair by pair; the reference of a pair that drives itself is left out."""
    assert [row["method"] for row in rows] == [*METHODS] * (len(rows) // len(METHODS))
    return [row["frames"] for row in rows[:: len(METHODS)]]


@pytest.fixture
def config(tmp_path, monkeypatch):
    for clip in ("ann", "bob"):
        write(tmp_path / "crop" / f"{clip}.zarr", 4)
        (tmp_path / "crop" / f"{clip}-0000.json").write_text(json.dumps({clip: {"status": "ok"}}))
    for target, driver in PAIRS:
        write(tmp_path / "reenact" / f"{target}__{driver}.zarr", 4, reference=1)
        with StoreWriter(tmp_path / "appearance" / f"{target}__{driver}.zarr", {"key": f"{target} moved"}) as out:
            out.array("appearance", np.zeros((4, 8, 8, 3), np.uint8))
    monkeypatch.setattr(evaluate.Tools, "load", lambda settings, device: None)
    monkeypatch.setattr(evaluate, "measure", lambda tools, made, *_: dict.fromkeys(METHODS, scores(len(made))))
    return Config(results=tmp_path, evaluate={"stride": 1})


def lose_a_chunk(results):
    next(f for f in (results / "crop/bob.zarr/frames").rglob("*") if f.name != "zarr.json" and f.is_file()).unlink()


def flip_a_bit(results):
    file = next(f for f in (results / "crop/bob.zarr/frames").rglob("*") if f.name != "zarr.json" and f.is_file())
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 16
    file.write_bytes(data)


def lose_the_header(results):
    (results / "crop/bob.zarr/zarr.json").unlink()


@pytest.mark.parametrize("damage", [lose_a_chunk, flip_a_bit, lose_the_header])
def test_a_damaged_store_is_marked_and_the_other_pairs_are_measured(config, damage):
    results = config.results
    damage(results)
    with pytest.raises(MachineFault, match=r"crop/bob\.zarr .*Run snakemake again"):
        evaluated(config, PAIRS[::-1])
    assert (results / "crop/bob.damaged").exists() and not (results / "crop/ann.damaged").exists()
    assert [f.name for f in (results / "crop").glob("*.json")] == ["ann-0000.json"]
    assert [f.name for f in (results / "evaluate").rglob("*.json")] == ["ann__ann.json"]
    write(results / "crop/bob.zarr", 4)
    assert frames_of(evaluated(config)) == [3, 4]
    spent = [(line["stage"], line["clip"], line["dataset"], line["made"]) for line in read_costs(results)]
    assert spent[0] == ("evaluate", "ann__bob", "pairs", False) or damage is lose_the_header
    assert spent[-2:] == [("evaluate", "ann__ann", "pairs", True), ("evaluate", "ann__bob", "pairs", True)]


def test_a_pair_that_cannot_be_measured_is_recorded_until_it_can(config):
    results = config.results
    record = results / "evaluate/pairs/ann__bob.failed.json"
    write(results / "crop/bob.zarr", 3)
    rows = evaluated(config)
    assert frames_of(rows) == [3, None]
    known = json.loads(record.read_text())
    assert known["status"] == "failed" and "its driver 3" in known["why"] and known["key"]
    write(results / "crop/bob.zarr", 4)
    evaluated(config)
    assert not record.exists() and json.loads((record.parent / "ann__bob.json").read_text())["key"] == known["key"]


def test_a_portrait_that_drives_itself_need_not_be_measured(config):
    results = config.results
    write(results / "crop/ann.zarr", 1)
    write(results / "reenact/ann__ann.zarr", 1, reference=0)
    write(results / "reenact/ann__bob.zarr", 4, reference=0)
    rows = evaluated(config)
    assert frames_of(rows) == [None, 4]
    record = json.loads((results / "evaluate/pairs/ann__ann.failed.json").read_text())
    assert record["status"] == "skipped" and record["key"]
    assert record["why"] == "not needed: the video is the portrait that the network was given and nothing else"
    assert {*rows[0]["reasons"].values()} == {record["why"]}


def test_what_earlier_versions_measured_is_taken_where_it_lies(config, monkeypatch):
    first = evaluated(config)
    monkeypatch.setattr(evaluate, "measure", None)  # cannot be asked again
    assert evaluated(config) == first
    file = config.results / "evaluate/pairs/ann__bob.json"
    assert json.loads(file.read_text()).keys() == {"key", "rows", "frames", "values", "faces"}
    file.write_text("{")
    assert frames_of(evaluated(config)) == [3, None]


def test_a_failure_is_remembered_and_one_that_an_earlier_version_recorded_is_tried_again(config, monkeypatch):
    def unusable(*_):
        raise ClipError("no numbers")

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "measure", unusable)
        evaluated(config)
    record = config.results / "evaluate/pairs/ann__bob.failed.json"
    assert frames_of(evaluated(config)) == [None] * 2
    known = json.loads(record.read_text())
    del known["retry"]
    record.write_text(json.dumps(known))
    assert frames_of(evaluated(config)) == [None, 4] and not record.exists()


def test_a_pair_without_a_video_has_rows_with_the_reason(config):
    record = {"status": "failed", "key": "k", "why": "no portrait"}
    (config.results / "reenact/ann__bob.failed.json").write_text(json.dumps(record))
    rows = evaluated(config)
    assert frames_of(rows) == [3, None]
    assert {*rows[len(METHODS)]["reasons"].values()} == {"reenact ann__bob: no portrait"}
    assert [row["mode"] for row in rows] == ["self"] * len(METHODS) + ["cross"] * len(METHODS)


def test_others_see_the_work_on_all_pairs_as_one_job(config):
    evaluated(config)
    beat = read_heartbeat(config.results / "logs/evaluate.progress.json")
    assert (beat["stage"], beat["shard"], beat["unit"]) == ("evaluate", "", "pairs")
    assert (beat["done"], beat["total"], beat["computed"], beat["ended"]) == (2, 2, 2, True)


def test_each_frame_that_was_measured_has_a_line_beside_the_table(config):
    evaluated(config)
    folder = config.results / "evaluate"
    lines = list(csv.DictReader((folder / "frames.csv").open()))
    assert len(lines) == len(METHODS) * (3 + 4) and {line["psnr"] for line in lines} == {"1"}
    assert [line["frame"] for line in lines if line["pair"] == "ann__ann"] == ["0", "2", "3"] * len(METHODS)
    assert [line["frame"] for line in lines if line["face_in_result"] == "0"] == ["3"] * 2 * len(METHODS)
    by_pair = list(csv.DictReader((folder / "table.csv").open()))
    assert [line["result_without_face"] for line in by_pair] == ["1"] * 2 * len(METHODS)
    (config.results / "reenact/ann__bob.zarr/zarr.json").unlink()
    (config.results / "reenact/ann__bob.failed.json").write_text(
        '{"status": "failed", "key": "k", "why": "no portrait"}'
    )
    evaluated(config)
    assert {line["pair"] for line in csv.DictReader((folder / "frames.csv").open())} == {"ann__ann"}
    assert [line["psnr"] for line in csv.DictReader((folder / "table.csv").open())] == ["1"] * len(METHODS) + [
        ""
    ] * len(METHODS)
    means = json.loads((folder / "table.json").read_text())["means"]
    assert means[0]["self"] == {"psnr": 1} and means[0]["pairs"]["self"]["psnr"] == 1 and "| 1.00 |" in (
        folder / "table.md").read_text()  # fmt: skip
