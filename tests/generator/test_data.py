from itertools import pairwise

import numpy as np
import pytest
import torch

from expportrait.errors import UserError
from expportrait.generator.codec import resize
from expportrait.generator.data import Windows, as_channels, control_maps, stored_maps, training_batch
from expportrait.head import Head
from expportrait.rng import random_generator
from expportrait.store import Store, StoreWriter

from . import make

OPTIONS = {"shift": 3.0, "drop_reference": 0.0, "drop_control": 0.0, "drop_both": 0.0}


def draw(*what):
    return torch.rand(4, generator=random_generator(*what)).tolist()


def test_random_numbers_repeat_and_no_two_choices_share_them():
    assert draw(0, "noise", 5, 1) == draw(0, "noise", 5, 1)
    drawn = [draw(*what) for what in ((0, "noise", 5, 1), (1, "noise", 5, 1), (0, "sigma", 5, 1), (0, "noise", 6, 1),
                                      (0, "noise", 5, 2), (0, "noise", 51), (0, "noise5", 1))]  # fmt: skip
    assert len({tuple(values) for values in drawn}) == len(drawn)


def test_every_choice_of_a_step_has_a_generator_of_its_own(windows, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "expportrait.generator.data.random_generator", lambda *what: drawn.append(what) or random_generator(*what)
    )
    for step in range(3):
        training_batch(windows, 11, step, 2, **OPTIONS)
    assert len(drawn) >= 3 * 2 * 4 and len(set(drawn)) == len(drawn)


def test_noise_is_not_the_data_of_another_draw(windows):
    batch = training_batch(windows, 0, 0, 2, **OPTIONS)
    assert abs(float(batch.noise.mean())) < 0.05 and abs(float(batch.noise.std()) - 1) < 0.05


@pytest.mark.parametrize("cuts", [(0, 2, 4), (0, 1, 2, 3, 4), (0, 3, 4)])
def test_the_parts_of_a_batch_are_together_the_batch(windows, cuts):
    options = OPTIONS | {"drop_reference": 0.3, "drop_control": 0.3}
    whole = training_batch(windows, 3, 7, 4, **options)
    parts = [training_batch(windows, 3, 7, 4, range(*ends), **options) for ends in pairwise(cuts)]
    for name in ("latents", "noise", "sigma", "kept"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts])), name
    assert torch.equal(whole.given.image, torch.cat([part.given.image for part in parts]))


def test_an_epoch_shows_every_window_once_and_the_next_in_another_order(windows):
    n = len(windows)
    assert n == 6
    order = [
        (b.clips[i], b.starts[i])
        for step in range(n)
        for b in [training_batch(windows, 0, step, 2, **OPTIONS)]
        for i in (0, 1)
    ]
    assert sorted(order[:n]) == sorted(order[n:]) == [(clip, start) for clip in "ab" for start in (0, 4, 7)]
    assert order[:n] != order[n:]


def test_dropouts_come_in_the_shares_asked_for(windows):
    options = OPTIONS | {"drop_reference": 0.2, "drop_control": 0.3, "drop_both": 0.1}
    kept = [training_batch(windows, 0, step, 2, **options).given for step in range(200)]
    control, reference = (
        torch.cat([getattr(given, f"{name}_kept") for given in kept]) for name in ("control", "reference")
    )
    assert float(1 - control.mean()) == pytest.approx(0.4, abs=0.06)
    assert float(1 - reference.mean()) == pytest.approx(0.3, abs=0.06)
    assert float(((control == 0) & (reference == 0)).float().mean()) == pytest.approx(0.1, abs=0.04)


