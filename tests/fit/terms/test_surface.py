"""Landmarks, normals, depth and outline are energies and rows: these are the energies' derivatives."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from benchmarks.made_heads import Truth

from expportrait.fit.model import ClipModel
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.solvers.coarse_equations import CoarseEquations
from expportrait.fit.terms import depth, normals, outline
from expportrait.fit.terms.depth import VertexDepths, taken_up
from expportrait.fit.terms.landmarks import charbonnier
from expportrait.fit.terms.normals import EdgeNormals
from expportrait.fit.terms.outline import Outline
from expportrait.fit.terms.residuals import numbers
from expportrait.fit.terms.surface import observe
from expportrait.head import Head
from expportrait.head.rotation import axis_angle_to_matrix
from tests.fit.terms.make import SIZE, alone, model, stepped


def leaves(fitter: ClipModel, equations: CoarseEquations) -> tuple[torch.Tensor, torch.Tensor, HeadParameters]:
    """Steps of the frames and of the clip, and the parameters after them."""
    own = torch.zeros(fitter.frames, equations.own, dtype=torch.float64, requires_grad=True)
    shared = torch.zeros(equations.shared, dtype=torch.float64, requires_grad=True)
    moved = stepped(fitter.parameters, own, shared)
    single = {name: value.float() for name, value in moved.tensors().items()}
    return own, shared, HeadParameters(**single, size=moved.size)


def pull_of(equations: CoarseEquations, t: int) -> torch.Tensor:
    """(own + shared,) J^T r of a frame's rows."""
    transforms, change = equations.joints(torch.tensor([t]))
    return equations.gram(t, transforms[0], change[0])[: equations.own + equations.shared, -1]


def like(found: torch.Tensor, energy: torch.Tensor, own: torch.Tensor, shared: torch.Tensor, t: int) -> None:
    of_frames, of_clip = torch.autograd.grad(energy, (own, shared))
    expected = torch.cat([of_frames[t], of_clip])
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("dense", [False, True], ids=["bare", "with offsets"])
def test_rows_of_landmarks_are_the_derivative_of_eq_5(head: Head, truth: Truth, dense: bool) -> None:
    fitter, t = model(head, truth, alone("landmark_coarse")), 2
    equations = CoarseEquations(fitter, SIZE, dense)
    found = pull_of(equations, t)
    own, shared, fitter.unknowns.parameters = leaves(fitter, equations)
    points = fitter.landmarks(fitter.vertices(torch.tensor([t]), dense))[0]
    residual = (fitter.parameters.camera().project(points) - fitter.judged.points[t, :, :2]) / fitter.judged.unit[t]
    weight = fitter.judged.weights[t] / fitter.judged.weights.sum(1).mean()
    energy = fitter.settings.w_landmark_coarse * (weight * charbonnier(residual)).sum()
    assert numbers(equations.terms) == {"landmark": pytest.approx(energy.item(), rel=1e-3)}
    like(found, energy, own, shared, t)


@pytest.mark.parametrize("name", ["normal", "depth_coarse", "outline"])
def test_rows_of_the_surface_are_derivatives_by_all_that_moves_it(head: Head, truth: Truth, name: str) -> None:
    """The residuals of edges, depths and outline, with what was sampled in the pictures held still."""
    fitter, t = model(head, truth, alone(name)), 2
    equations, one = CoarseEquations(fitter, SIZE, True), torch.tensor([2])
    found, at = pull_of(equations, t), fitter.vertices(one, True)
    seen = fitter.observed(one, SIZE, True, fitter.problem.edges)
    own, shared, fitter.unknowns.parameters = leaves(fitter, equations)
    n = len(head.coarse.template)
    moved = (fitter.vertices(one, True) - at)[0, :n]
    mine, rim = seen.depth.vertices < n, seen.outline.vertices < n
    i, j = seen.normals.edges.t()
    tilt = seen.normals.residual + (seen.normals.jacobian * (moved[i] - moved[j])).sum(1)
    gap, basis, weight = (
        seen.depth.residual[mine] - moved[seen.depth.vertices[mine], 2],
        seen.depth.basis[mine],
        seen.depth.weight[mine],
    )
    gap = gap - taken_up(basis, weight, gap[:, None])[:, 0]
    excess = seen.outline.residual[rim] + (seen.outline.jacobian[rim] * moved[seen.outline.vertices[rim]]).sum(1)
    energies = {
        "normal": (seen.normals.weight * tilt.square()).sum(),
        "depth_coarse": (weight * gap.square()).sum(),
        "outline": (seen.outline.weight[rim] * excess.square()).sum(),
    }
    like(found, getattr(fitter.settings, f"w_{name}") * energies[name] / 2, own, shared, t)


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


SHARE = 0.7


def again(term: EdgeNormals | VertexDepths | Outline, residual: torch.Tensor) -> torch.Tensor:
    """SHARE times the energy of a term at other residuals, with the same trust in what was seen."""

    def robust(x: torch.Tensor) -> torch.Tensor:
        if isinstance(term, EdgeNormals):
            return (x.square() + normals.ROBUST**2).rsqrt()
        return 1 / (1 + (x / (depth if isinstance(term, VertexDepths) else outline).ROBUST).square())

    weight = term.weight / robust(term.residual) * robust(residual)
    return SHARE * replace(term, residual=residual, weight=weight).energy()


