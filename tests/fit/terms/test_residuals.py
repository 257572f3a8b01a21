"""Derivatives by a step from where things are."""

import subprocess
import sys

import torch

from expportrait.fit.terms.residuals import derived, rows_of

LOADED = """
import sys, torch
from expportrait.fit.terms.residuals import derived
derived(lambda step, x: 1 - x * step.sin().sum(), 3, torch.rand(4, 2))
print(*sorted({"torch._dynamo", "sympy"} & set(sys.modules)))
"""


def test_derivatives_are_by_each_frames_own_step() -> None:
    """x_t^T s + s_0^3 has the value 0 and the derivative x_t at s = 0, in every frame another."""
    x = torch.arange(12.0).view(4, 3)
    with torch.no_grad():  # as the linear solvers call it
        values, change = derived(lambda step, of: torch.stack([of @ step + step[0] ** 3, step[2]]), 3, x)
    torch.testing.assert_close(values, torch.zeros(4, 2))
    torch.testing.assert_close(change[:, 0], x)
    torch.testing.assert_close(change[:, 1], torch.tensor([0.0, 0.0, 1.0]).expand(4, 3))


def test_rows_keep_the_order_of_their_terms() -> None:
    x = torch.arange(6.0, dtype=torch.float64).view(3, 2)
    rows, sizes = rows_of(lambda step, of: {"a": of + step, "b": step[:1]}, 2, x)
    assert sizes == {"a": 2, "b": 1} and rows.dtype == torch.float64
    torch.testing.assert_close(rows[:, :2, 2], 2**0.5 * x)
    torch.testing.assert_close(rows[1, :, :2], 2**0.5 * torch.tensor([[1.0, 0], [0, 1], [1, 0]], dtype=x.dtype))


def test_no_compiler_is_loaded() -> None:
    """It would take 40 to 70 MB of every process that fits."""
    found = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