def test_a_sample_holds_together(windows, prepared):
    sample = windows.sample(windows.table.index(("b", 1)), 1)
    pictures, normals, coverage = make.ball(12, *make.CLIPS["b"])
    control = as_channels(sample.control)
    assert sample.latents.shape == (16, 2, 8, 8) and control.shape == (4, 5, 32, 32)
    expected = np.stack(
        [pictures[11][y : y + 2, x : x + 2].mean((0, 1)) for y in range(0, 64, 2) for x in range(0, 64, 2)]
    )
    seen = (sample.image.permute(1, 2, 0).reshape(-1, 3).numpy() + 1) * 127.5
    assert np.abs(seen - expected).mean() < 1  # by area, from the clip's last frame; packed at 45 dB
    half = normals[4:9].reshape(5, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(control[:3].permute(1, 2, 3, 0).numpy() - half).max() < 0.01
    assert np.abs(control[3].numpy() - coverage[4:9].reshape(5, 32, 2, 32, 2).mean((2, 4)) / 255).max() < 0.01
    for name, maps in windows.control("b", 11, 1).items():
        assert torch.equal(sample.image_control[name], maps)
    stored = Store(prepared / "latents" / "b.zarr")["reference_latents"][1]
    assert torch.equal(sample.image_latent, torch.from_numpy(stored).float())


def test_large_sets_are_read_where_needed(windows, prepared, monkeypatch):
    monkeypatch.setattr("expportrait.generator.data.CACHE_BYTES", 0)
    paths = [{clip: prepared / stage / f"{clip}.zarr" for clip in make.CLIPS} for stage in ("latents", "control")]
    lazy = Windows(*paths, windows.maps)
    held, read = vars(windows.sample(4, 0)), vars(lazy.sample(4, 0))
    for name, value in held.items():
        parts = (
            zip(value.values(), read[name].values(), strict=True) if isinstance(value, dict) else [(value, read[name])]
        )
        assert all(torch.equal(*part) for part in parts)
    assert lazy._held is None and windows._held


@pytest.mark.parametrize("cache", [0, 1 << 30], ids=["read", "held"])
def test_a_batch_is_its_samples_one_beside_the_other(windows, prepared, monkeypatch, cache):
    monkeypatch.setattr("expportrait.generator.data.CACHE_BYTES", cache)
    paths = [{clip: prepared / stage / f"{clip}.zarr" for clip in make.CLIPS} for stage in ("latents", "control")]
    some = Windows(*paths, windows.maps)
    noises = [random_generator(0, "noise", 0, i) for i in range(3)]
    batch = some.batch([4, 0, 4], torch.zeros(3), noises, [0, 1, 1], torch.ones(3, 2))
    for k, (index, reference) in enumerate(((4, 0), (0, 1), (4, 1))):
        sample = windows.sample(index, reference)
        assert torch.equal(batch.latents[k], sample.latents) and torch.equal(batch.image[k], sample.image)
        assert torch.equal(batch.image_latent[k], sample.image_latent)
        for name in windows.maps:
            assert torch.equal(batch.control[name][k], sample.control[name])
            assert torch.equal(batch.image_control[name][k], sample.image_control[name])


def test_further_maps_become_channels(tmp_path):
    eye = 1 + Head.REGIONS.index("eye")
    with StoreWriter(tmp_path / "c.zarr", {"key": "k"}) as out:
        out.array("depth", np.full((2, 4, 4), 1.5, np.float16) + np.float16(0.1) * np.eye(4, dtype=np.float16))
        out.array("region", np.full((2, 4, 4), eye, np.uint8))
        out.array("eyes", np.full((2, 4, 4), 255, np.uint8))
    maps = control_maps(Store(tmp_path / "c.zarr"), slice(0, 1), 4, ["depth", "region", "eyes"])
    assert maps.shape == (5, 1, 4, 4)
    torch.testing.assert_close(maps[0, 0], -torch.eye(4), atol=0.02, rtol=0)  # a tenth of a metre farther is -1
    assert maps[1:, 0].mean((1, 2)).tolist() == [1, 0, 0, 1]
    with pytest.raises(UserError, match="has no map 'normals'"):
        control_maps(Store(tmp_path / "c.zarr"), slice(0, 1), 4, ["normals"])


@pytest.mark.parametrize("size", [8, 4])
def test_maps_as_stored_become_the_values_that_dividing_each_frame_gives(tmp_path, size):
    random = np.random.default_rng(0)
    normals = random.integers(-127, 128, (3, 8, 8, 3)).astype(np.int8)
    coverage = random.integers(0, 256, (3, 8, 8)).astype(np.uint8)
    with StoreWriter(tmp_path / "c.zarr", {"key": "k"}) as out:
        out.array("normals", normals)
        out.array("coverage", coverage)
    maps = stored_maps(Store(tmp_path / "c.zarr"), slice(1, 3), size, ["normals", "coverage"])
    as_stored = size == 8
    assert [part.dtype for part in maps.values()] == ([torch.int8, torch.uint8] if as_stored else [torch.float32] * 2)
    both = {name: torch.stack([part, part]) for name, part in maps.items()}
    expected = np.concatenate(
        [resize(values[1:3] / np.float32(unit), size).reshape(2, size, size, -1)
         for values, unit in ((normals, 127), (coverage, 255))], -1)  # fmt: skip
    assert np.array_equal(as_channels(maps).permute(1, 2, 3, 0).numpy(), expected)
    assert torch.equal(as_channels(both), torch.stack([as_channels(maps)] * 2))


def test_stores_of_different_settings_are_refused(tmp_path):
    make.latent_stores(tmp_path, make.config(tmp_path))
    make.latent_stores(tmp_path / "other", make.config(tmp_path / "other", latents={"channels": 8}))
    paths = {"a": tmp_path / "latents/a.zarr", "b": tmp_path / "other/latents/b.zarr"}
    with pytest.raises(UserError, match=r"b.zarr was made with other settings"):
        Windows(paths, {clip: tmp_path / f"control/{clip}.zarr" for clip in "ab"}, ["normals"])
    with pytest.raises(UserError, match="no clip to train on"):
        Windows({}, {}, ["normals"])
