"""What a step of Gauss-Newton makes of priors and temporal terms."""

from dataclasses import replace

import pytest
import torch
from benchmarks.made_heads import Truth

from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.fit.model import ClipModel
from expportrait.fit.solvers.newton import coarse_step
from expportrait.fit.terms.table import BARE, PRIORS, TEMPORAL
from expportrait.fit.terms.temporal import temporal_energies
from expportrait.head import Head
from expportrait.settings.config import Proxy
from tests.fit.terms.make import FRAMES, SIZE, alone, model, weighing

MOVING = [name for name in (*PRIORS, *TEMPORAL) if name != "focal"]  # that is held where it is, so nothing draws it


def written(fitter: ClipModel, name: str) -> float:
    """The energy of a prior or temporal term; all others are zero."""
    p, w = fitter.parameters, BARE.weights(fitter.settings.weights)
    terms = fitter.prior_energies(w) | temporal_energies(p, w)
    assert all(value.item() == 0 for other, value in terms.items() if other != name)
    return terms[name].item()


@pytest.mark.parametrize("name", MOVING)
def test_a_step_of_gauss_newton_goes_down_every_prior(head: Head, truth: Truth, name: str) -> None:
    """Without data each is at its least at once: it has a part in the step, and with the right stiffness. Only where it
    holds nothing within bounds, what was there may leave them."""
    fitter = model(head, truth, alone(dict(BARE.called).get(name, name)))
    before = written(fitter, name)
    told = coarse_step(fitter, SIZE, BARE)
    assert told[name] == pytest.approx(before, rel=1e-4) and sum(told.values()) == pytest.approx(before, rel=1e-4)
    for _ in range(2 if name == "activation" else 0):
        coarse_step(fitter, SIZE, BARE)
    assert written(fitter, name) < 0.02 * before


def test_frames_whose_points_are_not_believed_are_not_drawn_to_what_those_say(head: Head, truth: Truth) -> None:
    """The others go where the units are that were told, the last one of them in a frame without a face."""
    fitter = model(head, truth, alone("blendshapes"))
    aside = torch.arange(FRAMES) == 1
    fitter.judged = replace(fitter.judged, aside=aside)
    told = torch.rand(FRAMES, len(head.unit_names), generator=torch.Generator().manual_seed(1))  # as ``model`` has them
    before = fitter.parameters.expression.clone()
    coarse_step(fitter, SIZE, BARE)
    found, still = fitter.parameters.expression, aside | (torch.arange(FRAMES) == FRAMES - 1)
    torch.testing.assert_close(found[still], before[still])
    torch.testing.assert_close((found @ head.activation_matrix)[~still], told[~still], atol=0.01, rtol=0)


def test_a_mouth_that_hangs_is_the_neutral_face_and_no_negative_smile(head: Head, truth: Truth) -> None:
    """The landmark fit keeps face units from below 0; without the term it does not."""
    p, least = truth.parameters.copy(), {}
    p.expression = head.expression_of({"mouthSmile": -0.5}).expand(p.frames, -1)
    posed = head.pose(head.landmarks, p.shape, p.expression, p.matrices(), p.translation())
    points = torch.cat([p.camera().project(posed), truth.points[..., 2:]], -1)
    for weight in (0.0, Proxy().weights.activation):
        s = weighing(Proxy(landmark_steps=120), activation=weight)
        found = fit_landmarks(head, points, torch.ones(p.frames), p.size, s)
        least[weight] = float((found.expression @ head.bounded_units).min())
    assert least[0.0] < -0.2 and least[Proxy().weights.activation] > -0.05


def test_wide_eyes_are_not_held_by_the_bounds(head: Head, truth: Truth) -> None:
    """The lids' edges have no offsets: eyes wider at rest than the template's are their units', below 0."""
    p, opening = truth.parameters.copy(), lambda x: (x[:, 159] - x[:, 145]).norm(dim=-1).mean()
    p.expression = head.expression_of({"eyeSquint": -0.5}).expand(p.frames, -1)
    posed = head.pose(head.landmarks, p.shape, p.expression, p.matrices(), p.translation())
    points = p.camera().project(posed)
    s = Proxy(landmark_steps=120)
    found = fit_landmarks(head, torch.cat([points, truth.points[..., 2:]], -1), torch.ones(p.frames), p.size, s)
    posed = head.pose(head.landmarks, found.shape, found.expression, found.matrices(), found.translation())
    assert opening(found.camera().project(posed)) > 0.97 * opening(points)
