"""All terms of all kinds of steps: the derivative that a solver takes is the one that differences of what is recorded
show, by every unknown that the step moves."""

from dataclasses import replace

import pytest
import torch
from benchmarks.made_heads import Truth

from expportrait.fit.model import ClipModel
from expportrait.fit.terms.table import STEPS, TERMS
from expportrait.head import Head
from expportrait.settings.sections import Weights
from tests.fit.terms.make import alone, model, weighing
from tests.fit.terms.slopes import SOLVERS, Coarse, Landmarks, Offsets, Pixels

FRAMES = 3
CASES = [(step, term) for step, kind in STEPS.items() for term in kind.terms]
REACH = {  # largest change of an unknown by which differences are taken
    "expression": 3e-2, "rotation": 1e-3, "place": 1e-4, "log_scale": 3e-4, "shape": 1e-2, "shoulders": 3e-3,
    "log_focal": 3e-3, "bias": 1e-3, "static": 1e-4, "dynamic": 1e-4, "drawn": 3e-5,
}  # fmt: skip
# Recorded, but of what the step does not move, or holds where it is.
STILL = {("rigid", "temporal_expression"), ("landmarks", "shoulders"), ("bare", "focal"), ("dressed", "focal")}
ENOUGH = 4e-3  # relative error of a derivative; a wrong weight is 1e-2
NOTHING = 1e-6  # of a term: single precision


@pytest.fixture(scope="module")
def fitter(head: Head, truth: Truth) -> ClipModel:
    found = model(head, truth, alone(), FRAMES)
    rows, g = len(found.problem.dynamic_vertices), torch.Generator().manual_seed(4)
    found.unknowns.dynamic.move(torch.arange(FRAMES), 5e-4 * torch.randn(FRAMES, rows, 3, generator=g))
    return found


def solver_of(fitter: ClipModel, step: str, term: str, factor: float = 1.0) -> Landmarks | Coarse | Offsets | Pixels:
    """A step's solver where a term has its weight times ``factor``, and all others none."""
    kind, problem = STEPS[step], fitter.problem
    name = dict(kind.called).get(term, term)
    given = {} if term in kind.fixed else {name: factor * getattr(Weights(), name)}
    # A weight that is fixed is gone where no landmark is seen.
    confidence = torch.ones(FRAMES) if term == "landmark" else torch.zeros(FRAMES)
    fitter.problem = replace(problem, settings=weighing(alone(), **given), confidence=confidence)
    return SOLVERS[step](fitter, kind)


@pytest.mark.parametrize(("step", "term"), CASES)
def test_a_step_goes_down_the_energy_that_is_recorded(fitter: ClipModel, step: str, term: str) -> None:
    """And one per cent more of the weight in what the solver takes alone would show."""
    wrong = solver_of(fitter, step, term, 1.01).gradient()
    solver = solver_of(fitter, step, term)
    gradient, energy, drawn = solver.gradient(), solver.energy(), []
    assert {*gradient} == {*STEPS[step].moves} or "drawn" in gradient
    whole, g = energy({}), torch.Generator().manual_seed(0)

    def change(name: str, towards: torch.Tensor) -> float:
        return (energy({name: towards}) - energy({name: -towards})) / 2

    for name, found in gradient.items():
        towards = REACH[name] * (found / found.abs().max())
        if not float((found * towards).nan_to_num().sum()) > NOTHING * whole:
            signs = torch.rand(found.shape, generator=g).to(found).sub(0.5).sign()
            assert abs(change(name, REACH[name] * signs)) <= 10 * NOTHING * whole, f"{name} is left out"
            continue
        drawn.append(name)
        expected, one = change(name, towards), lambda of: float((of * towards).sum())  # noqa: B023
        assert one(found) == pytest.approx(expected, rel=ENOUGH), name
        if not (term == "landmark" and isinstance(solver, Landmarks)):  # its weight there is 1, in no setting
            assert one(wrong[name]) != pytest.approx(expected, rel=ENOUGH), f"{name} would not show a wrong weight"
    assert bool(drawn) != ((step, term) in STILL)


@pytest.mark.parametrize("step", ["bare", "dressed"])
def test_the_focal_length_is_held_where_it_is(fitter: ClipModel, step: str) -> None:
    """Nothing draws it, so its weight shows in how the energy bends."""
    wrong, solver = solver_of(fitter, step, "focal", 1.01).curvature(), solver_of(fitter, step, "focal")
    w = fitter.settings.weights.focal_coarse
    assert solver.curvature() == pytest.approx(2 * w * FRAMES, rel=1e-6)
    assert wrong != pytest.approx(solver.curvature(), rel=ENOUGH)


def test_the_table_holds_every_term_and_every_weight_once() -> None:
    names = [name for group, of in TERMS.items() if group != "sum" for name in of]
    assert len({*names}) == len(names) and {term for _, term in CASES} == {*names}
    called = {name for kind in STEPS.values() for name in kind.weights(Weights()) if name not in kind.fixed}
    others = {name for kind in STEPS.values() for _, name in kind.called}
    assert called | others == {*Weights.model_fields}
