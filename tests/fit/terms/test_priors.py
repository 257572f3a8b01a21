"""Priors and temporal terms are energies for Adam and rows for Gauss-Newton: these are the energies' derivatives."""

import pytest
import torch
from benchmarks.made_heads import Truth

from expportrait.fit.model import ClipModel
from expportrait.fit.solvers.newton import CoarseStep, coarse_step
from expportrait.fit.store import TERMS
from expportrait.fit.terms.priors import prior_energies
from expportrait.fit.terms.temporal import temporal_energies
from expportrait.head import Head
from tests.fit.terms.make import FRAMES, SIZE, alone, model, stepped

OF_COARSE = [
    name for name in (*TERMS["priors"], *TERMS["smoothness"]) if name not in ("normal_bias", "temporal_offset")
]
MOVING = [name for name in OF_COARSE if name != "focal"]  # that is held where it is, so nothing draws it


def written(fitter: ClipModel, name: str) -> torch.Tensor:
    """The energy of a prior or temporal term, by the unknowns of ``stepped``: value, and its gradient by both."""
    p, s = fitter.parameters, fitter.settings
    own = torch.zeros(p.frames, p.expression.shape[1] + 21, dtype=torch.float64, requires_grad=True)
    shared = torch.zeros(len(p.shape) + 13, dtype=torch.float64, requires_grad=True)
    q = stepped(p, own, shared)
    terms = prior_energies(q, float(p.log_focal), s) | temporal_energies(q, s)
    assert all(value.item() == 0 for other, value in terms.items() if other != name)
    gradient = torch.autograd.grad(p.frames * terms[name], (own, shared), materialize_grads=True)
    return terms[name].item(), *gradient


@pytest.mark.parametrize("name", OF_COARSE)
def test_rows_of_gauss_newton_are_the_derivative_of_the_energy(head: Head, truth: Truth, name: str) -> None:
    fitter = model(head, truth, alone(name, **({"w_focal_coarse": 40.0} if name == "focal" else {})))
    value, of_frames, of_clip = written(fitter, name)
    step = CoarseStep(fitter, SIZE, False)
    rows, moving, clip = step.priors(0, FRAMES), step.motion(0, FRAMES), step.clip_priors()
    own = fitter.head.n_expression + 21
    pull = torch.einsum("tkn,tk->tn", rows[:, :, :own], rows[..., -1])
    # The mean of the torso's rotations lies where the energy is least: nothing draws it.
    assert torch.einsum("tkn,tk->n", rows[:, :, own:-1], rows[..., -1]).abs().max() < 1e-6
    energy = rows[..., -1].square().sum() + clip[:, -1].square().sum()
    for t in range(1, FRAMES - 1):
        change = moving[t - 1][:, -1] - 2 * moving[t][:, -1] + moving[t + 1][:, -1]
        energy = energy + change.square().sum()
        for k, factor in ((t - 1, 1), (t, -2), (t + 1, 1)):
            pull[k] += factor * moving[k][:, :-1].t() @ change
    assert float(energy) / 2 / FRAMES == pytest.approx(value, rel=1e-5)
    torch.testing.assert_close(pull, of_frames, rtol=1e-4, atol=1e-5 * float(of_frames.abs().max()) + 1e-12)
    torch.testing.assert_close(
        clip[:, :-1].t() @ clip[:, -1], of_clip, rtol=1e-4, atol=1e-5 * float(of_clip.abs().max()) + 1e-12
    )
    assert name == "focal" or max(of_frames.abs().max(), of_clip.abs().max()) > 0


@pytest.mark.parametrize("name", MOVING)
def test_a_step_of_gauss_newton_goes_down_every_prior(head: Head, truth: Truth, name: str) -> None:
    """Without data each is at its least at once: it has a part in the step, and with the right stiffness."""
    fitter = model(head, truth, alone(name))
    before, *_ = written(fitter, name)
    told = coarse_step(fitter, SIZE, False)
    assert told[name] == pytest.approx(before, rel=1e-4) and sum(told.values()) == pytest.approx(before, rel=1e-4)
    assert written(fitter, name)[0] < 0.02 * before
