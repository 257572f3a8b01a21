"""Landmarks, normals, depth and outline are energies and rows: these are the energies' derivatives."""

from dataclasses import replace

import pytest
import torch
from benchmarks.made_heads import Truth

from expportrait.fit.evidence.targets import Targets
from expportrait.fit.model import ClipModel
from expportrait.fit.terms import depth
from expportrait.fit.terms.depth import VertexDepths, taken_up
from expportrait.fit.terms.normals import EdgeNormals
from expportrait.fit.terms.outline import Outline
from expportrait.fit.terms.surface import observe
from expportrait.head import Head
from expportrait.head.rotation import axis_angle_to_matrix
from tests.fit.terms.make import SIZE, alone, model

LARGE = 512  # px, so that a move of less than an edge is one of a pixel


@pytest.fixture
def itself(head: Head, truth: Truth) -> tuple[ClipModel, torch.Tensor, Targets]:
    """A smooth head, where its vertices are in a frame, and what estimators would say that saw it without an error."""
    fitter, one = model(head, truth, alone("normal")), torch.tensor([2])
    fitter.unknowns.static = fitter.judged.static_start.clone()
    at = fitter.vertices(one, True)[0]
    drawn = fitter.rendered(at[None], LARGE, True)
    covered = drawn.image(torch.ones_like(drawn.depth))
    return fitter, at, Targets(drawn.image(drawn.normals), drawn.image(drawn.depth), covered, covered)


def seen(fitter: ClipModel, vertices: torch.Tensor, targets: Targets, lean: torch.Tensor | None = None) -> EdgeNormals:
    drawn = fitter.rendered(vertices[None], LARGE, True)
    return observe(vertices, fitter.problem.edges, drawn, targets, fitter.camera(LARGE), bias=lean).normals


def test_a_head_is_nowhere_off_its_own_render(itself: tuple[ClipModel, torch.Tensor, Targets]) -> None:
    """Nor by its own curvature on the picture's grid, which at lips and lids is larger than any wrinkle."""
    fitter, at, targets = itself
    assert seen(fitter, at, targets).residual.abs().max() < 1e-4
    drawn = fitter.rendered(at[None], LARGE, True)
    depth_seen = observe(at, fitter.problem.edges, drawn, targets, fitter.camera(LARGE)).depth
    assert depth_seen.residual.abs().quantile(0.98) < 2e-4  # of 1.5 m, after scale and shift


@pytest.mark.parametrize("move", ["turn", "nod", "sideways", "up", "closer", "wave"])
def test_an_edges_residual_follows_the_head(itself: tuple[ClipModel, torch.Tensor, Targets], move: str) -> None:
    """As it turns, as what it is held against slides under it, and as it is bent."""
    fitter, at, targets = itself
    if move in ("turn", "nod"):
        angles = 4e-3 * torch.tensor([0, 0, 1.0] if move == "turn" else [1.0, 0, 0])
        moved = (at - at.mean(0)) @ axis_angle_to_matrix(angles).t() + at.mean(0) - at
    elif move == "wave":
        moved = 1e-4 * (300 * at[:, 1:2]).sin() * torch.nn.functional.normalize(at - at.mean(0), dim=1)
    else:  # closer by more, as only what lies aside slides
        by = {"sideways": [4e-4, 0, 0], "up": [0, 4e-4, 0], "closer": [0, 0, 4e-3]}[move]
        moved = torch.tensor(by).expand_as(at)
    first, after = seen(fitter, at, targets), seen(fitter, at + moved, targets)
    both = {edge: k for k, edge in enumerate(map(tuple, after.edges.tolist()))}
    rows = [(k, both[edge]) for k, edge in enumerate(map(tuple, first.edges.tolist())) if edge in both]
    old, new = torch.tensor(rows).t()
    expected = (first.jacobian[old] * moved[first.edges[old]]).sum((1, 2))
    change = after.residual[new] - first.residual[old]
    share = torch.tensor([0.5, 0.8])
    off, whole = ((change - expected).abs().quantile(share), change.abs().quantile(share))
    # Bent, its own normals do not quite follow; else a slide that is a third too large or too small would show.
    bound = torch.tensor([0.5 if move == "wave" else 0.25, 0.5])
    assert (off < bound * whole).all() and whole[0] > 2e-3
    assert len(old) > 1000


def test_an_edges_residual_follows_the_bias(itself: tuple[ClipModel, torch.Tensor, Targets]) -> None:
    fitter, at, targets = itself
    lean, step = torch.full((len(at), 2), 0.03), torch.tensor([1e-2, -1e-2])
    first, leaned = seen(fitter, at, targets, lean), seen(fitter, at, targets, lean + step)
    assert torch.equal(first.edges, leaned.edges)
    assert (leaned.residual - first.residual - first.bias_jacobian @ step).abs().max() < 0.1 * 1e-2


