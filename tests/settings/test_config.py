import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from expportrait.errors import UserError
from expportrait.settings.config import SECTIONS, Config, Crop, HeadSettings, Proxy
from expportrait.settings.docs import markdown_text, yaml_text
from expportrait.settings.files import merge, overlay, read_config, read_yaml
from expportrait.settings.schema import schema_text

ROOT = Path(__file__).parents[2]


def read(**values):
    return read_config(("my.yaml", values))


def test_generated_files_are_in_step():
    assert (ROOT / "config.yaml").read_text() == yaml_text(), "run `python -m expportrait.settings`"
    assert (ROOT / "config.schema.json").read_text() == schema_text(), "run `python -m expportrait.settings`"
    assert (ROOT / "docs/settings.md").read_text() == markdown_text(), "run `python -m expportrait.settings`"


def test_check_reports_and_writing_repairs(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "config.yaml").write_text("crop: {}\n")
    command = [sys.executable, "-m", "expportrait.settings"]
    check = subprocess.run([*command, "--check"], cwd=tmp_path, capture_output=True, text=True)
    assert check.returncode == 1
    assert all(f"{name} differs" in check.stdout for name in ("config.yaml", "config.schema.json", "docs/settings.md"))
    assert (tmp_path / "config.yaml").read_text() == "crop: {}\n"
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    assert (tmp_path / "config.yaml").read_text() == yaml_text()
    assert (tmp_path / "config.schema.json").read_text() == schema_text()
    assert subprocess.run([*command, "--check"], cwd=tmp_path).returncode == 0


def test_config_yaml_holds_every_default():
    values = yaml.safe_load(yaml_text())
    assert read_config(("config.yaml", values)) == Config()
    assert list(values) == list(Config.model_fields)
    for name in SECTIONS:
        assert list(values[name]) == list(type(getattr(Config(), name)).model_fields)


def test_every_setting_says_what_it_is():
    for name in SECTIONS:
        model = type(getattr(Config(), name))
        assert model.__doc__
        for each in (model, *model.groups().values()):
            assert all(field.description for field in each.model_fields.values()), name


def test_the_shipped_overlay_is_short_and_valid():
    file = overlay(ROOT / "data_manifest.csv")
    values = read_yaml(file)
    assert read_config(("config.yaml", {}), (str(file), values)) != Config()
    assert len(file.read_text().splitlines()) < 60


def test_canonical_leaves_defaults_out():
    assert Config().canonical("crop", "head") == "{}"
    assert read(crop={"scale": Crop().scale, "size": Crop().size}).canonical("crop") == "{}"
    assert read(crop={"scale": 3}).canonical("crop") == '{"crop":{"scale":3.0}}'
    assert read(shards={"d": 2}).canonical("shards") == '{"shards":{"d":2}}'
    config = read(crop={"scale": 3}, proxy={"batch": 8})
    back = read_config(("--settings", json.loads(config.canonical("crop", "proxy"))))
    assert (back.crop, back.proxy) == (config.crop, config.proxy)


def test_a_setting_whose_default_was_changed_is_always_said():
    """A job of another version, or its record, may have left it out when it was at another default."""
    for batch in (1, 4, 8):
        text = read(generator={"batch": batch}).canonical("generator", "crop")
        assert json.loads(text) == {"generator": {"batch": batch}}
        assert read_config(("--settings", json.loads(text))).generator.batch == batch


def test_files_enter_an_identity_by_content(tmp_path):
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    one.write_text("x")
    two.write_text("x")

    def identity(file):
        return Config(head=HeadSettings(file=file)).identity(("head",), "a")

    assert identity(one) == identity(two) != Config().identity(("head",), "a")
    before = identity(two)
    two.write_text("yy")
    assert identity(two) != before


def test_a_folder_counts_by_the_clips_own_files(tmp_path):
    def identity(clip):
        return Config(proxy=Proxy(init_dir=tmp_path)).identity(("proxy",), clip)

    (tmp_path / "a.npz").write_text("1")
    before = identity("a"), identity("b")
    (tmp_path / "b.npz").write_text("2")
    (tmp_path / "a2.npz").write_text("3")
    assert identity("a") == before[0] and identity("b") != before[1]


