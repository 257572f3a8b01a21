"""From made-up people, whose frames show their heads in known colours, to a generator that is given the portrait."""

import json

import numpy as np
import pytest
import torch

from benchmarks import made_people as make
from expportrait.engine.loop import run
from expportrait.generator.codec import load_codec, resize, to_tensor
from expportrait.generator.data import Windows, seen_on_grid, training_batch
from expportrait.head import Head
from expportrait.manifest.pairs import read_pairs
from expportrait.stages import generator, job, with_code
from expportrait.store import Store, StoreWriter

torch.set_num_threads(1)
PEOPLE = {"ann-1": ("ann", "train"), "bob-1": ("bob", "train"), "cem-1": ("cem", "test")}
ROWS = make.rows(PEOPLE)
PAIRS = [pair for pair in read_pairs(None, ROWS) if pair.extra["driver"] == "cem-1"]  # by himself
FRAMES, SIZE = 11, 48
SETTINGS = {
    "drive": {"target_proxy": "clip", "offsets": "copy"},
    "latents": {"codec": "linear", "channels": 256, "size": SIZE, "window": 5, "stride": 3, "references": 4},
    "carry": {"portraits": 2},
    "generator": {
        "preset": "tiny", "maps": ["normals", "coverage", "appearance", "seen"], "reference": "conv",
        "prediction": "x0",
        "loss_weight": "sample", "shift": 8, "steps": 4, "batch": 2, "micro": 2, "precision": "no", "save_every": 2,
        "checkpointing": "none",
    },
    "reenact": {"steps": 2, "overlap": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Everything up to reenact."""
    results, head = tmp_path_factory.mktemp("results"), Head.load(subdivisions=0)
    for clip in PEOPLE:
        make.proxy_store(results, head, clip, frames=FRAMES)
        make.frame_stores(results, head, clip)
        make.painted_store(results, head, clip)
    config = make.config(results, **SETTINGS)
    for name in ("control", "latents", "carry", "drive", "appearance"):
        for stage in job(name, config):
            index = run(stage, stage.members(ROWS, PAIRS), config)
            assert {one.status for clip, one in index.items() if clip != "cem-1"} <= {"ok"}, index
    generator.run(ROWS, config, "cpu")
    assert {one.status for one in run(with_code("reenact"), PAIRS, config).values()} == {"ok"}
    return results


def test_windows_are_the_clip_made_from_another_frame_of_it(results):
    store, latents = (Store(results / name / "ann-1.zarr") for name in ("carry", "latents"))
    starts, references = store.attrs["starts"], store.attrs["references"]
    assert (starts, references) == (latents.attrs["starts"], latents.attrs["references"]) == ([0, 3, 6], [0, 3, 7, 10])
    chosen = [index for several in store.attrs["portraits"] for index in several]
    assert store["appearance"].shape == (6, 256, 2, 6, 6) and store["seen"].shape == (6, 5, 6, 6)
    codec = load_codec(make.config(results, **SETTINGS).latents)
    frames = resize(Store(results / "crop" / "ann-1.zarr")["frames"], SIZE)
    for row, reference in enumerate(chosen):
        window = torch.from_numpy(latents["windows"][row // 2]).float()
        held = codec.encode(to_tensor(frames[[references[reference]] * 5]))[0]
        known = torch.from_numpy(store["seen"][row][[0, 1]] > 200)  # of the window's first frames
        error = [(torch.from_numpy(np.float32(made)) - window).abs()[:, known].mean()
                 for made in (store["appearance"][row], held.numpy())]  # fmt: skip
        assert error[0] < 0.7 * error[1] or references[reference] in range(starts[row // 2], starts[row // 2] + 5)


def test_a_clip_that_nothing_is_trained_on_is_not_needed(results):
    index = run(with_code("carry"), ROWS, make.config(results, **SETTINGS))
    assert {clip: one.status for clip, one in index.items()} == {"ann-1": "ok", "bob-1": "ok", "cem-1": "skipped"}
    assert "not needed" in index["cem-1"].why and "split test" in index["cem-1"].why


def test_another_proxy_does_not_encode_the_frames_own_latents_again(results):
    stages = [with_code(name) for name in ("latents", "carry")]
    assert "proxy" not in stages[0].parents and "proxy" in stages[1].parents


def test_a_sample_has_the_reference_that_its_appearance_was_made_from(results):
    paths = ({clip: results / name / f"{clip}.zarr" for clip in ("ann-1", "bob-1")}
             for name in ("latents", "control", "carry"))  # fmt: skip
    latents, control, carry = paths
    windows = Windows(latents, control, SETTINGS["generator"]["maps"], carry)
    store, own = Store(carry["bob-1"]), Store(latents["bob-1"])
    for window, portraits in enumerate(store.attrs["portraits"]):
        for number, reference in enumerate(portraits):
            sample = windows.sample(windows.table.index(("bob-1", window)), number)
            row = 2 * window + number
            assert torch.equal(sample.carried["appearance"], torch.from_numpy(store["appearance"][row]).float())
            assert torch.equal(sample.carried["seen"], seen_on_grid(store["seen"][row], 4))
            assert torch.equal(sample.image_latent, torch.from_numpy(own["reference_latents"][reference]).float())
    batch = training_batch(windows, 0, 0, 2, shift=3.0, drop_reference=0, drop_control=0, drop_both=0)
    assert batch.carried["appearance"].shape == batch.latents.shape and batch.given.seen.shape == (2, 4, 2, 6, 6)


def test_what_was_seen_stands_beside_the_latent_that_holds_its_frames():
    seen = np.arange(9, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    grid = seen_on_grid(seen, 4) * 255
    assert grid[:, :, 0, 0].T.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]


def test_the_generator_is_trained_with_it_and_says_so(results):
    about = json.loads((results / "generator" / "model" / "generator.json").read_text())
    assert about["model"]["appearance"] is about["model"]["seen"] is True
    index = json.loads((results / "generator" / "index.json").read_text())
    assert {*index["clips"]["ann-1"]} == {"latents", "control", "carry"}


def test_a_film_starts_from_the_pairs_appearance(results):
    """After four steps the network changes next to nothing: what comes out is the appearance through the codec."""
    pair = PAIRS[0].clip
    moved = resize(Store(results / "appearance" / f"{pair}.zarr")["appearance"], SIZE).astype(int)
    made = Store(results / "reenact" / f"{pair}.zarr")["frames"].astype(int)
    held = np.abs(moved[:1] - moved)
    assert made.shape == moved.shape and np.abs(made - moved).mean() < 0.5 * held.mean()


def test_latents_of_other_windows_are_refused(results, tmp_path):
    from expportrait.errors import UserError

    other = tmp_path / "ann-1.zarr"
    store = Store(results / "carry" / "ann-1.zarr")
    with StoreWriter(other, store.attrs | {"starts": [0, 4]}) as out:
        out.array("appearance", store["appearance"])
    paths = [{"ann-1": results / name / "ann-1.zarr"} for name in ("latents", "control")]
    with pytest.raises(UserError, match="of other windows than the clip's latents: run carry again"):
        Windows(*paths, ["normals", "appearance"], {"ann-1": other})