def test_the_depths_residual_follows_the_head(itself: tuple[ClipModel, torch.Tensor, Targets]) -> None:
    """Seen against depths that are alike everywhere, so that where they are sampled does not matter."""
    fitter, at, targets = itself
    targets.depth[:], targets.mask[:], targets.confidence[:] = 1.5, 1, 1
    targets.anchored = torch.tensor([True])

    def seen(vertices: torch.Tensor) -> VertexDepths:
        drawn = fitter.rendered(vertices[None], LARGE, True)
        return observe(vertices, fitter.problem.edges, drawn, targets, fitter.camera(LARGE)).depth

    moved = torch.zeros_like(at)
    moved[:, 2] = 1e-3 * (40 * at[:, 1]).sin()
    first, after = seen(at), seen(at + moved)
    number = torch.full((len(at),), -1)
    number[after.vertices] = torch.arange(len(after.vertices))
    both = number[first.vertices] >= 0
    change = after.residual[number[first.vertices[both]]] - first.residual[both]
    expected = -moved[first.vertices, 2]
    expected = expected - taken_up(first.basis, first.weight, expected[:, None])[:, 0]
    assert both.sum() > 1000
    # Robust weights move with the residuals, and with them the scale, which moves all alike.
    off = change - expected[both]
    assert (off - off.median()).abs().quantile(0.95) < 0.1 * expected.abs().max()


def test_the_outlines_residual_follows_the_head(head: Head, truth: Truth) -> None:
    """Moved to the left by two pixels, on the whole vertices lie two pixels farther out there, and farther in on the
    right."""
    fitter, one = model(head, truth, alone("outline")), torch.tensor([2])
    fitter.unknowns.static = fitter.judged.static_start.clone()  # smooth, so that its normals are its outline's
    targets, camera = fitter.problem.targets[SIZE][one], fitter.parameters.camera(SIZE)
    at = fitter.vertices(one, True)[0]

    def seen(vertices: torch.Tensor) -> Outline:
        rendered = fitter.rendered(vertices[None], SIZE, True)
        valid = torch.ones(SIZE, SIZE)
        return observe(vertices, fitter.problem.edges, rendered, targets, camera, valid=valid).outline

    moved = torch.zeros_like(at)
    moved[:, 0] = 2 * -at[:, 2].mean() / camera.focal
    first, after = seen(at), seen(at + moved)
    number = torch.full((len(at),), -1)
    number[after.vertices] = torch.arange(len(after.vertices))
    both = number[first.vertices] >= 0
    change = after.residual[number[first.vertices[both]]] - first.residual[both]
    expected = (first.jacobian[both] * moved[first.vertices[both]]).sum(1)
    assert both.sum() > 100
    slope = (change * expected).sum() / expected.square().sum()
    assert 0.8 < slope < 1.2


@pytest.mark.parametrize("disparity", [False, True])
def test_the_depths_energy_by_pixels_has_its_gradient(head: Head, truth: Truth, disparity: bool) -> None:
    """For the visibility that is drawn; where scale and shift keep still, as what they would take up is left out."""
    fitter, frames = model(head, truth, alone("normal")), torch.tensor([1, 3])
    drawn = fitter.rendered(fitter.vertices(frames, True), SIZE, True, edges=True)
    targets = fitter.problem.targets[SIZE][frames]
    if disparity:
        targets.disparity, targets.depth = True, 1 / targets.depth.clamp_min(0.5)
    weight = (targets.confidence * targets.mask).flatten()[drawn.index]
    found, metres = drawn.depth, drawn.depth.square() if disparity else torch.ones_like(drawn.depth)

    def energy(at: torch.Tensor) -> torch.Tensor:
        return depth.pixel_energy(replace(drawn, depth=at), targets, weight)

    leaf = found.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(leaf), leaf)
    wobble = gradient / metres
    for k in range(2):
        part = drawn.index // SIZE**2 == k
        basis = torch.stack([targets.depth.flatten()[drawn.index][part], torch.ones(int(part.sum()))], 1)
        wobble[part] -= taken_up(basis, weight[part], wobble[part, None])[:, 0]
    wobble = wobble * metres
    step = 1e-4 / float(wobble.abs().max())
    expected = float(energy(found + step * wobble) - energy(found - step * wobble)) / (2 * step)
    assert expected != 0 and float((gradient * wobble).sum()) == pytest.approx(expected, rel=0.03)
