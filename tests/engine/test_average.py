import pytest
import torch
from torch import nn

from expportrait.engine.average import Average
from expportrait.engine.training import trainable


def followed(decay, values, dtype=torch.float32):
    """The average of a weight that begins at 0 and takes these values, and that weight."""
    weight = torch.zeros(2, dtype=dtype)
    average = Average({"w": weight}, decay)
    for step, value in enumerate(values):
        weight.fill_(value)
        average.follow(step)
    return average, weight


def test_in_the_long_run_a_step_keeps_the_decay():
    average, _ = followed(0.9, [0.0] * 200 + [1.0] * 5)
    assert average.values["w"].tolist() == pytest.approx([1 - 0.9**5] * 2, rel=1e-5)


def test_the_start_is_soon_forgotten():
    average, _ = followed(0.999, [1.0] * 20)
    assert average.values["w"].tolist() == pytest.approx([1.0] * 2, abs=1e-6)  # without a warm-up: .02


def test_small_steps_of_half_precision_weights_are_not_lost():
    average, weight = followed(0.999, [1.0] * 9000 + [1.0078125] * 10, torch.bfloat16)  # the next number after 1
    assert weight.dtype == torch.bfloat16 and average.values["w"].dtype == torch.float32
    assert float(average.values["w"][0]) - 1 == pytest.approx(0.0078125 * (1 - 0.999**10), rel=0.01)


def test_the_average_is_put_into_the_weights_that_are_trained():
    model = nn.Linear(2, 1)
    model.bias.requires_grad_(False)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    average = Average(trainable(model), 0.5)
    assert [*average.values] == ["weight"]
    with torch.no_grad():
        model.weight.fill_(3)
        model.bias.fill_(3)
    average.follow(1000)
    average.put()
    assert model.weight.tolist() == [[2, 2]] and model.bias.tolist() == [3]
    assert model.weight.requires_grad
