"""Far turns, in which landmarks are guesses (benchmarks/far_turns.py measures how)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.made_heads import Truth, clip_model, make_truth
from benchmarks.truth_person import waves

from expportrait.errors import ClipError
from expportrait.fit import judge
from expportrait.fit.evidence.points import LOST
from expportrait.fit.evidence.turn_search import forward
from expportrait.fit.evidence.turned import settle_turns
from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.fit.proxy import ProxyFitter
from expportrait.fit.result import ProxyFit
from expportrait.fit.solvers.coarse_equations import CoarseEquations
from expportrait.fit.store import save_proxy
from expportrait.fit.terms.table import BARE
from expportrait.head import Head
from expportrait.render import render
from expportrait.settings.config import Proxy
from expportrait.store import Store, StoreWriter

FRAMES, FAR, SAID = 17, 80.0, 35.0
FLAT = 1.5  # the detector's depth is flatter by this
COARSE = Proxy(coarse_size=64, fine_size=128, offsets="none")


def turning(
    head: Head,
    degrees: torch.Tensor,
    size: int = 128,
    down: torch.Tensor | float = 0.0,
    away: torch.Tensor | float = 1.0,
) -> Truth:
    """A head with hair at these angles, to the subject's left and ``down``, and so many times as far ``away``."""
    truth = make_truth(head, len(degrees), size, yaw=0.0)
    p, pose = truth.parameters, truth.parameters.pose()
    pose[:, 1:3, 1] = torch.deg2rad(degrees)[:, None] / 2
    pose[:, 1:3, 0] += torch.deg2rad(torch.as_tensor(down) * torch.ones(len(degrees)))[:, None] / 2
    p.set_pose(pose, p.translation() * torch.as_tensor(away).reshape(-1, 1))
    matrices, place = p.matrices(), p.translation()
    maps = render(
        head.pose(head.dense, p.shape, p.expression, matrices, place, truth.static),
        head.dense_faces,
        p.camera(),
        cull=True,
    )
    points = head.pose(head.landmarks, p.shape, p.expression, matrices, place)
    depth = points[..., 2:] * p.camera().focal / points[..., 2:].mean() / FLAT
    truth.points = torch.cat([p.camera().project(points), depth], -1)
    truth.targets.normals, truth.targets.depth, truth.targets.mask = maps.normals, maps.depth, maps.coverage
    truth.targets.confidence = maps.coverage.clone()
    return truth


def there_and_back(frames: int, far: float) -> torch.Tensor:
    return far * (1 - torch.cos(torch.linspace(0, 2 * torch.pi, frames))) / 2


@pytest.fixture(scope="module")
def far(head: Head) -> tuple[Truth, torch.Tensor, torch.Tensor]:
    """A head that turns to 80 degrees and back; beyond 50 its points say 35, as a detector's did, half as sure."""
    degrees = there_and_back(FRAMES, FAR)
    truth, said = turning(head, degrees), turning(head, degrees.clamp_max(SAID))
    guessed = degrees > 50
    points = torch.where(guessed[:, None, None], said.points, truth.points)
    return truth, points, torch.where(guessed, 0.45, 0.9)


def fitter(head: Head, far: tuple[Truth, torch.Tensor, torch.Tensor], **settings) -> ProxyFitter:
    truth, points, confidence = far
    return ProxyFitter(head, truth.targets, points, confidence, COARSE.model_copy(update=settings))


