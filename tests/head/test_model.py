"""The bust's forward pass, against the smplx package and against itself."""

import numpy as np
import pytest
import torch

from expportrait.errors import UserError
from expportrait.head import JOINTS, Head
from expportrait.head import smplx_reference as reference
from expportrait.head.smplx import fold_spine, from_smplx, rotations, to_smplx


def random_motion(head: Head, frames: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=generator)

    translation = torch.tensor([0.1, -0.2, -1.5]) + 0.1 * draw(frames, 3)
    return draw(head.n_shape), draw(frames, head.n_expression), 0.4 * draw(frames, len(JOINTS), 3), translation


def test_bust_equals_smplx(corrective_file):
    """Every joint turned, random shape, expression and pose correctives: the bust's vertices are smplx's own."""
    pytest.importorskip("smplx")
    head = Head.load(corrective_file, subdivisions=0)
    assert head.coarse.pose_basis is not None
    shape, expression, pose, translation = random_motion(head, 4)
    ours = head.pose(head.coarse, shape, expression, rotations(pose), translation)
    theirs = reference.vertices(reference.load(corrective_file), head, shape, expression, pose, translation)
    kept = head.body_vertex >= 0
    error = (ours[:, kept] - theirs[:, head.body_vertex[kept]]).norm(dim=-1)
    assert kept.sum() > 5000
    assert error.max() < 1e-5, f"{error.max():.2e} m"
    still = head.pose(head.coarse, shape, expression, torch.eye(3).expand(4, 10, 3, 3), translation)
    assert (still - ours).norm(dim=-1).median() > 0.05  # the pose did something


def test_root_turns_about_the_neck(head):
    shape, expression, pose, translation = random_motion(head, 3)
    pose[:, 1:] = 0
    neck = head.joints(shape, expression)[:, 0]
    transforms = head.transforms(shape, expression, rotations(pose), translation)
    moved = (transforms[:, 0, :, :3] @ neck[..., None])[..., 0] + transforms[:, 0, :, 3]
    torch.testing.assert_close(moved, neck + translation, atol=1e-6, rtol=0)


def test_translations_convert_both_ways(head):
    shape, expression, pose, translation = random_motion(head, 5)
    there = to_smplx(head, shape, expression, pose[:, 0], translation)
    assert (there - translation).abs().max() > 0.05
    back = from_smplx(head, shape, expression, pose[:, 0], there)
    torch.testing.assert_close(back, translation, atol=1e-6, rtol=0)


def test_bent_spine_folds_into_the_root(corrective_file):
    """Head and neck stand where smplx puts them with a bent spine (correctives aside: they are not folded)."""
    head = Head.load(None, subdivisions=0)
    shape, expression, pose, transl = random_motion(head, 3, seed=1)
    spine = 0.3 * torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(2))
    turn, folded = fold_spine(head, shape, expression, pose[:, 0], transl, spine)
    joints = head.joints(shape, expression)
    pelvis, spines, neck = joints[:, 10], joints[:, 11:14], joints[:, 0]
    chain = [pelvis, *spines.unbind(1), neck]
    rotation, at = rotations(pose[:, 0]), pelvis + transl
    for k in range(1, 5):
        at = at + torch.einsum("tij,tj->ti", rotation, chain[k] - chain[k - 1])
        if k < 4:
            rotation = rotation @ rotations(spine[:, k - 1])
    straight = pelvis + folded + torch.einsum("tij,tj->ti", turn, neck - pelvis)
    torch.testing.assert_close(turn, rotation, atol=1e-5, rtol=0)
    torch.testing.assert_close(straight, at, atol=1e-5, rtol=0)


def test_dense_mesh_refines_the_coarse_one(head):
    """At rest the dense mesh is the upsampled coarse one, posed it stays near, and both have the same outside."""
    n, dense = len(head.coarse.template), head.dense
    torch.testing.assert_close(head.upsample @ head.coarse.template, dense.template, atol=1e-6, rtol=0)
    assert len(head.dense_faces) == 4 * len(head.faces)
    shape, expression, pose, translation = random_motion(head, 2)
    fine = head.pose(dense, shape, expression, rotations(pose), translation)
    coarse = head.pose(head.coarse, shape, expression, rotations(pose), translation)
    torch.testing.assert_close(fine[:, :n], coarse, atol=1e-6, rtol=0)

    def area(vertices, faces):
        a, b, c = vertices[faces].unbind(1)
        return torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2

    torch.testing.assert_close(area(dense.template, head.dense_faces), area(head.coarse.template, head.faces))


