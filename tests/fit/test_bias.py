import torch
import torch.nn.functional as F
from benchmarks.made_heads import Truth

from expportrait.fit.bias import NormalBias, unbiased
from expportrait.fit.evidence.targets import Targets
from expportrait.fit.proxy import ProxyFitter
from expportrait.head import Head
from expportrait.render import render
from expportrait.settings.config import Proxy
from tests.fit.terms.make import weighing

QUICK = Proxy(coarse_size=64, fine_size=128, dynamic_passes=0, final_passes=0)
REACH = 0.05  # m


def leaning(head: Head, truth: Truth) -> tuple[Targets, torch.Tensor]:
    """Normals that lean by 4 degrees, in all frames the same way on the same part of the head; and the lean, (n, 2)."""
    x = head.dense.template
    lean = 0.07 * torch.stack([(x[:, 0] / REACH).cos(), (x[:, 1] / REACH + x[:, 0] / REACH).sin()], 1)
    p = truth.parameters
    vertices = head.pose(head.dense, p.shape, p.expression, p.matrices(), p.translation(), truth.static)
    maps = render(vertices, head.dense_faces, p.camera(), {"lean": F.pad(lean, (0, 1))}, cull=True)
    normals, *others = truth.targets.maps()
    return Targets(F.normalize(normals + torch.linalg.cross(maps.attributes["lean"], normals), dim=-1), *others), lean


def test_a_turn_is_taken_back() -> None:
    normals = F.normalize(torch.randn(50, 3), dim=-1)
    turn = 0.05 * torch.randn(50, 2)
    leaned = F.normalize(normals + torch.linalg.cross(F.pad(turn, (0, 1)), normals), dim=-1)
    assert (unbiased(leaned, turn) - normals).norm(dim=1).max() < 0.03
    assert (unbiased(torch.zeros(50, 3), turn) == 0).all()


def test_the_field_is_smooth_and_as_large_as_its_coefficients(head: Head) -> None:
    bias = NormalBias(head)
    variance = bias.basis.square().sum(1)
    assert 0.7 < variance[head.facial > 0.9].mean() <= 1.01 and bias.degrees() == 0
    bias.turn = torch.randn(bias.turn.shape, generator=torch.Generator().manual_seed(0))
    a, b = (head.dense_faces[:, k] for k in (0, 1))
    length = (head.dense.template[a] - head.dense.template[b]).norm(dim=1)
    change = (bias.at(len(variance))[a] - bias.at(len(variance))[b]).norm(dim=1)
    assert (change < 6 * length / REACH).all()


def test_what_leans_in_all_frames_is_the_estimators(head: Head, truth: Truth) -> None:
    """The head comes nearer to the true one, and the lean itself is found."""
    targets, lean = leaning(head, truth)
    face = head.facial > 0.9
    neutral = head.dense.canonical(truth.parameters.shape, torch.zeros(1, head.n_expression))[0] + truth.static

    def run(weight: float) -> tuple[float, ProxyFitter]:
        settings = weighing(QUICK, normal_bias=weight)
        fitter = ProxyFitter(head, targets, truth.points, torch.ones(6), settings)
        fit = fitter.run()
        found = head.dense.canonical(fit.parameters.shape, torch.zeros(1, head.n_expression))[0] + fit.static
        off = (found - neutral)[face]
        return float((off - off.mean(0)).norm(dim=1).mean()), fitter

    (off, fitter), (held, still) = run(QUICK.weights.normal_bias), run(1e6)
    found = fitter.model.unknowns.bias.at(len(lean))[face]
    assert off < 0.9 * held
    assert F.cosine_similarity(found.flatten(), lean[face].flatten(), 0) > 0.8
    assert still.model.unknowns.bias.degrees() < 0.1 and 1 < fitter.model.unknowns.bias.degrees() < 5
