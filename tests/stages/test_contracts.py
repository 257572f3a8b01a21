"""What the stages stand on is said in one place; that it is right, and that the stages take it from there."""

from importlib import import_module

import pytest

from expportrait.config import Config, Drive
from expportrait.manifest import Row
from expportrait.pairs import pair_row
from expportrait.record import content_key
from expportrait.stages import PER_CLIP, PER_PAIR, STAGES, contracts, drive

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
