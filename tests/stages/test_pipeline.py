"""The pipeline is said in one list: it is right, it costs nothing to read, and all take it from there."""

import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from expportrait.engine.keys import Keys, content_key
from expportrait.engine.stage import ALL
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import pair_row
from expportrait.settings.config import SECTIONS, Config, Drive, Generator, HeadSettings
from expportrait.stages import PER_CLIP, PER_PAIR, PIPELINE, STAGES, job, made, recorded, with_code

ROOT = Path(__file__).parents[2]
PAIR = pair_row(*(Row(clip, "d", f"{clip}.mp4", None) for clip in ("ann", "bob")))
CONFIGS = [
    Config(),
    Config(
        drive=Drive(target_proxy="clip", offsets="copy", reference=3),
        generator=Generator(maps=["normals", "appearance"]),
    ),
]


def test_reading_the_list_loads_no_models():
    heavy = "import sys, expportrait.stages; sys.exit(bool({'torch', 'zarr', 'cv2', 'numpy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", heavy]).returncode == 0


@pytest.mark.parametrize("name", PIPELINE)
def test_each_stage_has_its_code_in_the_module_of_its_name(name):
    stage, module = with_code(name), import_module(f"expportrait.stages.{name.replace('/', '_')}")
    needed = ["process"] if stage.kind in ("clip", "pair") else ["run"]
    assert [part for part in ("process", "run") if getattr(stage, part)] == needed
    for part in ("process", "load", "needless", "finish", "run"):
        assert getattr(stage, part) is getattr(module, part, None), "what a module has is used, and nothing else"
    assert {*stage.sections} <= {*SECTIONS} and {*stage.parents} <= {*PIPELINE}


def test_code_that_was_given_is_used(monkeypatch):
    given = replace(PIPELINE["crop"], process=print)
    monkeypatch.setitem(PIPELINE, "crop", given)
    assert with_code("crop") is given and with_code("landmarks").process is not print


def test_drive_stands_on_what_its_settings_say():
    image, clip = ([one.name for one in job("drive", config)] for config in CONFIGS)
    assert image == ["drive/targets", "drive"] and clip == ["drive"]
    drive, (image, clip) = PIPELINE["drive"], CONFIGS
    driver = {"driver": ("proxy", "bob")}
    trained = {"transfer": ("transfer", ALL)}
    assert drive.parents_of(PAIR, image) == {"target": ("drive/targets", "ann")} | driver | trained
    assert drive.parents_of(PAIR, clip) == {"target": ("proxy", "ann")} | driver
    heads = PIPELINE["drive/targets"]
    assert heads.parents_of(Row("ann", "d", "", ""), image).keys() == {"landmarks", "geometry"}
    rows = [Row(clip, "d", "", "") for clip in ("ann", "bob")]
    assert heads.members(rows, [PAIR]) == rows[:1] and drive.members(rows, [PAIR]) == [PAIR]
    others = PIPELINE["evaluate"].parents_of(PAIR, image)
    assert others.keys() == {"reenact ann__bob", "appearance ann__bob", "crop ann", "crop bob"}


def test_the_targets_heads_are_made_anew_when_drive_or_the_fit_is():
    versions = {name: PIPELINE[name].version for name in ("drive/targets", "drive", "proxy")}
    assert versions["drive/targets"] == 100 * versions["drive"] + versions["proxy"]


def test_a_stage_sees_no_setting_that_it_does_not_look_at():
    other = Config(drive={"reference": 3, "pose": "relative", "target_proxy": "image"})
    assert PIPELINE["drive/targets"].settings(other).drive == Drive(reference=3)
    assert PIPELINE["drive"].settings(other).drive == other.drive


CHOSEN = {"ann": {"latents": "1", "control": "2"}}


def generator_key(weights=(), **settings):
    return Keys(PIPELINE["generator"], Config(generator=settings)).of_model(CHOSEN, [*weights])


def test_how_it_is_computed_does_not_enter_the_key_of_the_generator():
    assert generator_key() == generator_key(micro=2, save_every=7, keep=1) != generator_key(batch=8)


def test_pretrained_weights_count_by_their_content(tmp_path):
    assert generator_key(["1"]) == generator_key(["1"], base=tmp_path) != generator_key(["2"], base=tmp_path)
    settings = {"generator": {}, "base": ["1"]}
    assert generator_key(["1"], batch=1) == content_key("generator", PIPELINE["generator"].version, settings, CHOSEN)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_generator_trained_when_one_window_was_the_default_keeps_its_key(batch):
    settings = {"batch": batch} if batch != 1 else {}  # as it was when defaults were left out of the key
    version = PIPELINE["generator"].version
    before = content_key("generator", version, {"generator": settings | {"steps": 9}, "base": []}, CHOSEN)
    assert generator_key(batch=batch, steps=9) == before


@pytest.mark.parametrize("config", CONFIGS)
def test_parents_come_first(config):
    seen = set()
    for name, stage in recorded(config).items():
        parents = {of for of, _ in stage.parents_of(PAIR, config).values()}
        assert parents <= seen and parents <= {*stage.parents}
        seen.add(name)
    assert {*made(PER_CLIP, config), *PER_PAIR} <= seen <= {*PIPELINE} and ("carry" in seen) == (config != Config())
    assert seen <= {*PIPELINE} and {*STAGES} == {*PIPELINE} - {"drive/targets"}


def test_the_settings_say_who_shares_the_head():
    readers = {name for name, stage in PIPELINE.items() if "head" in stage.sections and not stage.by}
    named = re.search("shared by (.*)\\.", HeadSettings.__doc__)[1]
    assert set(re.split(", | and ", named)) == readers - {"report"}