def off(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(T,) degrees between directions (T, 3)."""
    return torch.rad2deg((a * b).sum(-1).clamp(-1, 1).acos())


@pytest.fixture(scope="module")
def fit(head: Head, far: tuple[Truth, torch.Tensor, torch.Tensor]) -> ProxyFit:
    return fitter(head, far).run()


def test_a_head_at_80_degrees_whose_points_say_35_stands_at_80(far, fit: ProxyFit) -> None:
    truth, _, confidence = far
    error = off(forward(fit.parameters), forward(truth.parameters))
    assert error.max() < 8
    assert error[confidence > 0.5].max() < 4
    assert (fit.landmarks_aside[confidence < 0.5]).all() and not fit.landmarks_aside[[0, 1, 2, -3, -2, -1]].any()


def test_what_is_set_aside_is_in_the_store(head: Head, fit: ProxyFit, tmp_path) -> None:
    with StoreWriter(tmp_path / "far.zarr", {"key": "far"}) as out:
        save_proxy(out, fit, head)
    assert (Store(tmp_path / "far.zarr")["landmarks_aside"] == fit.landmarks_aside.numpy()).all()


def test_a_clip_of_guesses_alone_fails_with_the_reason(head: Head, far) -> None:
    count = int((far[2] < 0.5).sum())
    with pytest.raises(ClipError, match=rf"in {count} of {FRAMES} frames the landmarks are guesses.*proxy\.max_aside"):
        fitter(head, far, max_aside=(count - 1) / FRAMES).run()


def test_frames_near_the_front_are_left_as_they_are(head: Head, truth: Truth) -> None:
    """Unsure points of a frontal face are a hand's matter, not a turn's."""
    confidence = torch.tensor([0.9, 0.1, 0.9, 0.05, 0.9, 0.9])
    before = fit_landmarks(head, truth.points, confidence, 128, Proxy(landmark_steps=20))

    def maps(t: int) -> tuple:
        return truth.targets.mask[t], None, None

    found = settle_turns(head, before, truth.points, confidence, maps, 128, 0.06)
    assert (found.share == 1).all() and not found.aside.any()
    assert found.parameters is before


def painted(head: Head, truth: Truth) -> np.ndarray:
    """(T, 128, 128, 3) u8: pictures of the head with spots all over, of about a centimetre."""
    random = np.random.default_rng(3)
    spots = np.stack([waves(head.dense.template.numpy(), 0.006, random) for _ in range(3)], -1)
    spots = torch.from_numpy(np.tanh(spots).astype(np.float32))
    p = truth.parameters
    vertices = head.pose(head.dense, p.shape, p.expression, p.matrices(), p.translation(), truth.static)
    maps = render(vertices, head.dense_faces, p.camera(), {"paint": spots}, cull=True)
    return (128 + 100 * maps.attributes["paint"]).numpy().astype(np.uint8)


@pytest.mark.parametrize("far", [75.0, -75.0])
def test_where_no_face_is_found_the_skin_tells_the_turn(head: Head, far: float) -> None:
    """The masks say nothing here: they are the same ellipse in all frames."""
    truth = turning(head, there_and_back(FRAMES, far))
    confidence = torch.ones(FRAMES)
    confidence[5:12] = 0
    points = truth.points.clone()
    points[5:12] = points[4]
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    mask = (((rows - 60) / 45) ** 2 + ((columns - 64) / 35) ** 2 < 1).float()
    before = fit_landmarks(head, points, confidence, 128)
    given = head, before, points, confidence, lambda t: (mask, None, None), 128, 0.06
    found = settle_turns(*given, pictures=painted(head, truth))
    assert found.aside[5:12].all()
    with_skin, without = (
        off(forward(each.parameters), forward(truth.parameters))[5:12].max() for each in (found, settle_turns(*given))
    )
    assert with_skin < 3 and with_skin < without
    assert (found.likeness[found.aside] > 0.5).all() and (found.likeness[~found.aside] == 0).all()


def test_points_that_mistake_pitch_near_the_front_are_told_by_the_skin_of_turned_frames(head: Head) -> None:
    """As a detector's do: 8 degrees up at the front, nothing at 40. What they say of the face itself stays."""
    degrees = there_and_back(FRAMES, 75.0)
    truth, lacking = turning(head, degrees), 8 * (1 - degrees / 40).clamp_min(0)
    said = turning(head, degrees, down=-lacking)
    confidence = torch.ones(FRAMES)
    confidence[6:11] = 0
    points = said.points.clone()
    points[6:11] = points[5]
    before = fit_landmarks(head, points, confidence, 128)
    given = head, before, points, confidence, lambda t: (truth.targets.mask[t], None, None), 128, 0.06
    found = settle_turns(*given, pictures=painted(head, truth))
    front = [0, 1, 2, -3, -2, -1]
    error = [off(forward(p), forward(truth.parameters))[front] for p in (before, found.parameters)]
    assert error[1].max() < 3 < error[0].min()
    flat = [p[front, :, :2] - p[front, :, :2].mean(1, keepdim=True) for p in (truth.points, points, found.points)]
    gap = [(each - flat[0]).norm(dim=-1).mean() for each in flat[1:]]
    assert gap[1] < gap[0] / 2
    assert settle_turns(*given).points[0].equal(points[0])


@pytest.mark.parametrize("lost", [slice(5, 9), slice(9, None)])
def test_where_no_face_is_found_the_silhouette_and_the_motion_decide(head: Head, lost: slice) -> None:
    """Points stand still or go straight on from neighbour to neighbour, and no estimator gives normals."""
    degrees = there_and_back(FRAMES, 75.0) if lost.stop else torch.linspace(0, 60, FRAMES)
    truth = turning(head, degrees)
    confidence = torch.ones(FRAMES)
    confidence[lost] = 0
    points, known = truth.points.clone(), np.flatnonzero(confidence)
    flat = [np.interp(np.arange(FRAMES), known, column) for column in points[known].flatten(1).T.numpy()]
    points = torch.from_numpy(np.stack(flat, -1)).float().view_as(points)
    before = fit_landmarks(head, points, confidence, 128)
    found = settle_turns(head, before, points, confidence, lambda t: (truth.targets.mask[t], None, None), 128, 0.06)
    assert found.aside[lost].all()
    error = [off(forward(p), forward(truth.parameters))[lost].max() for p in (before, found.parameters)]
    assert error[1] < 15 < error[0]


def test_a_frame_found_again_moves_its_own_pose_and_not_what_all_share(head: Head, truth: Truth) -> None:
    model = clip_model(head, truth, COARSE)
    model.unknowns.parameters = truth.parameters.copy()

    def gram() -> torch.Tensor:
        equations = CoarseEquations(model, COARSE.fine_size, BARE)
        transforms, change = equations.joints(torch.tensor([0]))
        return equations.gram(0, transforms[0], change[0])

    little = model.judged.trust.clone()
    little[0] = 0.05
    more = little.clone()
    more[0] = 0.5
    model.judged = replace(model.judged, trust=little, pose_trust=little)
    before = gram()
    model.judged = replace(model.judged, pose_trust=more)
    more = gram() - before
    own = CoarseEquations(model, COARSE.fine_size, BARE).own
    assert more[:own, :own].diagonal().max() > 0
    assert (more[own:-1] == 0).all() and (more[:own, own:-1] == 0).all()


def test_of_a_head_that_its_skin_tells_the_turns_are_held_and_neither_expression_nor_place(
    head: Head, truth: Truth
) -> None:
    model = clip_model(head, truth, COARSE)
    model.unknowns.parameters = truth.parameters.copy()

    def gram(held: float) -> torch.Tensor:
        model.judged = replace(model.judged, held=torch.full_like(model.judged.held, held))
        equations = CoarseEquations(model, COARSE.fine_size, BARE)
        transforms, change = equations.joints(torch.tensor([0]))
        return equations.gram(0, transforms[0], change[0])

    said, held = gram(0.0), gram(1.0)
    own, e = CoarseEquations(model, COARSE.fine_size, BARE).own, head.n_expression
    gained, scale = (held - said).diagonal(), said.diagonal()
    free = [*range(e), *range(own - 3, own)]
    assert (gained[free].abs() < 1e-3 * scale[free].clamp_min(1e-6)).all()
    assert (gained[e : e + 9] > 0.01 * scale[e : e + 9]).any()


def test_the_outline_tells_how_far_away_a_head_is_that_is_found_again(head: Head) -> None:
    """It comes nearer while it is turned: what lies between the frames beside is too small, and fits no silhouette."""
    degrees, lost = there_and_back(FRAMES, 75.0), slice(5, 12)
    away = torch.ones(FRAMES)
    away[lost] = 1 - 0.06 * torch.hann_window(9, periodic=False)[1:-1]
    truth = turning(head, degrees, away=away)
    confidence, points = torch.ones(FRAMES), truth.points.clone()
    confidence[lost], points[lost] = 0, points[4]
    before = fit_landmarks(head, points, confidence, 128)
    given = head, before, points, confidence, lambda t: (truth.targets.mask[t], None, None), 128, 0.06
    found = settle_turns(*given, pictures=painted(head, truth))
    off = found.parameters.log_scale - truth.parameters.log_scale
    assert (off - off[~found.aside].median())[lost].abs().max() < 0.03
    assert found.found[lost].all() and (found.likeness[lost] > 0.8).all()


def test_the_own_points_of_a_head_found_again_hardly_hold_its_place(head: Head, far) -> None:
    """What its distance and place were carried on from may be off, and the masks know better."""
    model = fitter(head, far).model
    model.unknowns.parameters = fit_landmarks(head, far[1], far[2], 128)
    judge.settle_turns(model, move=True)
    judged, trust = model.judged, model.problem.trust
    again = judged.aside & (judged.pose_trust >= judge.FOUND_AGAIN)
    assert again.sum() > 3
    usual = judged.weights[~judged.aside].sum(1).max()
    assert (judged.weights[again].sum(1) < 0.2 * LOST * trust[again] * usual).all()
