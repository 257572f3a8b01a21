"""Settings that were renamed are good under their old names, wherever they come from."""

import json
from typing import ClassVar

import pytest
from pydantic import Field

from expportrait.errors import UserError
from expportrait.options import configuration
from expportrait.settings import files, schema
from expportrait.settings.config import SECTIONS, Config
from expportrait.settings.section import Section


class Older(Section):
    """A section as an earlier version had it."""

    size: int = Field(5, ge=1, description="size")
    few: float = 1.0


class Newer(Section):
    """The same section after two of its settings were renamed, one of them twice."""

    renamed: ClassVar = {"size": "side", "few": "count", "some": "count"}
    first_defaults: ClassVar = {"count": 1.0}

    side: int = Field(5, ge=1, description="size")
    count: float = 2.0


@pytest.fixture
def newer(monkeypatch):
    """All settings, with ``Newer`` in place of ``crop``."""
    now = type("Now", (Config,), {"__annotations__": {"crop": Newer}, "crop": Newer()})
    for module in (files, schema):
        monkeypatch.setattr(module, "Config", now)
    files._say_once.cache_clear()
    return now


def test_what_is_called_otherwise_now_is_read_and_said_once(newer, capsys):
    for _ in range(2):
        config = files.read_config(("config.yaml", {"crop": {"size": 7}}), ("my.yaml", {"crop": {"some": "3"}}))
        assert config.crop == Newer(side=7, count=3.0)
    assert capsys.readouterr().err.splitlines() == [
        "config.yaml: the setting crop.size is called crop.side now",
        "my.yaml: the setting crop.some is called crop.count now",
    ]


def test_later_layers_win_whatever_name_they_use(newer):
    layers = [("config.yaml", {"crop": {"size": 7, "count": 1}}), ("my.yaml", {"crop": {"side": 8, "few": 2}})]
    assert files.read_config(*layers).crop == Newer(side=8, count=2.0)
    assert files.read_config(*reversed(layers)).crop == Newer(side=7, count=1.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": 7, "side": 7}, "size is an old name of side, and size and side are given: keep side alone"),
        ({"few": 7, "some": 7}, "few is an old name of count, and few and some are given: keep count alone"),
    ],
)
def test_two_names_of_one_setting_in_one_place_are_a_mistake(newer, values, said):
    with pytest.raises(UserError) as error:
        files.read_config(("my.yaml", {"crop": values}))
    assert str(error.value) == f"my.yaml: in crop, {said}"


def test_a_value_that_does_not_fit_is_told_by_the_name_of_today(newer):
    with pytest.raises(UserError, match=r"^my\.yaml: crop\.side is 0: input should be greater than or equal to 1$"):
        files.read_config(("config.yaml", {"crop": {"side": 3}}), ("my.yaml", {"crop": {"size": 0}}))