@pytest.mark.parametrize("name", ["normals", "depth", "outline"])
def test_rows_of_the_surface_are_the_derivative_of_its_robust_energy(head: Head, truth: Truth, name: str) -> None:
    """By finite differences of what is recorded, for the coarse head's solver and for the offsets'."""
    fitter = model(head, truth, alone("normal"))
    seen = fitter.observed(torch.tensor([2]), SIZE, True, fitter.problem.dense_edges)
    term = getattr(seen, name)
    term = replace(term, **{k: v.double() for k, v in vars(term).items() if v.is_floating_point()})
    n, g = len(head.dense.template), torch.Generator().manual_seed(2)
    moved, every = torch.randn(n, 3, 4, generator=g).double(), torch.arange(n)
    rows = term.rows(moved, every, SHARE)
    if name == "depth":  # scale and shift are found again where the vertices have moved
        change = -moved[term.vertices, 2]
        change = change - taken_up(term.basis, term.weight, change)
        by_offsets = term.by_offsets(torch.eye(3).double().expand(n, 3, 3))
        assert torch.equal(torch.einsum("mk,mkp->mp", by_offsets, moved[term.vertices]), -moved[term.vertices, 2])
    elif name == "normals":
        i, j = term.edges.t()
        change = torch.einsum("ek,ekp->ep", term.by_offsets(torch.eye(3).double().expand(n, 3, 3)), moved[i] - moved[j])
    else:
        by_offsets = term.by_offsets(torch.eye(3).double().expand(n, 3, 3))
        change = torch.einsum("rk,rkp->rp", by_offsets, moved[term.vertices])
    step = 1e-4 / float(change.abs().max())
    found = [
        (again(term, term.residual + step * each) - again(term, term.residual - step * each)) / (2 * step)
        for each in change.t()
    ]
    expected = torch.stack(found)
    assert len(term.residual) > 20 and float(expected.abs().max()) > 0
    torch.testing.assert_close(rows[:, :-1].t() @ rows[:, -1], expected, rtol=1e-2, atol=1e-3 * float(expected.norm()))


def test_the_bias_has_the_derivative_of_the_normals_energy(head: Head, truth: Truth) -> None:
    fitter = model(head, truth, alone("normal"))
    term = fitter.observed(torch.tensor([2]), SIZE, True, fitter.problem.dense_edges).normals
    term = replace(term, **{k: v.double() for k, v in vars(term).items() if v.is_floating_point()})
    basis = fitter.unknowns.bias.basis.double()
    rows = term.rows(torch.zeros(len(basis), 3, 1).double(), torch.arange(len(basis)), SHARE)
    turn = 1e-3 * torch.randn(basis.shape[1], 2, generator=torch.Generator().manual_seed(0)).double()
    change = (term.bias_jacobian * (basis @ turn)[term.edges].mean(1)).sum(1)
    expected = (again(term, term.residual + change) - again(term, term.residual - change)) / 2
    found = term.bias_rows(basis, SHARE).t() @ rows[:, -1]
    assert float(found @ turn.flatten()) == pytest.approx(float(expected), rel=1e-3)


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


def by_differences(energy: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor, towards: torch.Tensor) -> None:
    """The gradient of ``energy`` that Adam follows, in one direction, is what differences of it show."""
    leaf, step = at.clone().requires_grad_(), 1e-4 / float(towards.abs().max())
    (gradient,) = torch.autograd.grad(energy(leaf), leaf)
    expected = float(energy(at + step * towards) - energy(at - step * towards)) / (2 * step)
    assert expected != 0 and float((gradient * towards).sum()) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("disparity", [False, True])
def test_the_pixels_energies_have_their_gradient(head: Head, truth: Truth, disparity: bool) -> None:
    """For the visibility that is drawn; where scale and shift of the depth keep still."""
    fitter, frames = model(head, truth, alone("normal")), torch.tensor([1, 3])
    drawn = fitter.rendered(fitter.vertices(frames, True), SIZE, True, edges=True)
    targets = fitter.problem.targets[SIZE][frames]
    if disparity:
        targets.disparity, targets.depth = True, 1 / targets.depth.clamp_min(0.5)
    weight, g = (targets.confidence * targets.mask).flatten()[drawn.index], torch.Generator().manual_seed(0)
    bias = fitter.unknowns.bias.at(len(head.dense.template))

    found, wobble = drawn.normals, torch.randn(len(drawn.index), 3, generator=g)
    by_differences(lambda x: normals.pixel_energy(replace(drawn, normals=x), targets, weight, bias), found, wobble)
    found, metres = drawn.depth, drawn.depth.square() if disparity else torch.ones_like(drawn.depth)
    leaf = found.clone().requires_grad_()
    (wobble,) = torch.autograd.grad(depth.pixel_energy(replace(drawn, depth=leaf), targets, weight), leaf)
    wobble = wobble / metres
    for k in range(2):  # of either frame, what scale and shift would take up is left out
        part = drawn.index // SIZE**2 == k
        basis = torch.stack([targets.depth.flatten()[drawn.index][part], torch.ones(int(part.sum()))], 1)
        wobble[part] -= taken_up(basis, weight[part], wobble[part, None])[:, 0]
    wobble = wobble * metres
    by_differences(lambda x: depth.pixel_energy(replace(drawn, depth=x), targets, weight), found, wobble)
    found, wobble = torch.rand(2, SIZE, SIZE).double(), torch.randn(2, SIZE, SIZE, generator=g).double()
    valid = fitter.valid(frames, fitter.vertices(frames, True), fitter.problem.targets[SIZE][frames])
    by_differences(lambda x: outline.pixel_energy(x, targets.mask, valid), found, wobble)
