"""Learning rates by kind of layer, and moments in 8 bits."""

import sys

import pytest
import torch
from safetensors.torch import load_file

from expportrait.engine.training import trainable
from expportrait.errors import UserError
from expportrait.generator.files import build
from expportrait.generator.model import ModelConfig
from expportrait.generator.optimizer import BLOCK, from_bits, kind_of, make_optimizer, to_bits
from expportrait.generator.train import train

from .test_train import fresh, generator

# Rising, with steps that grow outwards, up to 1 and not down to -1, as bitsandbytes' code of signed numbers.
CODE = torch.cat([-torch.logspace(-0.005, -6, 127), torch.zeros(1), torch.logspace(-6, 0, 128)])


def test_each_kind_of_layer_learns_at_its_own_rate(windows, tmp_path):
    config = ModelConfig("tiny", 16, 4, 4, 4, "conv")
    settings = {"steps": 1, "warmup": 0, "weight_decay": 0, "lora_rank": 2, "ema": 0}
    moved = {}
    for factors in ({}, {"rate_new": 0.5, "rate_lora": 2.0}):
        model = build(config, None, lora_rank=2)
        before = {name: value.detach().clone() for name, value in trainable(model).items()}
        train(model, windows, generator(**settings, **factors), tmp_path / str(len(factors)), "cpu")
        moved[len(factors)] = {name: value.detach() - before[name] for name, value in trainable(model).items()}
    kinds = {name: kind_of(name) for name in moved[0]}
    assert {*kinds.values()} == {"new", "lora"} and kinds["transformer.patch_embedding.weight"] == "new"
    for name, step in moved[0].items():
        torch.testing.assert_close(moved[2][name], step * {"new": 0.5, "lora": 2.0}[kinds[name]], rtol=1e-3, atol=1e-6)
    for kind in ("new", "lora"):
        assert max(float(step.abs().max()) for name, step in moved[0].items() if kinds[name] == kind) > 1e-3


def test_where_all_learn_alike_there_is_one_group_in_the_models_order():
    model = fresh()
    (group,) = make_optimizer(model, generator()).param_groups
    assert all(a is b for a, b in zip(group["params"], trainable(model).values(), strict=True))
    assert len(make_optimizer(model, generator(rate_new=3.0)).param_groups) == 2


def test_in_eight_bits_it_is_adamw_and_goes_on_from_a_checkpoint(windows, tmp_path, eight_bits):
    plain = train(fresh(), windows, generator(), tmp_path / "plain", "cpu")
    settings = generator(optimizer="adamw8bit")
    whole = train(fresh(), windows, settings, tmp_path / "whole", "cpu")
    train(fresh(), windows, settings.model_copy(update={"steps": 4}), tmp_path / "parts", "cpu")
    parts = train(fresh(), windows, settings, tmp_path / "parts", "cpu")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name])
        if "attn2.to_" not in name:  # of which rounding alone makes steps
            torch.testing.assert_close(value, plain.state_dict()[name], rtol=0, atol=1e-4)
    kept = torch.load(tmp_path / "whole/checkpoints/step-6/optimizer.pt", weights_only=True)["state"]
    assert {*kept[0]} == {"step", "exp_avg", "exp_avg_sq"} and float(kept[0]["step"]) == 6
    assert len(kept) == len(load_file(tmp_path / "whole/checkpoints/step-6/weights.safetensors"))


def test_without_bitsandbytes_one_sentence_says_so(monkeypatch):
    for name in ("bitsandbytes", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"adamw8bit needs the package bitsandbytes .*: pip install bitsandbytes"):
        make_optimizer(fresh(), generator(optimizer="adamw8bit"))


@pytest.mark.parametrize("code", [CODE, torch.linspace(0, 1, 256).square()])
def test_what_eight_bits_hold_comes_back_the_same(code):
    bits = torch.randint(0, 256, (3 * BLOCK + 40,), generator=torch.manual_seed(0), dtype=torch.uint8)
    bits[:: BLOCK // 2] = torch.tensor([255, 3] * 4, dtype=torch.uint8)[: len(bits[:: BLOCK // 2])]
    bits[BLOCK : 2 * BLOCK].clamp_(max=120)  # a block whose largest number is a negative one
    bits[BLOCK] = 0 if code[0] < 0 else 255
    bits[-40] = 255
    scale = torch.tensor([2.0, 1e-6, 300.0, 1.0])
    again, scales = to_bits(values := from_bits(bits, code, scale), code)
    torch.testing.assert_close(scales, scale, rtol=1e-6, atol=0)
    assert torch.equal(again, bits)
    torch.testing.assert_close(from_bits(again, code, scales), values, rtol=1e-6, atol=0)


def test_eight_bits_are_as_near_as_their_code():
    values = torch.randn(1000, generator=torch.manual_seed(1))
    held = from_bits(*(lambda bits, scale: (bits, CODE, scale))(*to_bits(values, CODE)))
    assert float((held - values).abs().max()) < 0.2 and float((held - values).abs().mean()) < 0.03
    assert not from_bits(*(lambda bits, scale: (bits, CODE, scale))(*to_bits(torch.zeros(300), CODE))).any()
