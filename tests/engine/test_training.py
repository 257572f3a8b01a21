import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from expportrait.engine.average import Average
from expportrait.engine.log import read_log
from expportrait.engine.training import Course, descend, trainable
from expportrait.errors import UserError
from expportrait.rng import random_generator

STEPS = 8


def fresh():
    model = nn.Linear(3, 1)
    nn.init.constant_(model.weight, 0.1)
    nn.init.zeros_(model.bias)
    return model, torch.optim.Adam(model.parameters())


def samples(step, number=0, of=1):
    """A part of the step's eight samples, (8, 4): three inputs and what is to come out."""
    inputs = torch.randn(8, 3, generator=random_generator(0, "test", step))
    return torch.cat([inputs, inputs.sum(1, keepdim=True)], 1).chunk(of)[number]


def course(model, of=1, wrong=None, **changes):
    """``of``: rounds; ``wrong(step, model, losses)`` may spoil a step."""

    def losses(batch):
        step, samples = batch
        error = model(samples[:, :3]) - samples[:, 3:]
        found = {"loss": error.square().mean(), "off": error.abs().mean().detach()}
        return wrong(step, model, found) if wrong else found

    def make(step, number):
        return step, samples(step, number, of)

    return replace(Course("transfer", STEPS, 2, 2, make, losses, lambda step: 0.05, rounds=of), **changes)


def run(work, **changes):
    model, optimizer = fresh()
    return model, descend(course(model, **changes), model, optimizer, work)


def averaged(work, **changes):
    model, optimizer = fresh()
    average = Average(trainable(model), 0.9)
    rows = descend(course(model, **changes), model, optimizer, work, average=average)
    return model, average.values, rows


def told(rows):
    return [(row["step"], row["loss"], row["off"], row["gradient"]) for row in rows]


def steps(work):
    return sorted(int(path.name[5:]) for path in (work / "checkpoints").iterdir())


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def poison(folder, *files):
    """As a version wrote it that looked at the loss alone."""
    if "weights" in files:
        weights = load_file(folder / "weights.safetensors")
        weights["weight"][0, 1] = math.nan
        save_file(weights, folder / "weights.safetensors")
    if "average" in files:
        values = load_file(folder / "average.safetensors")
        values["weight"][0, 1] = math.nan
        save_file(values, folder / "average.safetensors")
    if "optimizer" in files:
        state = torch.load(folder / "optimizer.pt", weights_only=True)
        state["state"][0]["exp_avg_sq"][0, 0] = math.inf
        torch.save(state, folder / "optimizer.pt")


def test_the_log_has_every_loss_and_the_norm_of_the_gradient_before_it_is_clipped(tmp_path):
    _, rows = run(tmp_path, clip=1e-3)
    assert told(read_log(tmp_path / "loss.csv")) == told(rows)
    model, _ = fresh()
    course(model).losses((0, samples(0)))["loss"].backward()
    norm = math.hypot(*[float(value) for p in model.parameters() for value in p.grad.flatten()])
    assert rows[0]["gradient"] == pytest.approx(norm, rel=1e-6) and norm > 0.1
    clipped = [float(p.grad.norm()) for p in model.parameters()]
    assert max(clipped) > 1e-3  # or clipping could not be seen
    assert {*rows[0]} == {"step", "loss", "off", "gradient", "learning_rate", "seconds", "waiting"}


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999, 1.001, 7, math.inf])
def test_only_a_gradient_above_the_limit_is_clipped_to_it(tmp_path, share):
    _, (row, *_) = run(tmp_path / "free")
    model, before = fresh()[0], fresh()[0]
    clip = share * row["gradient"]
    descend(course(model, clip=clip, steps=1), model, torch.optim.SGD(model.parameters(), lr=1), tmp_path / "clipped")
    moved = [(old - new).detach().norm() for old, new in zip(before.parameters(), model.parameters(), strict=True)]
    assert math.hypot(*moved) == pytest.approx(0.05 * min(clip, row["gradient"]), rel=1e-4)


@pytest.mark.parametrize("of", [2, 4])
def test_rounds_have_together_the_losses_and_the_gradient_of_the_whole_batch(tmp_path, of):
    _, whole = run(tmp_path / "whole")
    _, parts = run(tmp_path / "parts", of=of)
    assert [*map(pytest.approx, told(whole))] == told(parts)


def lost_gradient(step, model, losses):
    """At step 3, after which a checkpoint is due, the loss is a number and its gradient is not: d sqrt(x) / dx at 0."""
    return losses | {"loss": losses["loss"] + (0 * model.weight).sum().sqrt()} if step == 3 else losses


