"""Trained models that are named by their folders."""

import json
import multiprocessing
from pathlib import Path

import pytest

from expportrait.animate.models import find, placed, sampled
from expportrait.engine.record import whole_state
from expportrait.errors import UserError
from expportrait.settings.files import read_config


def trained(folder, key="one", **about):
    """A folder such as the stage generator leaves."""
    folder.mkdir(parents=True)
    (folder / "generator.json").write_text(json.dumps({"key": key} | about))
    return folder


@pytest.mark.parametrize("given", ["", "model"])
def test_a_generator_is_found_by_its_stage_or_by_its_own_folder(tmp_path, given):
    trained(tmp_path / "generator" / "model")
    folder, about = find("generator", tmp_path / "generator" / given)
    assert folder == tmp_path / "generator" / "model" and about["key"] == "one"


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(UserError, match=r"--transfer: .* holds no trained transfer: there is no training\.json"):
        find("transfer", tmp_path)


def test_stages_find_what_was_placed_and_another_model_takes_its_place(tmp_path):
    for key in ("one", "two"):
        model = find("generator", trained(tmp_path / key / "model", key))
        with placed(tmp_path / "results", {"generator": model}):
            home = tmp_path / "results" / "generator"
            assert whole_state(home).key == key
            assert json.loads((home / "model" / "generator.json").read_text())["key"] == key


def test_weights_trained_anew_by_the_same_settings_are_another_model(tmp_path):
    folder = trained(tmp_path / "model")
    keys = set()
    for weights in (b"these", b"those", b"these"):
        (folder / "encoders.safetensors").write_bytes(weights)
        keys.add(find("generator", folder)[1]["key"])
    assert len(keys) == 2


def test_a_generator_that_says_too_little_of_itself_is_one_sentence():
    with pytest.raises(UserError, match=r"--generator: its generator.json is none that this version writes .*'maps'"):
        sampled({"key": "one", "codec": {"codec": "linear"}})


def _hold(results, models, begun, over):
    with placed(results, models):
        begun.set()
        over.wait(20)


def test_nobody_puts_another_model_where_one_is_in_use(tmp_path):
    one, two = ({"generator": find("generator", trained(tmp_path / key / "model", key))} for key in ("one", "two"))
    (tmp_path / "transfer").mkdir()
    (tmp_path / "transfer" / "training.json").write_text('{"key": "three"}')
    module = find("transfer", tmp_path / "transfer")
    context = multiprocessing.get_context("spawn")
    begun, over = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "results", one, begun, over))
    other.start()
    try:
        assert begun.wait(30)
        with placed(tmp_path / "results", one):
            pass
        with placed(tmp_path / "results", {}), placed(tmp_path / "results", {"transfer": module}):
            pass  # neither has anything to do with generators
        with pytest.raises(UserError, match=r"works in .* with another generator: wait for it"), \
                placed(tmp_path / "results", two):  # fmt: skip
            pass
    finally:
        over.set()
        other.join()
    with placed(tmp_path / "results", two):
        assert Path(tmp_path / "results" / "generator" / "model").resolve() == two["generator"][0].resolve()


def test_a_generator_is_sampled_as_it_was_trained():
    about = {
        "codec": {"codec": "linear", "channels": 192, "time": 4, "space": 8}, "size": 256, "window": 9, "shift": 8.0,
        "maps": ["normals", "depth", "appearance"], "model": {"prediction": "x0"},
    }  # fmt: skip
    config = read_config(("the model", sampled(about)))
    assert (config.latents.codec, config.latents.channels, config.latents.window) == ("linear", 192, 9)
    assert (config.reenact.steps, config.reenact.shift, config.reenact.detail) == (4, 8, 1)
    assert config.control.maps == ["depth"] and config.generator.by_portrait
    config.check_together()
    wan = about | {"codec": {"codec": "wan", "channels": 16, "time": 4, "space": 8, "weights": "ab"}, "window": 81,
                   "maps": ["normals"], "model": {"prediction": "velocity"}}  # fmt: skip
    config = read_config(("the model", sampled(wan)))
    assert (config.reenact.steps, config.reenact.detail, config.reenact.overlap) == (20, 0, 9)
