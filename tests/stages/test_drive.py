import numpy as np
import pytest
import torch

from benchmarks import made_people as make
from expportrait.engine.loop import run as run_stage
from expportrait.engine.record import write_json
from expportrait.fit.displacement import Offsets
from expportrait.head import JOINTS, Head
from expportrait.head.rotation import axis_angle_to_matrix
from expportrait.manifest.pairs import pair_row, read_pairs
from expportrait.stages import control, job, transfer, with_code
from expportrait.store import Store, StoreWriter
from expportrait.transfer.drive import facing
from expportrait.transfer.motion import TURNS

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


def times(results, clip, fps, frames=6):
    """The store of crop, as far as driving asks for it."""
    with StoreWriter(results / "crop" / f"{clip}.zarr", {"key": f"{clip} at {fps}"}) as out:
        out.array("timestamps", 3 + np.arange(frames) / fps)


def drive(results, name="", driver="bob-1", taken=None, **own):
    """The store of ann driven by another, by a row with these columns."""
    rows = {row.clip: row for row in ROWS}
    pair = pair_row(rows["ann-1"], rows[driver], name, taken, own)
    assert run(results, [pair], target_proxy="clip", offsets="copy", reference=1)[pair.clip].status == "ok"
    return Store(results / "drive" / f"{pair.clip}.zarr")


def test_a_row_may_have_settings_of_its_own(results):
    plain, held = drive(results), drive(results, "held", hold=["pose"], reference=3)
    own = Store(results / "proxy" / "ann-1.zarr")
    assert (held["pose"][:, TURNS] == own["pose"][3, TURNS]).all() and held.attrs["reference"] == 3
    assert (held["expression"] == plain["expression"]).all() and (held["pose"] != plain["pose"]).any()
    assert held.attrs["settings"]["drive"]["hold"] == ["pose"] and plain.attrs["settings"]["drive"]["hold"] == []
    assert "weight" not in held


def test_what_is_stored_is_enough_to_have_the_head_again(results):
    """As docs/artifacts.md says it; D_t, which the store leaves out, is none here."""
    rows = {row.clip: row for row in ROWS}
    own = {"gain_mouth": 0.3, "gain_lids": 0.0, "expression": "relative", "gain_expression": 2.0}
    pair = pair_row(rows["ann-1"], rows["bob-1"], "quiet", None, own)
    assert run(results, [pair], target_proxy="clip", offsets="static", reference=1, maps=["depth"])["quiet"].key
    store, fit = Store(results / "drive" / "quiet.zarr"), Store(results / "proxy" / "ann-1.zarr")
    head, t = Head.load(subdivisions=0), 4
    start, expression, weight = (torch.from_numpy(store[name]) for name in ("start", "expression", "weight"))
    assert weight.min() < 0.01 and weight.max() == 1
    basis, shape = head.dense.expression_basis, torch.from_numpy(fit["shape"])
    moved = basis @ start + weight[:, None] * (basis @ (expression[t] - start))
    points = head.dense.template + head.dense.shape_basis @ shape + moved + torch.from_numpy(fit["static_offset"])
    turn, place = axis_angle_to_matrix(torch.from_numpy(store["pose"][t])), torch.from_numpy(store["translation"][t])
    posed = head.dense.skin(points[None], head.transforms(shape, expression[t][None], turn[None], place[None]))
    nearest = -posed[0, head.facial > 0.9, 2].max()
    depth = store["depth"][t]
    assert abs(float(depth[depth > 0].min()) - float(nearest)) < 2e-3
    assert np.allclose(start, fit["expression"][1])


def test_pose_and_expression_come_from_other_clips_by_time(results):
    """The driver has 25 frames a second; the others twice as many, so every other frame of theirs is meant."""
    head = Head.load(subdivisions=0)
    make.proxy_store(results, head, "eva-1", frames=12)
    for clip, fps, frames in (("bob-1", 25, 6), ("eva-1", 50, 12), ("ann-1", 25, 6)):
        times(results, clip, fps, frames)
    bob, eva = (Store(results / "proxy" / f"{clip}.zarr") for clip in ("bob-1", "eva-1"))

    def faces(pose):
        return facing(axis_angle_to_matrix(torch.from_numpy(pose[:, TURNS])))

    jaw = JOINTS.index("jaw")
    pose, face, both = (
        drive(results, name, taken=dict.fromkeys(columns, "eva-1"))
        for name, columns in (("p", ["pose_from"]), ("e", ["expression_from"]), ("b", ["pose_from", "expression_from"]))
    )
    assert torch.allclose(faces(pose["pose"]), faces(eva["pose"][::2]), atol=1e-4)
    assert (pose["expression"] == bob["expression"]).all() and pose.attrs["pose_from"] == "eva-1"
    assert torch.allclose(faces(face["pose"]), faces(bob["pose"]), atol=1e-4)
    assert (face["expression"] == eva["expression"][::2]).all() and (
        face["pose"][:, jaw] == eva["pose"][::2, jaw]
    ).all()
    assert (both["expression"] == face["expression"]).all() and (both["pose"][:, TURNS] == pose["pose"][:, TURNS]).all()
    assert not np.allclose(pose["normals"], face["normals"])


def test_a_targets_own_pose_begins_at_its_reference_frame(results):
    """Ann's head moves as in her clip, bob gives the face: at her reference frame she stands as she does there."""
    for clip in ("ann-1", "bob-1"):
        times(results, clip, 25)
    made, own = drive(results, "own", taken={"pose_from": "ann-1"}), Store(results / "proxy" / "ann-1.zarr")
    assert np.allclose(made["pose"][:, TURNS], own["pose"][:, TURNS], atol=1e-4)
    assert np.allclose(made["translation"], own["translation"], atol=1e-5)


def test_smoothing_takes_the_tremble_out(results):
    times(results, "bob-1", 25)
    rough, calm = drive(results, "rough"), drive(results, "calm", smooth=0.08)
    for name in ("expression", "pose", "translation"):
        assert np.abs(np.diff(calm[name], axis=0)).sum() < 0.8 * np.abs(np.diff(rough[name], axis=0)).sum()


def test_each_frame_that_pairs_ask_for_has_a_head_of_its_own(results, capsys):
    rows = {row.clip: row for row in ROWS}
    pairs = [pair_row(rows["ann-1"], rows["bob-1"], name, None, own) for name, own in
             (("", {}), ("third", {"reference": 3}), ("third too", {"reference": 3, "gain_jaw": 0.5}))]  # fmt: skip
    index = run(results, pairs)
    assert {outcome.status for outcome in index.values()} == {"ok"}
    homes = results / "drive" / "targets"
    assert Store(homes / "ann-1@3.zarr").attrs["reference"] == 3 and Store(homes / "ann-1.zarr").attrs["reference"] == 0
    assert Store(results / "drive" / "third.zarr").attrs["reference"] == 3
    assert Store(homes / "ann-1@3.zarr").attrs["key"] != Store(homes / "ann-1.zarr").attrs["key"]
    pairs[1] = pair_row(rows["ann-1"], rows["bob-1"], "sixth", None, {"reference": 6})
    assert "reference is frame 6, but the clip has 6 frames" in run(results, pairs[:2])["sixth"].why
