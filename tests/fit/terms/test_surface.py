"""Landmarks, normals, depth and outline are energies and rows: these are the energies' derivatives."""

from dataclasses import replace

import pytest
import torch
from benchmarks.made_heads import Truth

from expportrait.fit.terms import depth
from expportrait.fit.terms.depth import VertexDepths, taken_up
from expportrait.fit.terms.outline import Outline
from expportrait.fit.terms.surface import observe
from expportrait.head import Head
from expportrait.head.rotation import axis_angle_to_matrix
from tests.fit.terms.make import SIZE, alone, model


def test_an_edges_tilt_follows_a_turn_of_the_head_and_the_bias(head: Head, truth: Truth) -> None:
    """Seen against normals that are alike everywhere, so that where they are sampled does not matter."""
    fitter, one = model(head, truth, alone("normal")), torch.tensor([2])
    targets, camera = fitter.problem.targets[SIZE][one], fitter.parameters.camera(SIZE)
    targets.normals[:] = torch.nn.functional.normalize(torch.tensor([0.1, 0.2, 1.0]), dim=0)
    targets.mask[:], targets.confidence[:] = 1, 1
    lean = torch.full((len(head.dense.template), 2), 0.03)

    def seen(vertices, lean):
        rendered = fitter.rendered(vertices[None], SIZE, True)
        return observe(vertices, fitter.problem.edges, rendered, targets, camera, bias=lean).normals

    at, step = fitter.vertices(one, True)[0], 1e-2
    turned = (at - at.mean(0)) @ axis_angle_to_matrix(torch.tensor([step, -step, 0.5 * step])).t() + at.mean(0)
    first, after, leaned = seen(at, lean), seen(turned, lean), seen(at, lean + torch.tensor([step, -step]))
    assert torch.equal(first.edges, leaned.edges)
    both = {edge: k for k, edge in enumerate(map(tuple, after.edges.tolist()))}
    rows = [(k, both[edge]) for k, edge in enumerate(map(tuple, first.edges.tolist())) if edge in both]
    old, new = torch.tensor(rows).t()
    i, j = first.edges[old].t()
    expected = (first.jacobian[old] * (turned - at)[i].sub((turned - at)[j])).sum(1)
    change = after.residual[new] - first.residual[old]
    # Of 0.3 mm edges at 1.5 m, single precision leaves some per cent.
    assert len(old) > 1000 and (change - expected).abs().quantile(0.98) < 0.03 * step
    by_bias = first.bias_jacobian @ torch.tensor([step, -step])
    assert (leaned.residual - first.residual - by_bias).abs().max() < 0.02 * step


def test_the_depths_residual_follows_the_head(head: Head, truth: Truth) -> None:
    """Seen against depths that are alike everywhere, so that where they are sampled does not matter."""
    fitter, one = model(head, truth, alone("depth")), torch.tensor([2])
    targets, camera = fitter.problem.targets[SIZE][one], fitter.parameters.camera(SIZE)
    targets.depth[:], targets.mask[:], targets.confidence[:] = 1.5, 1, 1
    targets.anchored[:] = True

    def seen(vertices: torch.Tensor) -> VertexDepths:
        rendered = fitter.rendered(vertices[None], SIZE, True)
        return observe(vertices, fitter.problem.edges, rendered, targets, camera).depth

    at = fitter.vertices(one, True)[0]
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
    # Robust weights move with the residuals, and with them the scale a little.
    assert (change - expected[both]).abs().quantile(0.98) < 0.1 * expected.abs().max()


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
