import pytest
import torch

from expportrait.fit.terms.depth import scale_and_shift


def test_scale_and_shift_recovers_each_group() -> None:
    g = torch.Generator().manual_seed(0)
    group = torch.arange(200) % 3
    estimate, a, b = torch.rand(200, generator=g), torch.tensor([0.5, 2.0, 3.0]), torch.tensor([1.0, -1.0, 0.2])
    weight = torch.rand(200, generator=g)
    value = a[group] * estimate + b[group]
    value[weight < 0.1] += 5  # what the weight excludes must not matter
    weight[weight < 0.1] = 0
    found_a, found_b = scale_and_shift(value, estimate, weight, group, 3)
    assert torch.allclose(found_a, a, atol=1e-4) and torch.allclose(found_b, b, atol=1e-4)


def test_scale_stays_positive() -> None:
    estimate = torch.linspace(0, 1, 50)
    a, _ = scale_and_shift(-estimate, estimate, torch.ones(50), torch.zeros(50, dtype=torch.long), 1)
    assert (a > 0).all()


def test_an_anchored_depth_keeps_no_shift():
    estimate, group = torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0, 3.0]), torch.tensor([0, 0, 0, 1, 1, 1])
    value = torch.tensor([5.0, 7.0, 9.0, 2.0, 4.0, 6.0])
    a, b = scale_and_shift(value, estimate, torch.ones(6), group, 2, torch.tensor([False, True]))
    assert a.tolist() == pytest.approx([2, 2]) and b.tolist() == pytest.approx([3, 0])
