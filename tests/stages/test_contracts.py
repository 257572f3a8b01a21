"""What ``status`` knows of the stages without their code, against their code."""

from dataclasses import replace
from importlib import import_module

import pytest

from expportrait.config import Config, Drive
from expportrait.manifest import Row
from expportrait.pairs import pair_row
from expportrait.stages import PER_CLIP, PER_PAIR, STAGES, contracts, drive

PAIR = pair_row(*(Row(clip, "d", f"{clip}.mp4", None) for clip in ("ann", "bob")))
CONFIGS = [Config(), Config(drive=Drive(target_proxy="clip", offsets="copy", reference=3))]


def described(stage):
    """All of a stage that a key depends on."""
    others = stage.others(PAIR) if stage.others else None
    return stage.name, stage.version, stage.sections, stage.parents, stage.whole, others


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", [name for name in STAGES if name not in ("demo", "report")])
def test_contracts_are_the_stages(name, config):
    module = import_module(f"expportrait.stages.{name}")
    stage = module.stage(config.drive) if name == "drive" else module.STAGE
    told = contracts.contracts(config)[name]
    if name == "evaluate":  # not a stage of the loop: it looks its parents up by itself
        assert told.others(PAIR).keys() == {"reenact ann__bob", "crop ann", "crop bob"}
        told = replace(told, others=None)
    assert described(told) == described(stage)


def test_the_targets_heads():
    told = contracts.contracts(CONFIGS[0])[contracts.TARGETS]
    assert described(told) == described(drive.TARGETS)
    assert contracts.TARGETS not in contracts.contracts(CONFIGS[1])


def test_parents_come_first():
    seen = set()
    for stage in contracts.contracts(Config()).values():
        parents = {name for name, _ in stage.others(PAIR).values()} if stage.others else {*stage.parents}
        assert parents | {*stage.whole} <= seen
        seen.add(stage.name)
    assert {*PER_CLIP, *PER_PAIR} <= seen
