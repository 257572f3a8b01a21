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

FRAMES = 4
CASES = [(step, term) for step, kind in STEPS.items() for term in kind.terms]
REACH = {  # largest change of an unknown by which differences are taken
    "expression": 1e-2, "rotation": 1e-3, "place": 1e-4, "log_scale": 3e-4, "shape": 1e-2, "shoulders": 1e-3,
    "log_focal": 1e-3, "bias": 1e-3, "static": 1e-4, "dynamic": 1e-4, "drawn": 1e-3,
}  # fmt: skip
ENOUGH = 4e-3  # relative error of a derivative; a wrong weight is 1e-2


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
    """And where a weight is one per cent more in what the solver takes alone, that shows."""
    wrong = solver_of(fitter, step, term, 1.01).gradient()
    solver = solver_of(fitter, step, term)
    gradient, energy = solver.gradient(), solver.energy()
    whole = energy({})
    for name, found in gradient.items():
        if found.abs().max() == 0: print("ZERO", step,term,name); continue
        towards = found / found.abs().max() * REACH[name]
        change = (energy({name: towards}) - energy({name: -towards})) / 2
        along = float((found * towards).sum())
        print("SEEN", step, term, name, f"{along/whole:.1e} {along / change - 1:.1e}", f"{float((wrong[name]*towards).sum())/change-1:.4f}")
