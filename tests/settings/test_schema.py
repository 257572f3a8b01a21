"""The settings' JSON Schema takes what the reader takes, and refuses what it refuses."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from expportrait.errors import UserError
from expportrait.settings.config import SECTIONS, Config
from expportrait.settings.files import read_config, read_yaml
from expportrait.settings.schema import schema_text

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "config.schema.json").read_text())


def faults(values):
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(values)]


@pytest.mark.parametrize("name", ["config.yaml", "data_manifest.yaml"])
def test_the_shipped_settings_fit_and_name_the_schema(name):
    head = (ROOT / name).read_text().splitlines()[0]
    assert head == "# yaml-language-server: $schema=config.schema.json" and (ROOT / head.split("=")[1]).exists()
    assert faults(read_yaml(ROOT / name)) == []


def test_the_schema_itself_is_sound_and_explains_every_setting():
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(schema_text()) == SCHEMA and {*SCHEMA["properties"]} == {*Config.model_fields}
    for name in SECTIONS:
        part, model = SCHEMA["properties"][name], type(getattr(Config(), name))
        assert part["description"] and {*part["properties"]} == {*model.model_fields, *model.renamed}
        below = {name: part["properties"][name]["properties"] for name in model.groups()}
        for found in (part["properties"], *below.values()):
            said = [found[name] for name in found if name not in below]
            assert all(one["description"] and "default" in one for one in said)


@pytest.mark.parametrize(
    "text",
    [
        "crop: {size: 256, scale: 3}",
        "crop:",
        "proxy: {weights: {depth: 20}}",
        "proxy: {weights: }",
        "proxy: {w_depth: 20}",
        "head: {file: SMPLX_NEUTRAL.npz}",
        "head: {file: }",
        "pairs: my.csv",
        "shards: {hdtf: 256}",
        "control: {maps: [depth, eyes]}",
        "latents: {codec: linear, space: 4}",
        "evaluate: {lpips: }",
    ],
)
def test_what_the_reader_takes_fits(text):
    read_config(("my.yaml", yaml.safe_load(text)))
    assert faults(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "crop: {scael: 3}",
        "corp: {}",
        "crop: {scale: big}",
        "crop: {scale: 1}",
        "crop: {size: 12}",
        "crop: {size: 512.5}",
        "crop: {size: true}",
        "crop: 3",
        "crop: [1]",
        "results: 20240601",
        "results:",
        "shards: {hdtf: 0}",
        "shards:",
        "head: {file: 12}",
        "proxy: {init: guess}",
        "control: {maps: [nose]}",
        "generator: {maps: []}",
        "transfer: {frames: 5}",
        "demo: {yaw: 21}",
    ],
)
def test_what_the_reader_refuses_does_not_fit(text):
    with pytest.raises(UserError):
        read_config(("my.yaml", yaml.safe_load(text)))
    assert faults(yaml.safe_load(text))
