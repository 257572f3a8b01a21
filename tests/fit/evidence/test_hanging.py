"""Hair that hangs past the ears."""

import numpy as np
import pytest
import torch
from benchmarks.made_heads import Truth, make_truth, mirrored_truth, mirrored_vertices

from expportrait.estimators.geometry.embedded.estimator import EmbeddedEstimator
from expportrait.fit.bias import NormalBias
from expportrait.fit.evidence.growth import ears, grow, hanging_hair
from expportrait.fit.evidence.targets import TargetFile, Targets, target_files
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.proxy import fit_proxy
from expportrait.fit.result import ProxyFit
from expportrait.head import Head
from expportrait.render import render, vertex_normals
from expportrait.settings.config import Proxy

QUICK = Proxy(coarse_size=64, fine_size=128, min_steps=5)
FRAMES = 5
AROUND = 0.02  # m about the ears


@pytest.fixture(scope="module")
def long(head: Head) -> Truth:
    return make_truth(head, FRAMES, yaw=0.4, long_hair="both")


@pytest.fixture(scope="module")
def fit(head: Head, long: Truth) -> ProxyFit:
    return fit_proxy(head, long.targets, long.points, torch.ones(FRAMES), QUICK)


def maps(truth: Truth) -> TargetFile:
    return target_files(truth.targets, {128}, "cpu")[128]


def near_ears(head: Head) -> torch.Tensor:
    """(n_d,) bool: skin about the ears, not above them and not in the face."""
    points, ear = head.dense.template, ears(head) > 0.9
    gap = torch.cdist(points, points[ear]).amin(1)
    names = torch.tensor([head.REGIONS.index(name) for name in ("scalp", "neck")])
    return (gap < AROUND) & (points[:, 1] < points[ear, 1].max()) & torch.isin(head.regions, names)


@pytest.mark.parametrize("sides", ["", "left", "right", "both"])
def test_hair_is_found_on_the_side_where_it_hangs(head: Head, sides: str) -> None:
    truth = make_truth(head, 3, yaw=0.1, long_hair=sides)
    hidden = hanging_hair(head, truth.parameters, maps(truth))
    x, names = head.coarse.template[:, 0].numpy(), np.array(head.REGIONS)[head.regions[: len(hidden)].numpy()]
    for side, where in (("left", x > 0.03), ("right", x < -0.03)):
        expected = 1 if sides in (side, "both") else 0
        ear = where & (ears(head)[: len(hidden)] > 0.9).numpy()
        assert hidden[ear].min() == pytest.approx(expected, abs=0.2) == hidden[ear].max()
    assert hidden[names == "lips", 0].max() == 0
    assert hidden[head.coarse.template[:, 1].numpy() > 0.21].max() == 0


def test_a_head_without_long_hair_is_untouched(head: Head, truth: Truth) -> None:
    assert not hanging_hair(head, truth.parameters, maps(truth)).any()


def test_nothing_grows_around_the_ears_under_long_hair(head: Head, long: Truth) -> None:
    with_hair = grow(head, long.parameters, maps(long), 0.06).norm(dim=1)
    assert with_hair[near_ears(head)].max() < 0.008
    above = (long.static.norm(dim=1) > 0.015) & (head.dense.template[:, 1] > 0.2)
    assert with_hair[above].mean() > 0.012


def test_the_embedded_head_keeps_its_ears_too(head: Head, long: Truth) -> None:
    masks = (255 * long.targets.mask).byte().numpy()
    grown = EmbeddedEstimator(head).grown(long.parameters, masks).norm(dim=1)
    assert grown[near_ears(head)[: len(grown)]].max() < 0.008


def test_the_surface_goes_on_below_long_hair(head: Head, long: Truth, fit: ProxyFit) -> None:
    """No funnel: about the ears, the fitted surface is where the head's is and not where the hair's is."""
    assert fit.static[near_ears(head)].norm(dim=1).mean() < 0.003
    assert fit.set_aside.min() > 0.1
    assert fit.errors["landmark"].max() < 0.02


@pytest.mark.slow
def test_a_mirrored_clip_gives_the_mirrored_head(head: Head, long: Truth) -> None:
    # As many steps as it takes to settle: before, heads are still on their way from where landmarks put them, and the
    # landmarks' embedding is lopsided. About single landmarks D_s is so too, as they draw it.
    settled = QUICK.model_copy(update={"coarse_passes": 6})
    targets, points = mirrored_truth(head, long)
    fit = fit_proxy(head, long.targets, long.points, torch.ones(FRAMES), settled)
    other = fit_proxy(head, targets, points, torch.ones(FRAMES), settled)
    partner, n = mirrored_vertices(head), len(head.coarse.template)

    def neutral(fit: ProxyFit) -> torch.Tensor:
        zero = torch.zeros(1, head.n_expression)
        return (head.dense.canonical(fit.parameters.shape, zero)[0] + fit.static)[:n]

    names = torch.tensor([head.REGIONS.index(name) for name in ("face", "lips", "scalp")])
    gap = neutral(fit) - neutral(other)[partner] * torch.tensor([-1.0, 1, 1])
    gap = gap[torch.isin(head.regions[:n], names)]
    # How long the neck is that hair hides, nothing tells: the pose takes up where the head stands above it.
    assert gap.mean(0).norm() < 1.5e-3
    off = (gap - gap.mean(0)).norm(dim=1)
    assert off.mean() < 2e-4 and off.quantile(0.99) < 8e-4 and off.max() < 1.5e-3


def test_a_mirrored_outline_grows_the_mirrored_hair(head: Head) -> None:
    p = HeadParameters.neutral(head, 1, 128, 400.0)
    p.set_pose(torch.zeros(1, 10, 3), torch.tensor([[0, -0.13, -1.45]]))
    normals = vertex_normals(head.dense.template[None], head.dense_faces)[0]
    hair = 0.02 * (head.regions == head.REGIONS.index("scalp"))[:, None] * normals
    vertices = head.pose(head.dense, p.shape, p.expression, p.matrices(), p.translation(), hair)
    maps = render(vertices, head.dense_faces, p.camera(), cull=True)
    mask = torch.maximum(maps.coverage, maps.coverage.flip(2))
    targets = target_files(Targets(maps.normals, maps.depth, mask, mask), {128}, "cpu")[128]
    partner, n = mirrored_vertices(head), len(head.coarse.template)
    grown = grow(head, p, targets, 0.06)[:n]
    assert grown.norm(dim=1).max() > 0.015
    assert (grown - grown[partner] * torch.tensor([-1.0, 1, 1])).norm(dim=1).max() < 3e-4


def test_the_bias_of_normals_is_as_free_on_either_side(head: Head) -> None:
    basis = NormalBias(head).basis[: len(head.coarse.template)]
    variance = basis.square().sum(1)
    assert (variance - variance[mirrored_vertices(head)]).abs().max() < 1e-3