def lost_loss(step, model, losses):
    return losses | {"loss": losses["loss"] * math.inf} if step == 3 else losses


def lost_end(step, model, losses):
    return losses | {"loss": losses["loss"] * math.nan} if step == 7 else losses


@pytest.mark.parametrize(("wrong", "said"), [(lost_gradient, r"loss \d[^)]*, gradient nan"), (lost_loss, "loss inf")])
def test_what_is_not_finite_stops_before_the_update(tmp_path, wrong, said):
    with pytest.raises(UserError, match=rf"transfer diverged at step 3 \({said}.*lower transfer.learning_rate"):
        run(tmp_path, wrong=wrong)
    assert steps(tmp_path) == [2] and len(read_log(tmp_path / "loss.csv")) == 3
    again, rows = run(tmp_path)
    whole, expected = run(tmp_path / "whole")
    assert same(again, whole) and told(rows) == told(expected)


def test_weights_that_an_update_made_infinite_are_not_written(tmp_path):
    with pytest.raises(UserError, match=r"diverged at step 3 \(it made weights that are not finite"):
        run(tmp_path, rate=lambda step: math.inf if step == 3 else 0.05)
    assert steps(tmp_path) == [2] and len(read_log(tmp_path / "loss.csv")) == 4


@pytest.mark.parametrize("files", [("weights",), ("optimizer",), ("weights", "optimizer")])
def test_a_newest_checkpoint_that_is_not_finite_is_passed_over(tmp_path, files, capsys):
    whole, expected = run(tmp_path)
    poison(tmp_path / "checkpoints" / "step-8", *files)
    again, rows = run(tmp_path)
    assert same(again, whole) and told(rows) == told(expected)
    text = capsys.readouterr().err
    assert "step-8 holds numbers that are not finite" in text and "goes on from step 6 of 8" in text


def test_an_average_goes_on_from_the_checkpoint_as_if_unbroken_and_leaves_the_training_as_it_is(tmp_path):
    whole, values, rows = averaged(tmp_path / "whole")
    with pytest.raises(UserError, match="diverged at step 3"):
        averaged(tmp_path, wrong=lost_loss)
    again, resumed, _ = averaged(tmp_path)
    assert all(torch.equal(values[name], resumed[name]) for name in values)
    assert same(again, whole) and not torch.equal(values["weight"], whole.weight)
    plain, expected = run(tmp_path / "plain")
    assert same(whole, plain) and told(rows) == told(expected)
    assert not [*(tmp_path / "plain").rglob("average*")]


@pytest.mark.parametrize("how", ["poisoned", "lost"])
def test_a_checkpoint_whose_average_is_no_good_is_passed_over(tmp_path, how, capsys):
    _, values, _ = averaged(tmp_path)
    newest = tmp_path / "checkpoints" / "step-8"
    if how == "lost":
        (newest / "average.safetensors").unlink()
    else:
        poison(newest, "average")
    _, again, _ = averaged(tmp_path)
    assert all(torch.equal(values[name], again[name]) for name in values)
    assert "goes on from step 6 of 8" in capsys.readouterr().err


def test_a_checkpoint_that_was_passed_over_does_not_outlive_those_that_are_whole(tmp_path):
    run(tmp_path)
    poison(tmp_path / "checkpoints" / "step-8", "weights")
    with pytest.raises(UserError, match="diverged at step 7"):  # as if killed after step 7
        run(tmp_path, wrong=lost_end, save_every=1, keep=1)
    assert steps(tmp_path) == [7]
    assert len(run(tmp_path)[1]) == STEPS


def test_a_log_of_an_earlier_version_is_read_and_gone_on_with(tmp_path):
    _, expected = run(tmp_path)
    old = [f"{row['step']}.0,{row['loss']},{row['off']},0.05,1.0,0.5" for row in expected]
    (tmp_path / "loss.csv").write_text("\n".join(["step,loss,off,learning_rate,seconds,waiting", *old, "8,0.1"]))
    poison(tmp_path / "checkpoints" / "step-8", "weights")
    _, rows = run(tmp_path)
    assert [(row["step"], row["loss"]) for row in rows] == [(row["step"], row["loss"]) for row in expected]
    assert ["gradient" in row for row in read_log(tmp_path / "loss.csv")] == [False] * 6 + [True] * 2
    assert read_log(tmp_path / "loss.csv") == rows
