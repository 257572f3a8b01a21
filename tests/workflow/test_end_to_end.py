"""The shipped demo with its real stages. Uses what `make demo` left, or runs it."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from expportrait.engine.record import read_index
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.store import load_proxy
from expportrait.generator.codec import load_codec, resize, to_tensor
from expportrait.generator.data import control_maps
from expportrait.generator.files import load_generator
from expportrait.generator.sample import Sampler, generate
from expportrait.head import JOINTS
from expportrait.manifest.clips import read_manifest, shards
from expportrait.manifest.pairs import pair_shards, read_pairs
from expportrait.metrics.pair import METRICS
from expportrait.settings.files import overlay, read_config, read_yaml
from expportrait.stages import PER_CLIP, PER_PAIR
from expportrait.store import Store, decode_normals
from expportrait.transfer.drive import transferred
from expportrait.transfer.model import Transfer
from expportrait.transfer.motion import motion
from tests.workflow.project import ROOT, Project


@pytest.fixture(scope="module")
def results():
    project = Project(ROOT)
    if project.plan():
        project.run()
    return ROOT / "results"


@pytest.fixture(scope="module")
def rows():
    return read_manifest(ROOT / "data_manifest.csv")


@pytest.fixture(scope="module")
def config():
    return read_config(("overlay", read_yaml(overlay(ROOT / "data_manifest.csv"))))


@pytest.mark.parametrize("stage", [*PER_CLIP, *PER_PAIR])
def test_every_clip_and_pair_of_every_stage_is_ok(results, rows, config, stage):
    if stage in PER_PAIR:
        table = pair_shards(read_pairs(ROOT / config.pairs, rows), config.shards)
        assert len(table) == 2, "a shard a target, so that they run side by side"
    else:
        table = shards(rows, config.shards)
        assert len(table) == len(rows), "a shard each, so that they run side by side"
    for shard, part in table.items():
        index = read_index(results / stage / f"{shard}.json")
        assert {row.clip for row in part} == set(index)
        tried = {row.clip for row in part if stage != "carry" or row.split == "train"}
        assert {clip for clip, outcome in index.items() if outcome.status == "ok"} == tried, index
        assert all("not needed" in index[clip].why for clip in {*index} - tried)
        for clip, outcome in ((clip, index[clip]) for clip in tried):
            assert Store(results / stage / f"{clip}.zarr").check().attrs["key"] == outcome.key


def test_stages_agree_on_frames_and_pixels(results, rows):
    for row in rows:
        store = {stage: Store(results / stage / f"{row.clip}.zarr") for stage in PER_CLIP if stage != "carry"}
        assert store["latents"].attrs["frames"] == store["crop"].lazy("frames").shape[0]
        frames, height, width, _ = store["crop"].lazy("frames").shape
        assert store["landmarks"].lazy("points").shape[0] == frames == store["proxy"].lazy("pose").shape[0]
        for stage in ("geometry", "control"):
            assert store[stage].lazy("normals").shape == (frames, height, width, 3)
        middle = frames // 2
        face = store["landmarks"]["points"][middle, :468, :2].mean(0).astype(int)
        for stage in ("geometry", "control"):
            normal = decode_normals(store[stage].lazy("normals")[middle])[face[1], face[0]]
            assert normal[2] > 0.5, (
                f"{row.clip}, {stage}: the middle of the face looks at the viewer, not along {normal}"
            )
        assert np.isfinite(store["proxy"]["static_offset"]).all()


def test_the_heads_lie_on_the_faces(results, rows):
    for row in rows:
        store = Store(results / "proxy" / f"{row.clip}.zarr")
        assert store["landmark_error"].mean() < 0.03, f"{row.clip}, inside the face oval, in inter-ocular distances"
        assert store["overlap"].mean() > 0.9, row.clip


def test_pairs_have_the_drivers_frames_and_a_video(results, rows, config):
    for pair in read_pairs(ROOT / config.pairs, rows):
        frames = Store(results / "crop" / f"{pair.extra['driver']}.zarr").lazy("frames").shape[0]
        assert Store(results / "drive" / f"{pair.clip}.zarr").lazy("normals").shape[0] == frames
        assert Store(results / "reenact" / f"{pair.clip}.zarr").lazy("frames").shape[0] == frames
        for end in (".mp4", ".side.mp4"):
            assert (results / "reenact" / f"{pair.clip}{end}").stat().st_size > 10_000


def test_the_head_of_a_cross_pair_opens_its_mouth_with_the_driver(results):
    driven = Store(results / "drive" / "hopper-talk__astronaut-smile.zarr")
    driver = Store(results / "proxy" / "astronaut-smile.zarr")
    jaw = JOINTS.index("jaw")
    assert np.allclose(driven["expression"], driver["expression"], atol=1e-4)
    assert np.allclose(driven["pose"][:, jaw], driver["pose"][:, jaw], atol=1e-4)
    assert np.ptp(driven["pose"][:, jaw, 0]) > 0.05, "rad"


def test_a_training_clip_is_reenacted_better_than_by_copying_its_portrait(results):
    table = json.loads((results / "evaluate" / "table.json").read_text())["rows"]
    pair = {row["method"]: row for row in table if row["pair"] == "hopper-talk__hopper-talk"}
    assert pair["generated"]["trained_on"] == ["target", "driver"] and pair["generated"]["mode"] == "self"
    assert pair["generated"]["psnr"] > pair["copy reference"]["psnr"] + 3, "dB"
    assert {row["mode"] for row in table} == {"self", "cross"}
    for row in table:
        missing = [] if row["mode"] == "self" else ["psnr", "ssim", "lpips", "l1"]
        assert [name for name in METRICS if row[name] is None] == missing, row["method"]
    for name in ("lpips", "aed", "apd"):
        assert pair["noise floor"][name] < pair["generated"][name], name
    lines = list(csv.DictReader((results / "evaluate" / "frames.csv").open()))
    assert len(lines) == sum(row["frames"] for row in table)


def test_the_generator_follows_the_control_maps_it_is_given(results, config):
    """The same portrait and noise with another clip's motion must cost at least 2 dB against the true frames."""
    model, about = load_generator(results / "generator" / "model")
    size, maps, window = about["size"], about["maps"], about["window"]
    truth = resize(Store(results / "crop" / "hopper-talk.zarr")["frames"], size)
    own = Store(results / "drive" / "hopper-talk__hopper-talk.zarr")
    other, moved = (Store(results / stage / "hopper-talk__astronaut-smile.zarr") for stage in ("drive", "appearance"))
    frames = min(len(truth), other.lazy("normals").shape[0])
    blocks = generate(
        model,
        load_codec(config.latents),
        Sampler(config.reenact.steps, config.reenact.shift),
        frames,
        window,
        config.reenact.overlap,
        lambda wanted: control_maps(other, wanted, size, maps),
        to_tensor(truth[:1])[0, :, 0],
        control_maps(own, slice(0, 1), size, maps, "reference_")[:, 0],
        config.reenact.seed,
        lambda wanted: (moved.lazy("appearance")[wanted], moved.lazy("seen")[wanted], other.lazy("coverage")[wanted]),
        config.reenact.detail,
    )
    driven_wrongly = np.concatenate([*blocks])
    driven_rightly = Store(results / "reenact" / "hopper-talk__hopper-talk.zarr")["frames"][:frames]

    def psnr(made):
        return np.mean(
            [
                -20 * np.log10(np.sqrt(np.mean((m / 255 - t / 255) ** 2)))
                for m, t in zip(made, truth[:frames], strict=True)
            ]
        )

    assert psnr(driven_rightly) > psnr(driven_wrongly) + 2


def test_the_transfer_module_leaves_a_neutral_face_alone(results):
    model = Transfer.from_pretrained(results / "transfer" / "model")
    head = load_head()
    target = load_proxy(Store(results / "drive" / "targets" / "hopper-talk.zarr"), head)
    moves = motion(load_proxy(Store(results / "proxy" / "astronaut-smile.zarr"), head))
    moved = transferred(target, moves, model)[:]
    assert moved.abs().max() > 0
    still = replace(moves, expression=0 * moves.expression, face=0 * moves.face)
    assert transferred(target, still, model)[:].abs().max() == 0


def test_the_report_is_there_and_nothing_is_left_to_do(results):
    assert (results / "report" / "index.html").stat().st_size > 1000
    assert Project(ROOT).plan() == {}


def test_other_settings_of_the_transfer_do_not_train_the_generator_again(results):
    plan = Project(ROOT).plan("--config", "transfer={steps: 601}")
    assert plan == {"transfer": 1, "drive": 2, "appearance": 2, "reenact": 2, "evaluate": 1, "report": 1}
