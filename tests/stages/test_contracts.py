"""What the stages stand on is said in one place; that it is right, and that the stages take it from there."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from expportrait import stages
from expportrait.engine.record import content_key
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import pair_row
from expportrait.settings.config import Config, Drive, HeadSettings
from expportrait.stages import PER_CLIP, PER_PAIR, STAGES, contracts, drive

ROOT = Path(__file__).parents[2]
PAIR = pair_row(*(Row(clip, "d", f"{clip}.mp4", None) for clip in ("ann", "bob")))
CONFIGS = [Config(), Config(drive=Drive(target_proxy="clip", offsets="copy", reference=3))]


def described(stage):
    """All of a stage that a key depends on."""
    others = stage.others(PAIR) if stage.others else None
    return stage.name, stage.version, stage.sections, stage.parents, stage.whole, others


@pytest.mark.parametrize("name", [name for name in STAGES if name not in ("demo", "report")])
def test_contracts_are_the_stages(name):
    module = import_module(f"expportrait.stages.{name}")
    assert described(contracts.contracts(Config())[name]) == described(module.STAGE)


def test_drive_stands_on_what_its_settings_say(monkeypatch):
    ran = []
    monkeypatch.setattr(drive, "run_stage", lambda stage, *_: ran.append(stage) or {})
    rows = [Row(clip, "d", f"{clip}.mp4", "") for clip in ("ann", "bob")]
    for config in CONFIGS:
        drive.run([PAIR], rows, config, "cpu")
    heads, image, clip = map(described, ran)
    assert heads[0] == contracts.TARGETS and heads[3] == ("landmarks", "geometry")
    assert image[4:] == (("transfer",), {"target": ("drive/targets", "ann"), "driver": ("proxy", "bob")})
    assert clip[4:] == ((), {"target": ("proxy", "ann"), "driver": ("proxy", "bob")})
    others = contracts.contract("evaluate").others(PAIR)
    assert others.keys() == {"reenact ann__bob", "crop ann", "crop bob"}


CHOSEN = {"ann": {"latents": "1", "control": "2"}}


def generator_key(**settings):
    return contracts.generator_key(Config(generator=settings), CHOSEN, [])


def test_how_it_is_computed_does_not_enter_the_key_of_the_generator():
    assert generator_key() == generator_key(micro=2, save_every=7, keep=1) != generator_key(batch=8)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_generator_trained_when_one_window_was_the_default_keeps_its_key(batch):
    settings = {"batch": batch} if batch != 1 else {}  # as it was when defaults were left out of the key
    version = contracts.version("generator")
    before = content_key("generator", version, {"generator": settings | {"steps": 9}, "base": []}, CHOSEN)
    assert generator_key(batch=batch, steps=9) == before


def test_parents_come_first():
    seen = set()
    for stage in contracts.contracts(Config()).values():
        parents = {name for name, _ in stage.others(PAIR).values()} if stage.others else {*stage.parents}
        assert parents | {*stage.whole} <= seen
        seen.add(stage.name)
    assert {*PER_CLIP, *PER_PAIR} <= seen


def test_the_settings_say_who_shares_the_head():
    readers = {name for name, stage in contracts.contracts(Config()).items() if "head" in stage.sections}
    named = re.search("shared by (.*)\\.", HeadSettings.__doc__)[1]
    assert set(re.split(", | and ", named)) == readers - {contracts.TARGETS}


def stage_line(source):
    """The function that makes ``STAGE`` of what, and the names of the arguments that all stages give it."""
    made = next(line.value for line in ast.parse(source).body if isinstance(line, ast.Assign))
    return ast.unparse(made.func), made.args[0].func.id, {"version", "process"} <= {word.arg for word in made.keywords}


def test_the_recipe_for_a_new_stage_is_what_the_stages_do():
    recipe = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## A new stage")[1].split("\n## ")[0]
    ours = stage_line(re.search("STAGE = .*\\)", recipe)[0])
    for name in (*PER_CLIP, *PER_PAIR):
        source = (ROOT / f"src/expportrait/stages/{name}.py").read_text("utf-8")
        assert stage_line(source[source.index("STAGE = ") :]) == ours, name
    named = {path.replace("<stage>", "latents") for path in re.findall("`([^`\\s]+(?:/|\\.\\w+)|Snakefile)`", recipe)}
    assert not [path for path in named if not (ROOT / path).exists()]
    # Where stages are listed; one made by the recipe would be missing in what the recipe does not name.
    lists = [
        ROOT / "Snakefile",
        *(Path(module.__file__) for module in (stages, contracts)),
        *ROOT.glob("profiles/*/*.yaml"),
    ]
    assert {str(path.relative_to(ROOT)) for path in lists if "latents" in path.read_text("utf-8")} <= named
