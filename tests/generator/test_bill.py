"""What a training is said to take before it begins."""

import math

import pytest
import yaml
from typer.testing import CliRunner

from expportrait.cli import app
from expportrait.errors import UserError
from expportrait.generator.bill import GIB, GPUS, activations, advice, make_bill, tokens, told
from expportrait.generator.flop import step_flop
from expportrait.settings.config import Config
from expportrait.settings.files import read_config
from tests.workflow.project import ROOT


def config(size=512, window=49, **generator):
    latents = {"codec": "wan", "size": size, "window": window}
    return Config(latents=latents, generator={"checkpointing": "selective", **generator})


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "tiny", "size": 64, "window": 9, "precision": "no", "checkpointing": "none"},
        {"preset": "mid", "size": 96, "window": 9, "precision": "bf16"},
        {"preset": "mid", "size": 96, "window": 5, "precision": "bf16", "lora_rank": 4, "maps": ["normals", "seen"]},
    ],
    ids=["tiny", "mid", "lora"],
)
@pytest.mark.parametrize("parts", [False, True])
def test_fake_tensors_take_what_real_ones_take(settings, parts):
    fake, real = (activations(config(**settings), parts, fake=fake) for fake in (True, False))
    assert fake == pytest.approx(real, rel=0.1) and real > 1e6


def test_what_adds_to_activations():
    def of(**changes):
        return activations(config(**{"preset": "mid", "size": 96, "window": 9, **changes}), parts=True)

    assert of(checkpointing="full") < of() < of(checkpointing="none") / 3
    assert 1.7 < of(micro=2) / of() < 2.1 and of(window=17) > 1.35 * of()


def flop(**settings):
    asked = config(**settings)
    return step_flop(asked.generator, tokens(asked))


def test_flop_are_those_of_the_transformers_products():
    assert tokens(config(reference="conv")) == 13312 and tokens(config(window=81, reference="conv")) == 21504
    forward = {"1.3B": (67e12, 0.48), "14B": (471e12, 0.31)}  # at 13,312 tokens, and the share of attention
    for preset, (whole, share) in forward.items():
        given = {"preset": preset, "reference": "conv", "batch": 4}
        for checkpointing, passes in (("none", 3), ("full", 4), ("selective", 4 - share)):
            found = flop(**given, checkpointing=checkpointing)
            assert found == pytest.approx(4 * passes * whole, rel=0.03), (preset, checkpointing)
    lora = flop(preset="14B", reference="conv", batch=1, checkpointing="none", lora_rank=64)
    assert lora == pytest.approx((3 - 0.69) * 471e12, rel=0.03)


@pytest.mark.long
@pytest.mark.slow
def test_a_14b_model_in_full_fits_in_parts_on_eight_gpus_and_not_on_one():
    settings = config(preset="14B", batch=8)
    eight, one = make_bill(settings, 8), make_bill(settings, 1)
    assert eight.parts and not one.parts
    assert eight.memory["weights"] == pytest.approx(4 * 14.29e9 / 8, rel=0.01)
    assert eight.memory["optimizer"] == 2 * eight.memory["weights"] == 2 * eight.memory["average"]
    assert eight.needed < GPUS["h100"][0] < 240 * GIB < one.needed
    assert eight.checkpoint == 4 * eight.model == 16 * eight.trained
    text = told(settings, 1, "h100", 2)
    assert "It does not fit. It fits with generator.optimizer: adamw8bit, generator.checkpointing: full, " in text
    assert "generator.lora_rank: 64." in text
    assert advice(settings, 1, GIB).startswith("More or larger GPUs")


def test_advice_is_the_cheapest_that_helps():
    large = config(preset="tiny", size=256, window=17, batch=4, micro=4, checkpointing="none", precision="no")
    need = {
        name: make_bill(large.model_copy(update={"generator": large.generator.model_copy(update=changes)}), 1).needed
        for name, changes in (("micro", {"micro": 1}), ("selective", {"micro": 1, "checkpointing": "selective"}))
    }
    assert advice(large, 1, need["micro"]) == "It fits with generator.micro: 1."
    both = "It fits with generator.micro: 1, generator.checkpointing: selective."
    assert advice(large, 1, (need["selective"] + need["micro"]) / 2) == both


def test_hours_and_disk_follow_from_steps_and_ratio():
    settings = config(preset="tiny", size=64, window=9, steps=1000, keep=2, batch=4)
    text, bill = told(settings, 2, "a100", 3.0), make_bill(settings, 2)
    hours = 1000 * 3.0 * bill.flop / 2 / 312e12 / 3600
    assert f"at 3 times that {hours:,.3g} hours, {2 * hours:,.3g} GPU hours" in text
    assert "1,000 steps, 4,000 windows" in text and "copied to each" in text
    assert bill.disk(2) == 3 * bill.checkpoint + bill.model and math.isfinite(bill.needed)
    with pytest.raises(UserError, match="--gpu tpu: known are h100, h200"):
        told(settings, 1, "tpu", 2)


def test_the_command_says_it_and_makes_nothing(tmp_path):
    said = ["--plan", "--results", str(tmp_path / "r"), "--set", "generator.preset=tiny", "--set", "latents.size=64"]
    done = CliRunner().invoke(app, ["generator", *said, "--processes", "2", "--set", "generator.micro=1"])
    assert done.exit_code == 0 and done.output.startswith("generator tiny on 2 h100, weights copied to each")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["paper", "14b-lora", "14b-full"])
def test_the_shipped_settings_are_settings_and_divide(name):
    values = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    found = read_config((name, values)).generator
    counts = {"paper": (1, 4), "14b-lora": (1, 8), "14b-full": (8, 16)}[name]
    assert [found.batch % count for count in counts] == [0, 0] and found.steps * found.batch == 120_000
