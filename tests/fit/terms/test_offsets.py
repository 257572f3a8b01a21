"""What the linear solver makes of the offsets' terms, and Adam of theirs along the clip."""

import pytest
import torch
from benchmarks.made_heads import Truth

from expportrait.fit.solvers.integrate import Integrator
from expportrait.fit.solvers.polish import offset_terms
from expportrait.fit.terms.depth import taken_up
from expportrait.fit.terms.table import OF_DYNAMIC, OF_STATIC
from expportrait.fit.terms.temporal import second_differences
from expportrait.head import Head
from expportrait.settings.config import Proxy
from tests.fit.terms.make import FRAMES, SIZE, alone, model


@pytest.mark.parametrize("name", OF_STATIC + OF_DYNAMIC)
def test_the_linear_solver_has_the_second_derivatives_of_every_term_of_the_offsets(
    head: Head, truth: Truth, name: str
) -> None:
    """By differences, which are exact of what is quadratic."""
    fitter, g = model(head, truth, alone(name)), torch.Generator().manual_seed(3)
    if name in OF_STATIC:
        field, rest, weights = fitter.unknowns.static, fitter.judged.static_start, fitter.static_weights()
        solver = fitter.problem.static_energy
    else:
        field = 1e-3 * torch.randn(len(fitter.problem.dynamic_vertices), 3, generator=g)
        rest, weights, solver = torch.zeros_like(field), fitter.dynamic_weights(), fitter.problem.dynamic_energy

    def terms(field: torch.Tensor) -> dict[str, torch.Tensor]:
        if name in OF_DYNAMIC:
            return fitter.dynamic_energies(field[None])
        fitter.unknowns.static = field
        return fitter.static_energies()

    assert [other for other, value in terms(field).items() if value.item()] == [name]
    step = solver.gradient(field, field - rest, weights)
    step = step * float(field.norm() / step.norm())
    # The same of the step is the product with the second derivatives; and the diagonal is near theirs.
    bent = float(terms(field + step)[name] + terms(field - step)[name] - 2 * terms(field)[name])
    for product in (solver.gradient(step, step, weights), solver.product(step, weights)):
        assert bent == pytest.approx(float((product * step).sum()), rel=1e-2)
    signs = (torch.rand(field.shape, generator=g) < 0.5) * 2.0 - 1
    trace = float((solver.gradient(signs, signs, weights) * signs).sum())
    assert float(3 * solver.diagonal(weights).sum()) == pytest.approx(trace, rel=0.2)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_the_linear_solver_ends_where_the_energy_is_least(head: Head, truth: Truth, kind: str, frames: int) -> None:
    """All terms together: its derivative, by the field and by the bias of the normals, is gone."""
    plain = Proxy(coarse_size=64, fine_size=SIZE)
    fitter, s = model(head, truth, plain, frames), plain
    solver, bias = Integrator(fitter, SIZE), fitter.unknowns.bias if kind == "static" else None
    system = solver.system(bias)
    seen = [solver.frame(torch.tensor([t])) for t in range(frames)][: frames if kind == "static" else 1]
    for one in seen:
        system.add(*one, 1 / len(seen), vars(s.weights))
    field, mask, rows = fitter.unknowns.static, fitter.problem.static_mask, torch.arange(len(fitter.unknowns.static))
    if kind == "dynamic":
        field, mask, rows = (
            fitter.unknowns.dynamic[torch.tensor([0])][0],
            fitter.problem.dynamic_mask,
            fitter.problem.dynamic_vertices,
        )
        system = system.inside(rows)
    start, leaned = field.clone(), fitter.unknowns.bias.turn.clone()

    def gradient(field: torch.Tensor, turn: torch.Tensor) -> list[torch.Tensor]:
        field, turn = field.clone().requires_grad_(), turn.clone().requires_grad_()
        moved = torch.zeros(len(fitter.unknowns.static), 3).index_add(0, rows, mask * (field - start))
        swung = fitter.unknowns.bias.basis @ (turn - leaned)
        energy = sum(of_one(*one, moved, swung, s) for one in seen) / len(seen)
        if kind == "static":
            fitter.unknowns.static = field
            energy = energy + sum(fitter.static_energies().values()) + s.weights.normal_bias * turn.square().mean()
        else:
            energy = energy + sum(fitter.dynamic_energies(field[None]).values())
        return list(torch.autograd.grad(energy, [field, turn] if kind == "static" else [field]))

    before = gradient(field, leaned)
    if kind == "static":
        rest, energy, weights = fitter.judged.static_start, fitter.problem.static_energy, fitter.static_weights()
    else:
        rest, energy, weights = torch.zeros_like(field), fitter.problem.dynamic_energy, fitter.dynamic_weights()
    found = system.solve(field, rest, mask, energy, weights, 400)
    for old, new in zip(before, gradient(found, fitter.unknowns.bias.turn), strict=True):
        assert new.norm() < 0.02 * old.norm()


@pytest.mark.parametrize("batch", [[0, 1, 2, 3, 4, 5], [2], [0, 5], [1, 2, 4]])
def test_l_tmp_of_a_mini_batch_has_the_derivative_of_the_clips(head: Head, truth: Truth, batch: list[int]) -> None:
    fitter = model(head, truth, alone("temporal_offset"))
    everything = torch.arange(FRAMES)
    fitter.unknowns.dynamic.move(everything, 1e-3 * torch.randn(FRAMES, len(fitter.problem.dynamic_vertices), 3))
    whole = fitter.unknowns.dynamic[everything].requires_grad_()
    energy = (
        fitter.settings.weights.temporal_offset
        * 1e6
        * second_differences(whole).square().sum()
        / (FRAMES * len(fitter.problem.dynamic_vertices))
    )
    (expected,) = torch.autograd.grad(energy, whole)
    frames = torch.tensor(batch)
    rows = fitter.unknowns.dynamic.load(frames)
    term = offset_terms(fitter, frames, True, rows)["temporal_offset"]
    (found,) = torch.autograd.grad(term, rows)
    torch.testing.assert_close(found, expected[frames] * FRAMES / len(batch), rtol=1e-3, atol=1e-5)
    assert len(batch) < FRAMES or term.item() == pytest.approx(energy.item(), rel=1e-4)


def of_one(seen, turn, moved, swung, s: Proxy) -> torch.Tensor:
    """The data terms of one frame as the canonical vertices move (n, 3) m and the normals' bias changes (n, 2) rad."""
    edges = seen.normals.edges
    ends = (turn[edges] @ moved[edges][..., None])[..., 0]
    tilt = seen.normals.residual + (seen.normals.jacobian * ends).sum((1, 2))
    tilt = tilt + (seen.normals.bias_jacobian * swung[edges].mean(1)).sum(1)
    posed = (turn @ moved[..., None])[..., 0]
    gap = seen.depth.residual - posed[seen.depth.vertices, 2]
    gap = gap - taken_up(seen.depth.basis, seen.depth.weight, gap[:, None])[:, 0]
    excess = seen.outline.residual + (seen.outline.jacobian * posed[seen.outline.vertices]).sum(1)
    of_tilt = s.weights.normal * (seen.normals.weight * tilt.square()).sum()
    of_gap = s.weights.depth * (seen.depth.weight * gap.square()).sum()
    return (of_tilt + of_gap + s.weights.outline * (seen.outline.weight * excess.square()).sum()) / 2
