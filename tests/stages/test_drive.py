import numpy as np
import pytest
import torch

from benchmarks import made_people as make
from expportrait.engine.loop import run as run_stage
from expportrait.engine.record import write_json
from expportrait.fit.displacement import Offsets
from expportrait.head import Head
from expportrait.manifest.pairs import read_pairs
from expportrait.stages import control, job, transfer, with_code
from expportrait.store import Store

torch.set_num_threads(1)
PEOPLE = {"ann-1": ("ann", "test"), "bob-1": ("bob", "train")}
ROWS = make.rows(PEOPLE)
PAIRS = read_pairs(None, ROWS)  # ann by herself, ann by bob
SELF, CROSS = (pair.clip for pair in PAIRS)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    results, head = tmp_path_factory.mktemp("results"), Head.load(subdivisions=0)
    for clip in PEOPLE:
        make.proxy_store(results, head, clip, frames=6)
        make.frame_stores(results, head, clip)
    transfer.run(ROWS, make.config(results, transfer={"steps": 20}), "cpu")
    return results


def run(results, pairs=PAIRS, maps=(), **settings):
    config = make.config(results, drive=settings, control={"maps": [*maps]})
    for stage in job("drive", config):
        index = run_stage(stage, stage.members(ROWS, pairs), config)
    return index


def test_self_driving_from_the_clips_own_proxy_renders_its_control_maps(results):
    index = run(results, PAIRS[:1], target_proxy="clip", offsets="copy", reference=2, maps=["depth"])
    assert index[SELF].status == "ok"
    run_stage(with_code("control"), ROWS[:1], make.config(results, control={"maps": ["depth"]}))
    made, own = Store(results / "drive" / f"{SELF}.zarr"), Store(results / "control" / "ann-1.zarr")
    assert (made["normals"] != own["normals"]).any(-1).mean() < 0.01
    assert (made["coverage"] != own["coverage"]).mean() < 1e-3
    assert np.abs(made["reference_normals"].astype(int) - own["normals"][2:3]).mean() < 1, "one exact, one packed"
    assert np.abs(made["reference_depth"] - own["depth"][2:3]).mean() < 1e-3
    assert made.attrs["reference"] == 2


@pytest.mark.parametrize("offsets", ["copy", "transfer"])
def test_of_a_long_clips_offsets_a_block_of_frames_is_in_memory(results, monkeypatch, offsets):
    asked, some = [], Offsets.__getitem__
    monkeypatch.setattr(Offsets, "__getitem__", lambda of, frames: asked.append(len(out := some(of, frames))) or out)
    index = run(results, PAIRS[1:], target_proxy="clip", offsets=offsets, reference=1)
    run_stage(
        with_code("control"),
        ROWS[:1],
        make.config(results, control={"maps": [{"copy": "eyes", "transfer": "region"}[offsets]]}),
    )
    assert index[CROSS].status == "ok" and control.BLOCK < 6
    assert len(asked) >= 4 and sum(asked) >= 12 and max(asked) <= control.BLOCK


def test_pairs_from_the_reference_frame(results):
    index = run(results)
    assert {outcome.status for outcome in index.values()} == {"ok"}
    for pair in PAIRS:
        store = Store(results / "drive" / f"{pair.clip}.zarr")
        assert store["normals"].shape == (6, make.SIZE, make.SIZE, 3)
        assert store["normals"].dtype == np.int8
        assert store["coverage"].shape == (6, make.SIZE, make.SIZE)
        assert store["reference_normals"].shape == (1, make.SIZE, make.SIZE, 3)
        assert {k: store.attrs[k] for k in ("target", "driver")} == pair.extra
    target = Store(results / "drive" / "targets" / "ann-1.zarr")
    assert target["expression"].shape[0] == 1
    own = Store(results / "proxy" / "ann-1.zarr")
    assert np.abs(Store(results / "drive" / f"{CROSS}.zarr")["translation"][0] - target["translation"][0]).max() < 1e-5
    assert np.abs(target["translation"][0, 2] / own["translation"][0, 2] - 1) < 0.2


def test_targets_are_fitted_once_and_not_for_other_settings_of_drive(results, capsys):
    run(results)
    capsys.readouterr()
    run(results, pose="relative")
    said = capsys.readouterr().err
    assert "drive/targets: 1 ok, 0 failed, 0 skipped, 0 computed" in said
    assert "drive: 2 ok, 0 failed, 0 skipped, 2 computed" in said


def test_a_new_transfer_drives_again_unless_no_offsets_come_from_it(results):
    index = results / "transfer" / "index.json"
    before = index.read_bytes()
    keys = {offsets: run(results, PAIRS[:1], offsets=offsets)[SELF].key for offsets in ("transfer", "static")}
    write_json(index, {"status": "failed", "key": None, "why": "gone"})
    assert run(results, PAIRS[:1], offsets="static")[SELF].key == keys["static"]
    assert run(results, PAIRS[:1])[SELF].status == "skipped"
    index.write_bytes(before)
    assert run(results, PAIRS[:1])[SELF].key == keys["transfer"]


def test_offsets_make_different_maps(results):
    made = {}
    for offsets in ("copy", "static", "none"):
        run(results, PAIRS[1:], offsets=offsets, target_proxy="clip")
        made[offsets] = Store(results / "drive" / f"{CROSS}.zarr")["normals"].astype(int)
    assert (made["copy"] != made["static"]).any()
    assert (made["static"] != made["none"]).any()


def test_a_reference_frame_past_the_end_is_the_clips_failure(results):
    assert "drive.reference is frame 6, but the clip has 6 frames" in run(results, reference=6)[CROSS].why
    assert "has 6 frames" in run(results, reference=6, target_proxy="clip")[SELF].why


def test_a_driver_without_proxy_is_skipped_with_the_reason(results, tmp_path):
    pairs = read_pairs(None, make.rows({"ann-1": ("ann", "test"), "eva-1": ("eva", "train")}))
    outcome = run(results, pairs[1:], target_proxy="clip")[pairs[1].clip]
    assert outcome.status == "skipped"
    assert "driver" in outcome.why
