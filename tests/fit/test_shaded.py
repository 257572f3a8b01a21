"""Maps whose face is another fitted head's: D_t is held against the shading of the pictures instead."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.made_heads import Truth, make_truth

from expportrait.fit.evidence.targets import Targets
from expportrait.fit.model import ClipModel
from expportrait.fit.problem import Problem
from expportrait.fit.proxy import fit_proxy
from expportrait.fit.shaded import shaded_maps
from expportrait.head import Head
from expportrait.render import render, vertex_normals
from expportrait.settings.config import Proxy

SIZE = 128
QUICK = Proxy(coarse_size=64, fine_size=SIZE, min_steps=5)
LIGHT = torch.nn.functional.normalize(torch.tensor([0.8, 0.5, 0.6]), dim=0)


def bald(head: Head) -> tuple[Truth, ClipModel]:
    """Two frames of a head without offsets, and its fit as it should be."""
    truth = make_truth(head, 2, SIZE, hair=0.0)
    model = ClipModel(Problem.of(head, truth.targets, truth.points, torch.ones(2), QUICK))
    model.unknowns.parameters = truth.parameters.copy()
    return truth, model


def creased(head: Head, model: ClipModel, depth: float) -> torch.Tensor:
    """(1, n_d, 3) m: frame 1 with upright creases across the lower forehead, ``depth`` m deep."""
    vertices, at = model.vertices(slice(1, 2), True), head.dense.template
    middle = head.landmarks.template[9]  # between the brows, a little above
    near = torch.exp(-((at - middle) / 0.012).square().sum(1))
    wave = near * torch.cos((at - middle)[:, 0] / 0.0025)
    return vertices + depth * wave[:, None] * vertex_normals(vertices, head.dense_faces)


def drawn(head: Head, model: ClipModel, vertices: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """Normals (S, S, 3), and the picture of them under one light, u8 RGB."""
    normals = render(vertices, head.dense_faces, model.camera(SIZE), cull=True).normals[0]
    lit = 0.55 * (0.3 + 0.7 * (normals @ LIGHT).clamp(0, 1)) ** (1 / 2.2)
    return normals, (255 * lit).round().byte()[..., None].expand(-1, -1, 3).numpy()


def test_a_crease_that_the_picture_shows_is_in_the_maps_of_its_frame(head: Head) -> None:
    truth, model = bald(head)
    smooth = [model.vertices(slice(t, t + 1), True) for t in range(2)]
    rough = creased(head, model, 0.0012)
    pictures = np.stack([drawn(head, model, x)[1] for x in (smooth[0], rough)])
    shown = ClipModel(replace(model.problem, pictures=pictures), truth.parameters.copy())
    maps = shaded_maps(shown, {SIZE})[SIZE]
    own, wanted = (drawn(head, model, x)[0] for x in (smooth[1], rough))
    moved = ((wanted - own).norm(dim=-1) > 0.1) & (truth.targets.mask[1] > 0.5)
    assert moved.sum() > 20
    found, before = ((x - wanted)[moved].norm(dim=-1).mean() for x in (maps[1:2].normals[0], own))
    assert found < 0.8 * before
    still = drawn(head, model, smooth[0])[0]
    off = (maps[0:1].normals[0] - still).norm(dim=-1)[truth.targets.mask[0] > 0.9]
    assert off.mean() < 0.03, "nothing is made up where the picture shows no crease"


def test_masks_and_confidence_stay_and_the_depth_is_the_heads(head: Head) -> None:
    truth, model = bald(head)
    maps, before = shaded_maps(model, {64, SIZE}), model.problem.targets[SIZE]
    assert maps[64].size == 64 and torch.equal(maps[64][:].mask, model.problem.targets[64][:].mask)
    maps = maps[SIZE]
    assert torch.equal(maps[:].mask, before[:].mask) and torch.equal(maps[:].confidence, before[:].confidence)
    known = truth.targets.mask > 0.9
    assert (maps[:].depth - before[:].depth)[known].abs().median() < 1e-3  # the truth's own head was drawn


@pytest.fixture(scope="module")
def leaning(head: Head, truth: Truth) -> Targets:
    """Normals of the face that lean otherwise in every frame, as those of another head's expressions do."""
    y, x = torch.meshgrid(*(torch.linspace(-4, 4, SIZE),) * 2, indexing="ij")
    phase = torch.arange(6.0)[:, None, None]
    lean = 0.25 * torch.stack([(x + 2 * phase).sin(), (y + 3 * phase).cos(), 0 * (x + phase)], -1)
    normals = torch.nn.functional.normalize(truth.targets.normals + lean, dim=-1) * (truth.targets.mask > 0)[..., None]
    return replace(truth.targets, normals=normals)


def test_what_two_fitted_heads_disagree_in_is_no_wrinkle(head: Head, truth: Truth, leaning: Targets) -> None:
    sizes = []
    for fitted in (False, True):
        targets = replace(leaning, fitted_face=fitted)
        fit = fit_proxy(head, targets, truth.points, torch.ones(6), QUICK)
        sizes.append(fit.dynamic[:].square().mean().sqrt())
        assert fit.errors["normal_deg"].mean() > 2, "the error told is that to the maps as they came"
    assert sizes[1] < 0.2 * sizes[0]


def test_a_single_portrait_keeps_what_its_maps_say(head: Head) -> None:
    truth = make_truth(head, 1, SIZE)
    fits = [fit_proxy(head, replace(truth.targets, fitted_face=fitted), truth.points, torch.ones(1), QUICK)
            for fitted in (False, True)]  # fmt: skip
    assert torch.equal(fits[0].dynamic[:], fits[1].dynamic[:])