def test_hem_is_one_clean_loop(head):
    """The hem is one closed curve, hardly longer than the chords over each five of its edges: no saw-teeth."""
    faces = head.faces.numpy()
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    border = edges[count == 1]
    template = head.coarse.template.numpy()
    hem = border[template[border].mean(1)[:, 1] < -0.03]
    neighbours: dict[int, list[int]] = {}
    for a, b in hem.tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    assert all(len(n) == 2 for n in neighbours.values())
    start = at = hem[0, 0]
    loop, before = [at], None
    while (at := next(n for n in neighbours[at] if n != before)) != start:
        before = loop[-1]
        loop.append(at)
    assert len(loop) == len(hem)
    curve = template[[*loop, loop[0]]]
    length, chords = (np.linalg.norm(np.diff(curve[::k], axis=0), axis=1).sum() for k in (1, 5))
    assert len(loop) > 100 and length < 1.06 * chords


def test_gradients_reach_every_parameter(head):
    shape, expression, pose, translation = random_motion(head, 2)
    inputs = [x.requires_grad_() for x in (shape, expression, rotations(pose), translation)]
    offset = torch.zeros_like(head.coarse.template, requires_grad=True)
    head.pose(head.coarse, *inputs, offset=offset).square().sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in (*inputs, offset))


def test_skinning_matches_the_plain_formula(head):
    """Eq. (4) written out, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    canonical = torch.randn(3, 478, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    transforms = torch.randn(3, 10, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    surface = head.landmarks.__class__(**{k: v if v is None else v.double() for k, v in vars(head.landmarks).items()})
    fast = surface.skin(canonical, transforms)
    blended = torch.einsum("nj,tjik->tnik", surface.weights, transforms)
    plain = torch.einsum("tnik,tnk->tni", blended[..., :3], canonical) + blended[..., 3]
    torch.testing.assert_close(fast, plain)
    for a, b in zip(*(torch.autograd.grad(x.cos().sum(), (canonical, transforms)) for x in (fast, plain)), strict=True):
        torch.testing.assert_close(a, b)


def test_named_face_units(head):
    still = torch.zeros(head.n_shape)
    neutral = head.landmarks.canonical(still, torch.zeros(1, head.n_expression))[0]
    smile = head.landmarks.canonical(still, head.expression_of({"smile": 1.0})[None])[0]
    right, left = 61, 291  # corners of the mouth
    assert (smile - neutral)[[right, left], 1].min() > 0.004  # up
    assert (smile - neutral)[left, 0] > 0.003 > -0.003 > (smile - neutral)[right, 0]  # and apart
    blink = head.landmarks.canonical(still, head.expression_of({"eyeBlinkLeft": 1.0})[None])[0]
    opening = (neutral - blink)[[159, 386], 1]  # upper lids, right and left
    assert opening[1] > 0.004 and abs(opening[0]) < 0.001
    both = head.expression_of({"eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.5})
    torch.testing.assert_close(head.expression_of({"blink": 0.5}), both)
    with pytest.raises(UserError, match="wink"):
        head.expression_of({"wink": 1.0})


def test_coefficients_tell_the_units_that_made_them(head):
    wanted = torch.zeros(len(head.unit_names))
    wanted[head.unit_names.index("browInnerUp")], wanted[head.unit_names.index("mouthFrownLeft")] = 0.7, 0.2
    found = head.expression_of({"browInnerUp": 0.7, "mouthFrownLeft": 0.2}) @ head.activation_matrix
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_jaw_joint_opens_the_mouth(head):
    pose = torch.zeros(1, 10, 3)
    pose[:, JOINTS.index("jaw"), 0] = 0.3
    points = head.pose(
        head.landmarks, torch.zeros(head.n_shape), torch.zeros(1, head.n_expression), rotations(pose), torch.zeros(1, 3)
    )[0]
    rest = head.landmarks.template
    gap = (points[13, 1] - points[14, 1]) - (rest[13, 1] - rest[14, 1])
    assert 0.015 < gap < 0.04  # inner lips, m
    assert (points - rest)[[10, 151, 9, 33, 263, 4], :].norm(dim=1).max() < 1e-3  # forehead, eyes and nose stay