def test_files_overlays_and_single_settings_on_the_command_line(newer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("crop: {size: 7, few: 3}")
    assert configuration().crop == Newer(side=7, count=3.0)
    (tmp_path / "data_manifest.yaml").write_text("crop: {side: 8}")
    assert configuration().crop == Newer(side=8, count=3.0)
    assert configuration(sets=["crop.size=9"]).crop.side == 9
    assert configuration(settings='{"crop": {"size": 10}}').crop == Newer(side=10)
    with pytest.raises(UserError, match=r"^--set: in crop, size is an old name of side, and size and side are given"):
        configuration(sets=["crop.size=9", "crop.side=9"])


def test_keys_stay_what_they_were():
    assert Newer(side=7, count=3).distinct() == Older(size=7, few=3).distinct() == {"size": 7, "few": 3.0}
    assert Newer(side=5, count=1).distinct() == Older().distinct() == {}
    assert Newer().distinct() == {"few": 2.0}, "another default is another result"


def test_what_a_store_was_made_with_is_compared_by_the_names_of_today(newer):
    then = json.loads(Older(size=7).model_dump_json())
    assert files.made_with({"crop": then, "elsewhere": {}}) == {"crop": {"side": 7, "count": 1.0}}
    assert files.made_with({"crop": {}}) == {"crop": {"side": 5, "count": 1.0}}, "as if they had been there"


def test_the_schema_takes_old_names_and_says_so(newer):
    found = json.loads(schema.schema_text())["properties"]["crop"]["properties"]
    assert [*found] == ["side", "count", "size", "few", "some"]
    assert found["size"] == found["side"] | {"deprecated": True, "description": "now called side"}


def test_every_old_name_leads_to_a_setting_and_is_none():
    for model in (Config, *(type(getattr(Config(), name)) for name in SECTIONS)):
        assert {*model.renamed.values()} <= {*model.firstly()} and not {*model.renamed} & {*model.model_fields}


class Size(Section):
    """A group, one of whose settings has another default than at first."""

    first_defaults: ClassVar = {"count": 1.0}

    side: int = Field(5, ge=1, description="size")
    count: float = 2.0


class Grouped(Section):
    """``Older`` once its settings stand in a group."""

    renamed: ClassVar = {"size": "in_it.side", "few": "in_it.count"}

    in_it: Size = Size()
    other: int = 0


@pytest.fixture
def grouped(monkeypatch):
    """All settings, with ``Grouped`` in place of ``crop``."""
    now = type("Now", (Config,), {"__annotations__": {"crop": Grouped}, "crop": Grouped()})
    for module in (files, schema):
        monkeypatch.setattr(module, "Config", now)
    files._say_once.cache_clear()
    return now


def test_settings_that_went_into_a_group_are_read_under_their_old_names(grouped, capsys):
    layers = [
        ("config.yaml", {"crop": {"size": "7", "few": 3, "other": 4}}),
        ("my.yaml", {"crop": {"in_it": {"side": 8}}}),
    ]
    assert files.read_config(*layers).crop == Grouped(in_it=Size(side=8, count=3), other=4)
    assert files.read_config(*reversed(layers)).crop == Grouped(in_it=Size(side=7, count=3), other=4)
    said = "config.yaml: the setting crop.size is called crop.in_it.side now, and so on for 1 more (docs/settings.md)"
    assert capsys.readouterr().err.splitlines() == [said]
    assert configuration(settings="{}", sets=["crop.few=4", "crop.in_it.side=3"]).crop.in_it == Size(side=3, count=4)
    assert files.read_config(("my.yaml", {"crop": {"in_it": None}})).crop == Grouped()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"in_it": {"side": 0}}, "crop.in_it.side is 0: input should be greater than or equal to 1"),
        ({"size": 0}, "crop.in_it.side is 0: input should be greater than or equal to 1"),
        ({"in_it": {"sid": 7}}, "there is no setting crop.in_it.sid; did you mean crop.in_it.side?"),
        ({"siz": 7}, "there is no setting crop.siz; did you mean crop.in_it.side?"),
        ({"in_it": 7, "size": 3}, "crop.in_it is 7: a section is expected, with its settings indented below it"),
        ({"in_it": {"side": 7}, "size": 3}, "in crop, size is an old name of in_it.side, and size and in_it.side are"),
    ],
)
def test_a_mistake_in_a_group_is_one_sentence_of_the_file_that_made_it(grouped, values, said):
    with pytest.raises(UserError) as error:
        files.read_config(("my.yaml", {"crop": values}), ("last.yaml", {"crop": {"other": 1}}))
    assert str(error.value).startswith(f"my.yaml: {said}")


def test_keys_know_a_setting_of_a_group_by_its_first_name(grouped):
    assert Grouped(in_it=Size(side=7, count=3)).distinct() == Older(size=7, few=3).distinct() == {"size": 7, "few": 3.0}
    assert Grouped(in_it=Size(count=1)).distinct() == {} and Grouped(other=2).distinct() == {"few": 2.0, "other": 2}
    config = files.read_config(("my.yaml", {"crop": {"in_it": {"side": 7}}}))
    assert files.read_config(("it", json.loads(config.canonical("crop")))) == config
    assert json.loads(config.canonical("crop")) == {"crop": {"in_it": {"side": 7, "count": 2.0}}}
    assert files.made_with({"crop": {"size": 7}}) == {"crop": {"other": 0, "in_it.side": 7, "in_it.count": 1.0}}


def test_the_schema_has_groups_and_takes_the_old_names_of_what_is_in_them(grouped):
    found = json.loads(schema.schema_text())["properties"]["crop"]["properties"]
    assert found["in_it"]["type"] == ["object", "null"] and [*found["in_it"]["properties"]] == ["side", "count"]
    now = found["in_it"]["properties"]["side"]
    assert found["size"] == now | {"deprecated": True, "description": "now called in_it.side"}


def test_every_weight_of_the_fit_has_its_old_name():
    weights = {name: number + 0.5 for number, name in enumerate(type(Config().proxy.weights).model_fields)}
    old = files.read_config(("my.yaml", {"proxy": {f"w_{name}": value for name, value in weights.items()}}))
    assert old == files.read_config(("my.yaml", {"proxy": {"weights": weights}}))
    assert old.proxy.distinct() == {f"w_{name}": value for name, value in weights.items()}