def test_a_missing_file_is_the_users_mistake(tmp_path):
    config = Config(head=HeadSettings(file=tmp_path / "none.npz"))
    with pytest.raises(UserError, match=r"head.file: .*none.npz does not exist"):
        config.identity(("head",), "a")
    with pytest.raises(UserError, match="does not exist"):
        config.require("crop", "head")
    config.require("crop")
    assert config.files("crop", "head") == []
    (tmp_path / "none.npz").touch()
    config.require("crop", "head")
    assert config.files("crop", "head") == [str(tmp_path / "none.npz")]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"crop": {"scael": 3}}, "my.yaml: there is no setting crop.scael; did you mean crop.scale?"),
        ({"corp": {}}, "my.yaml: there is no setting corp; did you mean crop?"),
        ({"crop": {"zzz": 3}}, "my.yaml: there is no setting crop.zzz (all settings: docs/settings.md)"),
        ({"crop": {"scale": "big"}}, "my.yaml: crop.scale is 'big': input should be a valid number"),
        ({"crop": {"size": 12}}, "my.yaml: crop.size is 12: input should be greater than or equal to 128"),
        ({"crop": {"size": 512.5}}, "my.yaml: crop.size is 512.5: input should be a valid integer"),
        ({"crop": {"size": True}}, "my.yaml: crop.size is True: input should be a valid integer"),
        ({"crop": 3}, "my.yaml: crop is 3: a section is expected"),
        ({"crop": [1]}, "my.yaml: crop is [1]: a section is expected"),
        (
            {"proxy": {"weights": {"activation": float("inf")}}},
            "my.yaml: proxy.weights.activation is inf: input should be a finite number",
        ),
        ({"proxy": {"init": "guess"}}, "my.yaml: proxy.init is 'guess': input should be 'fit' or 'file'"),
        ({"shards": {"hdtf": 0}}, "my.yaml: shards.hdtf is 0: input should be greater than or equal to 1"),
        ({"shards": {"hdtf": "many"}}, "my.yaml: shards.hdtf is 'many': input should be a valid integer"),
        ({"control": {"maps": ["nose"]}}, "my.yaml: control.maps.0 is 'nose': input should be"),
    ],
)
def test_mistakes_are_one_sentence(values, said):
    with pytest.raises(UserError) as error:
        read_config(("config.yaml", yaml.safe_load(yaml_text())), ("my.yaml", values))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [20240601, 1.5, True])
def test_a_name_that_yaml_reads_as_a_number_is_told_how_to_be_written(value):
    for values, where in (({"results": value}, "results"), ({"head": {"file": value}}, "head.file")):
        with pytest.raises(UserError) as error:
            read(**values)
        assert str(error.value).startswith(f"my.yaml: {where} is {value}: a path is expected; ")
        assert "write ./ before it" in str(error.value)
    assert str(read(results="./20240601").results) == "20240601"


def test_the_home_folder_is_meant_by_its_sign(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = read(manifest="~/my.csv", results="~/r1", pairs="~/p.csv", head={"file": "~/h.npz"}, crop={"size": 256})
    assert (config.manifest, config.results) == (tmp_path / "my.csv", tmp_path / "r1")
    assert (config.pairs, config.head.file) == (tmp_path / "p.csv", tmp_path / "h.npz")
    assert str(read(results="./~/r1").results) == "~/r1" and str(read(results="a~b").results) == "a~b"
    with pytest.raises(UserError, match=r"results is '~nobody-here/r1': there is no such user"):
        read(results="~nobody-here/r1")


def test_the_layer_that_is_wrong_is_named():
    layers = [("config.yaml", {"crop": {"size": 1}}), ("my.yaml", {"crop": {"scale": 3}})]
    with pytest.raises(UserError, match=r"^config\.yaml: crop\.size is 1"):
        read_config(*layers)
    assert read_config(*layers, ("the command line", {"crop": {"size": 256}})).crop == Crop(size=256, scale=3.0)
    with pytest.raises(UserError, match=r"^the command line: results is None: a path is expected"):
        read_config(("config.yaml", {"results": "r"}), ("the command line", {"results": None}))


def test_text_from_a_command_line_is_read_as_what_is_expected():
    config = read(crop={"scale": "2.5", "size": "256"}, head={"file": "null"}, proxy={"weights": {"depth": "1e-4"}},
                  shards={"d": "3"})  # fmt: skip
    assert (config.crop, config.head.file) == (Crop(size=256, scale=2.5), None)
    assert (config.proxy.weights.depth, config.shards) == (1e-4, {"d": 3})
    assert read(proxy={"init": "file"}).proxy.init == "file"


def test_empty_sections_and_files(tmp_path):
    assert read(crop=None) == Config()
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing\n")
    assert read_yaml(file) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [("crop: {scale: 3", "line 2: not valid YAML"), ("- crop", "is expected"), ("crop: \t3", "line 1")],
)
def test_bad_yaml_is_one_sentence(tmp_path, text, said):
    file = tmp_path / "my.yaml"
    file.write_text(text + "\n")
    with pytest.raises(UserError) as error:
        read_yaml(file)
    assert said in str(error.value) and str(file) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="does not exist"):
        read_yaml(tmp_path / "none.yaml")


def test_merge_goes_into_sections_only():
    base = {"crop": {"scale": 1, "size": 2}, "results": "a", "report": None}
    over = {"crop": {"scale": 3}, "results": "b", "report": {"frames": 4}}
    assert merge(base, over) == {"crop": {"scale": 3, "size": 2}, "results": "b", "report": {"frames": 4}}
