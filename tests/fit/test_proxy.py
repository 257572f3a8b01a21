from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.made_heads import Truth, clip_model, make_truth

from expportrait.errors import ClipError
from expportrait.fit.dynamic import DynamicField
from expportrait.fit.evaluate import evaluate
from expportrait.fit.evidence.targets import Targets, target_files
from expportrait.fit.judge import start_static
from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.fit.model import ClipModel
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.problem import Problem, hem
from expportrait.fit.proxy import ProxyFitter, Step, fit_proxy
from expportrait.fit.result import ProxyFit
from expportrait.fit.solvers.integrate import Integrator
from expportrait.fit.solvers.newton import Tell, coarse_step
from expportrait.fit.spool import FrameFile
from expportrait.fit.store import TERMS, load_proxy, parameters_of, save_proxy
from expportrait.fit.terms.table import BARE, DRESSED, STEPS
from expportrait.fit.tracked import read_tracked
from expportrait.head import Head
from expportrait.head.smplx import to_smplx
from expportrait.settings.config import Proxy
from expportrait.settings.sections import Weights
from expportrait.store import Store, StoreWriter
from tests.fit.terms.make import weighing

COARSE = ("landmark", "depth", "expression", "focal")  # weights of the same terms in Gauss-Newton's stages
QUICK = Proxy(coarse_size=64, fine_size=128, min_steps=5)


@pytest.fixture(scope="session")
def fit(head: Head, truth: Truth) -> ProxyFit:
    return fit_proxy(head, truth.targets, truth.points, torch.ones(6), QUICK)


def coarse_errors(head: Head, truth: Truth) -> dict[str, torch.Tensor]:
    model = clip_model(head, truth, QUICK)
    model.unknowns.parameters = fit_landmarks(head, model.problem.detected, model.problem.confidence, 128, QUICK)
    return evaluate(model, QUICK.fine_size, dense=False)


def test_offsets_beat_the_coarse_head(head: Head, truth: Truth, fit: ProxyFit) -> None:
    coarse = coarse_errors(head, truth)
    assert fit.errors["normal_deg"].mean() < 0.8 * coarse["normal_deg"].mean()
    assert fit.errors["overlap"].mean() > coarse["overlap"].mean() + 0.01
    assert fit.errors["landmark"].max() < 0.02


def test_hair_grows_where_it_is(head: Head, truth: Truth, fit: ProxyFit) -> None:
    crown = (truth.static.norm(dim=-1) > 0.018).nonzero().squeeze(-1)
    grown = (fit.static[crown] * torch.nn.functional.normalize(truth.static[crown], dim=-1)).sum(-1)
    assert 0.01 < grown.mean() < 0.03
    face = head.regions == head.REGIONS.index("face")
    assert fit.static[face].norm(dim=-1).mean() < 0.004


def test_eyes_look_and_close_as_they_do(head: Head, truth: Truth, fit: ProxyFit) -> None:
    def eyes(p: HeadParameters) -> torch.Tensor:
        return head.transforms(p.shape, p.expression, p.matrices(), p.translation())[:, 4:6, :, 2]

    def opening(p: HeadParameters) -> torch.Tensor:
        points = head.pose(head.landmarks, p.shape, p.expression, p.matrices(), p.translation())
        return (points[:, [159, 386]] - points[:, [145, 374]]).norm(dim=-1).mean(1)

    off = torch.rad2deg((eyes(fit.parameters) * eyes(truth.parameters)).sum(-1).clamp(-1, 1).acos())
    open_ = torch.arange(6) != 3
    assert off[open_].mean() < 4
    found, true = opening(fit.parameters), opening(truth.parameters)
    wide = true[open_].mean() - true[3]
    assert wide > 0.002 and (found - true).abs().max() < 0.55 * wide  # in one frame: slower ones close further


def test_dynamic_field_is_zero_mean_and_masked(head: Head, fit: ProxyFit) -> None:
    assert fit.dynamic[:].abs().max() > 0
    assert fit.dynamic[:].mean(0).abs().max() < 1e-6
    still = torch.isin(head.regions, torch.tensor([head.REGIONS.index(name) for name in ("eye", "teeth", "tongue")]))
    assert fit.offset(slice(None))[:, still].abs().max() == 0


def test_the_store_tells_what_was_seen(head: Head, fit: ProxyFit) -> None:
    """Half of the face's vertices, on the whole, as lips and nostrils hide many; nothing of the back of the head."""
    depth = head.dense.template[:, 2]
    scalp = head.regions == head.REGIONS.index("scalp")
    back = scalp & (depth < depth[scalp].min() + 0.03)
    assert fit.evidence[head.facial > 0.9].mean() > 0.45 and back.sum() > 50
    assert (fit.evidence[back] == 0).all()
    assert fit.set_aside.max() < 0.02


def test_every_loss_falls_and_is_recorded(fit: ProxyFit) -> None:
    for stage, term in (("landmarks", "total"), ("coarse", "total"), ("static", "normal")):
        values = [terms[term] for name, terms in fit.losses if name == stage]
        assert values[-1] < values[0]


def test_every_weighted_term_is_recorded_and_the_total_is_their_sum(fit: ProxyFit) -> None:
    """Of every stage all that has a weight there, so that its total is one sum and not several."""
    told = {stage: {frozenset(terms) for found, terms in fit.losses if found == stage} for stage, _ in fit.losses}
    of_units = {"activation", "blendshapes"}  # of heads with all of their units, which this one has not
    priors, smooth = {*TERMS["priors"]} - of_units, {*TERMS["smoothness"]}
    static = {"static_magnitude", "static_tangent", "static_laplacian", "strain"}
    dynamic = {"dynamic_magnitude", "dynamic_tangent", "dynamic_laplacian", "dynamic_strain"}
    coarse = {"total", "landmark"} | priors - {"normal_bias"} | smooth - {"temporal_offset"}
    surface = coarse | {"normal", "depth"}
    assert told["rigid"] == {frozenset({"total", "landmark"} | smooth - {"temporal_offset"})}
    assert told["landmarks"] == {frozenset(coarse)} and told["coarse"] == {frozenset(surface)}
    with_static = surface | {"outline", "normal_bias"} | static
    assert told["static"] == {frozenset(with_static)}
    assert told["dynamic"] == {frozenset(with_static), frozenset(with_static - {"outline"} | dynamic)}
    pixels = (with_static - {"outline"}) | dynamic | {"silhouette", "temporal_offset"}
    assert told["final"] == {frozenset(pixels)}
    for stage, terms in told.items():
        taken = {term for kind in STEPS.values() if stage in kind.stages for term in kind.terms}
        assert taken - of_units <= frozenset().union(*terms), stage
    weights = {*Weights.model_fields} - {f"{name}_coarse" for name in COARSE} - of_units
    assert {name for names in told.values() for terms in names for name in terms} - {"total"} == weights
    for _, terms in fit.losses:
        assert terms["total"] == pytest.approx(sum(terms.values()) - terms["total"])


def test_what_is_recorded_is_the_weighted_energy(head: Head, truth: Truth) -> None:
    """Twice the weight, at the same place: twice the value; each of the linear solvers, at its first step."""
    names = ("torso_motion", "strain", "normal", "outline", "depth_coarse", "depth")
    told = []
    for factor in (1, 2):
        weights = {name: factor * getattr(QUICK.weights, name) for name in names}
        model = clip_model(head, truth, weighing(QUICK, **weights))
        model.unknowns.parameters = truth.parameters.copy()
        start_static(model, 128)
        u = model.unknowns
        u.static = u.static + 0.001
        told.append((Integrator(model, 128).static_step(torch.arange(6)), None))
        u.parameters, u.static = truth.parameters.copy(), model.judged.static_start + 0.001
        u.bias.turn = torch.zeros_like(u.bias.turn)
        told[-1] = told[-1][0], coarse_step(model, 128, DRESSED)
    for one, two in zip(*told, strict=True):
        for name in {"normal", "outline", "depth"} | ({"strain"} & one.keys()):
            assert two[name] == pytest.approx(2 * one[name], rel=1e-3)
        assert two.get("shape") == one.get("shape")


def test_a_single_portrait_has_both_fields(head: Head) -> None:
    truth = make_truth(head, 1)
    fit = fit_proxy(head, truth.targets, truth.points, torch.ones(1), QUICK)
    assert len(fit.dynamic) == 1 and torch.isfinite(fit.offset(slice(None))).all()
    assert fit.static.norm(dim=-1).max() > 0.005 and fit.errors["landmark"].max() < 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same_head(truth: Truth, fit: ProxyFit) -> None:
    head = Head.load().to("cuda")
    found = fit_proxy(head, truth.targets, truth.points, torch.ones(6), QUICK)
    assert found.static.is_cuda and (found.static.cpu() - fit.static).norm(dim=-1).mean() < 1e-3
    assert abs(float(found.errors["normal_deg"].mean()) - float(fit.errors["normal_deg"].mean())) < 0.5


def test_a_zero_weight_switches_its_loss_off(head: Head, truth: Truth) -> None:
    silent = weighing(QUICK.model_copy(update={"static_passes": 0, "dynamic_passes": 0}), silhouette=0.0)
    fit = fit_proxy(head, truth.targets, truth.points, torch.ones(6), silent)
    assert fit.losses[-1][0] == "final" and "silhouette" not in fit.losses[-1][1]


def test_store_round_trip(head: Head, fit: ProxyFit, tmp_path) -> None:
    with StoreWriter(tmp_path / "a.zarr", {"key": "k"}) as out:
        save_proxy(out, fit, head)
    loaded = load_proxy(Store(tmp_path / "a.zarr"), head)
    p = fit.parameters
    ours = head.pose(head.dense, p.shape, p.expression, p.matrices(), p.translation(), fit.offset(slice(None)))
    assert (loaded.vertices() - ours).abs().max() < 2e-5
    assert torch.allclose(parameters_of(loaded).translation(), p.translation(), atol=1e-5)


def smplx_file(head: Head, p: HeadParameters, path, **changes) -> None:
    pose = p.pose()
    body = torch.zeros(p.frames, 63)
    body[:, 33:36], body[:, 42:45] = pose[:, 1], pose[:, 2]
    values = {
        "betas": p.shape,
        "expression": p.expression,
        "global_orient": pose[:, 0],
        "body_pose": body,
        "jaw_pose": pose[:, 3],
        "leye_pose": pose[:, 4],
        "reye_pose": pose[:, 5],
        "transl": to_smplx(head, p.shape, p.expression, pose[:, 0], p.translation()),
        "focal_length": p.log_focal.exp(),
    }
    values = {key: value.numpy() for key, value in values.items()} | changes
    np.savez(path, **{key: value for key, value in values.items() if value is not None})


def test_pretracked_parameters_start_the_fit_where_they_say(head: Head, truth: Truth, tmp_path) -> None:
    smplx_file(head, truth.parameters, tmp_path / "a.npz")
    start = read_tracked(tmp_path / "a.npz", head, 6, 128)
    p = truth.parameters
    ours = head.pose(head.landmarks, p.shape, p.expression, p.matrices(), p.translation())
    theirs = head.pose(head.landmarks, start.shape, start.expression, start.matrices(), start.translation())
    assert (ours - theirs).abs().max() < 1e-4
    only_offsets = QUICK.model_copy(update={"coarse_passes": 0, "dynamic_passes": 0, "final_passes": 0})
    fit = fit_proxy(head, truth.targets, truth.points, torch.ones(6), only_offsets, start=start)
    assert not any(name == "landmarks" for name, _ in fit.losses)
    assert torch.equal(fit.parameters.expression, start.expression)
    assert fit.errors["landmark"].max() < 0.02


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"betas": None}, "betas"),
        ({"expression": np.zeros((4, 10))}, "expression"),
        ({"transl": np.zeros((6, 2))}, "transl"),
    ],
)
def test_a_wrong_tracking_file_names_its_key(head: Head, truth: Truth, tmp_path, changes, word) -> None:
    smplx_file(head, truth.parameters, tmp_path / "a.npz", **changes)
    with pytest.raises(ClipError, match=word):
        read_tracked(tmp_path / "a.npz", head, 6, 128)
    with pytest.raises(ClipError, match="missing"):
        read_tracked(tmp_path / "b.npz", head, 6, 128)


def test_hem_is_one_loop_below_the_neck(head: Head) -> None:
    assert 40 < len(hem(head)) < 600
    assert (head.coarse.template[hem(head), 1] < head.joint_template[0, 1]).all()


@pytest.mark.parametrize("offsets", ["none", "dynamic"])
def test_ablations_leave_out_what_they_say(head: Head, offsets: str) -> None:
    truth = make_truth(head, 3)
    short = {"static_passes": 1, "dynamic_passes": 1, "final_passes": 0, "min_steps": 4, "coarse_passes": 1}
    settings = QUICK.model_copy(update=short | {"offsets": offsets})
    fit = fit_proxy(head, truth.targets, truth.points, torch.ones(3), settings)
    assert fit.static.abs().max() == 0
    hair = truth.static.norm(dim=-1) > 0.018
    grown = fit.offset(slice(None))[:, hair].norm(dim=-1)
    assert grown.max() == 0 if offsets == "none" else grown.mean() > 0.0005


def test_without_disentanglement_both_fields_act_everywhere(head: Head) -> None:
    truth = make_truth(head, 3)
    short = {"static_passes": 1, "dynamic_passes": 1, "final_passes": 0, "min_steps": 8, "coarse_passes": 1}
    settings = QUICK.model_copy(update=short | {"disentangle": False})
    fit = fit_proxy(head, truth.targets, truth.points, torch.ones(3), settings)
    hair = truth.static.norm(dim=-1) > 0.018
    assert torch.isin(hair.nonzero().squeeze(-1), fit.dynamic_vertices).all()
    assert fit.dynamic[:].mean(0).abs().max() > 1e-6


def test_a_batch_of_frames_reads_what_was_written() -> None:
    file = FrameFile(5, (2, 3))
    assert not file[:].any()
    rows = torch.rand(2, 2, 3)
    file[torch.tensor([3, 1])] = rows
    assert torch.equal(file[torch.tensor([1, 3])], rows.flip(0)) and not file[torch.tensor([0, 2, 4])].any()
    assert torch.equal(file[1:4][[0, 2]], rows.flip(0))


def test_dynamic_offsets_move_by_their_own_frames_alone() -> None:
    field = DynamicField(4, 3)
    field.load(torch.tensor([1, 3]))
    field.step(torch.ones(2, 3, 3), 0.1)
    assert torch.allclose(field[torch.tensor([1, 3])], torch.full((2, 3, 3), -0.1), atol=1e-6)
    assert not field[torch.tensor([0, 2])].any()
    assert torch.allclose(field.mean(), field[:].mean(0))


def test_stored_estimates_equal_those_in_memory(truth: Truth) -> None:
    files = target_files(truth.targets, {64}, "cpu")
    whole, read = truth.targets.resized(64), files[64][torch.tensor([4, 1])]
    assert read.frames == 2 and (read.normals - whole.normals[[4, 1]]).abs().max() < 1e-3
    assert torch.equal(read.depth, whole.depth[[4, 1]])
    assert (read.mask - whole.mask[[4, 1]]).abs().max() <= 0.5 / 255 + 1e-6


def test_gauss_newton_brings_the_head_closer(head: Head, truth: Truth) -> None:
    bald = make_truth(head, 5, hair=0.0)
    model = clip_model(head, bald, QUICK)
    model.unknowns.parameters = fit_landmarks(
        head, model.problem.detected, model.problem.confidence, 128, Proxy(landmark_steps=20)
    )
    before = evaluate(model, 128, dense=False)
    first = coarse_step(model, 128, BARE)
    last = [coarse_step(model, 128, BARE) for _ in range(3)][-1]
    after = evaluate(model, 128, dense=False)
    assert last["landmark"] < first["landmark"] and last["normal"] < 0.5 * first["normal"]
    assert after["normal_deg"].mean() < 0.6 * before["normal_deg"].mean()


def test_at_the_truth_nothing_moves(head: Head, truth: Truth) -> None:
    model = clip_model(head, truth, QUICK)
    model.unknowns.parameters, model.unknowns.static = truth.parameters.copy(), truth.static.clone()
    model.judged = replace(model.judged, static_start=truth.static.clone())
    Integrator(model, 128).static_step(torch.arange(6))
    assert (model.unknowns.static - truth.static).norm(dim=-1).mean() < 1e-3


def test_tilted_normals_do_not_slide_the_face(head: Head, truth: Truth) -> None:
    normals, *others = truth.targets.maps()
    tilt = 0.1 * torch.sin(torch.arange(128) / 8)[:, None].expand(128, 128)
    turned = torch.stack([normals[..., 0], normals[..., 1] + tilt, normals[..., 2]], -1) * normals.any(-1, keepdim=True)
    targets = Targets(torch.nn.functional.normalize(turned, dim=-1), *others)

    def slid(**weights: float) -> float:
        settings = weighing(QUICK, **weights)
        model = ClipModel(Problem.of(head, targets, truth.points, torch.ones(6), settings))
        model.unknowns.parameters = truth.parameters.copy()
        start_static(model, 128)
        Integrator(model, 128).static_step(torch.arange(6))
        moved = model.judged.along @ (model.unknowns.static - model.judged.static_start)[..., None]
        return float(moved[model.problem.dynamic_vertices].norm(dim=1).mean())

    assert slid() < 0.5 * slid(static_tangent=0.0, landmark=0.0)


def test_landmarks_tell_where_on_the_surface_a_vertex_lies(head: Head, truth: Truth) -> None:
    """All points lie 2 % of an eye corners' distance aside; what normals and depth say stays as it is."""

    def beside(landmark: float) -> float:
        settings = weighing(QUICK, landmark=landmark)
        model = ClipModel(Problem.of(head, truth.targets, truth.points, torch.ones(6), settings))
        aside = torch.tensor([0.02, 0.0, 0.0]) * model.judged.unit
        model.judged = replace(model.judged, points=model.judged.points + aside)
        model.unknowns.parameters = truth.parameters.copy()
        start_static(model, 128)
        for _ in range(2):
            Integrator(model, 128).static_step(torch.arange(6))
        inside = torch.ones(478, dtype=torch.bool)
        inside[list(head.landmark_oval)] = False
        off = [model.observed_points(slice(t, t + 1)).residual[inside, 0].mean() for t in range(6)]
        return float(torch.stack(off).mean().abs())

    assert beside(0.0) > 0.015 and beside(QUICK.weights.landmark) < 0.01


@pytest.mark.parametrize(("asked", "size"), [(512, 128), (96, 96)])
def test_wrinkles_are_looked_for_at_the_clips_own_size_at_most(head: Head, truth: Truth, asked: int, size: int) -> None:
    settings = QUICK.model_copy(update={"dynamic_size": asked, "fine_size": 64})
    model = ProxyFitter(head, truth.targets, truth.points, torch.ones(6), settings).model
    assert {*model.problem.targets} == {64, size}


def rough(truth: Truth) -> tuple[Targets, torch.Tensor, torch.Tensor]:
    """A hand over the chin, holes in a mask, two frames without a face, of which one has no mask either."""
    maps = [x.clone() for x in truth.targets.maps()]
    points, confidence = truth.points.clone(), torch.ones(6, 478)
    maps[0][1:3, 80:110, 40:90] = torch.tensor([0.6, 0.0, 0.8])
    maps[3][1, 80:110, 40:90], maps[3][2, 80:110, 40:90] = 0.1, 0
    maps[2][3, 30:60, 50:70] = 0
    points[4:], confidence[4:] = points[3], 0
    maps[2][5] = 0
    return Targets(*maps), points, confidence


def test_trouble_stays_where_it_is(head: Head, truth: Truth, fit: ProxyFit) -> None:
    targets, points, confidence = rough(truth)
    found = fit_proxy(head, targets, points, confidence, QUICK)
    assert torch.isfinite(found.offset(slice(None))).all()
    assert found.errors["landmark"][:4].max() < 0.03
    assert found.static.norm(dim=-1).max() < 1.5 * fit.static.norm(dim=-1).max()
    assert (found.frame_weight[4:] < 0.1).all() and (found.frame_weight[:4] == 1).all()
    assert found.set_aside[2] > 0.1 > found.set_aside[:2].max()
    assert found.evidence.sum() < 0.8 * fit.evidence.sum()
    # Bridged: the lost frames move on from their neighbours and do not jump.
    assert (found.parameters.place[3:].diff(dim=0)).norm(dim=-1).max() < 0.02


def test_a_far_turn_stays_whole(head: Head) -> None:
    turned = make_truth(head, 5, yaw=0.65)  # 75 degrees
    fit = fit_proxy(head, turned.targets, turned.points, torch.ones(5), QUICK)
    assert torch.isfinite(fit.offset(slice(None))).all()
    assert fit.errors["normal_deg"].max() < 15 and fit.errors["overlap"].min() > 0.8
    assert fit.static.norm(dim=-1).max() < 0.08


@pytest.mark.parametrize(
    "changed", [{}, {"coarse_passes": 0}, {"static_passes": 0}, {"offsets": "none"}, {"offsets": "dynamic"}], ids=str
)
def test_a_run_takes_as_many_steps_as_it_announces(head: Head, truth: Truth, changed: dict) -> None:
    few = {"coarse_passes": 1, "static_passes": 1, "dynamic_passes": 1, "final_passes": 1, "min_steps": 2}
    targets, settings = truth.targets.block(slice(0, 2)), QUICK.model_copy(update=few | changed)
    fitter = ProxyFitter(head, targets, truth.points[:2], torch.ones(2), settings)
    start = HeadParameters.neutral(head, 2, 128, 300.0)
    start.set_pose(truth.parameters.pose()[:2], truth.parameters.translation()[:2])
    told = []
    fitter.run(start, lambda stage, loss: told.append(stage))
    assert len(told) == fitter.planned_steps(start)
    rigid = settings.rigid_steps + settings.landmark_steps
    assert fitter.planned_steps() == fitter.planned_steps(start) + rigid


def test_a_stage_that_makes_all_worse_is_taken_back_whole(head: Head, truth: Truth) -> None:
    fitter = ProxyFitter(head, truth.targets, truth.points, torch.ones(6), QUICK)
    fitter.model.unknowns.parameters = truth.parameters.copy()
    start_static(fitter.model, 128)

    def spoil(tell: Tell) -> dict[str, float]:
        u = fitter.model.unknowns
        u.parameters.place += 0.1
        u.parameters.rotation = u.parameters.rotation.roll(1, -1)
        u.static += 0.02 * torch.randn(u.static.shape, generator=torch.Generator().manual_seed(0))
        u.bias.turn = u.bias.turn + 1
        u.dynamic.move(torch.arange(6), torch.full((6, len(fitter.model.problem.dynamic_vertices), 3), 0.01))
        return {}

    fitter.guarded("static", True, [Step(spoil, 1)])
    u = fitter.model.unknowns
    assert all(torch.equal(x, truth.parameters.tensors()[name]) for name, x in u.parameters.tensors().items())
    assert torch.equal(u.static, fitter.model.judged.static_start)
    assert not u.bias.turn.any() and not u.dynamic.moved and not u.dynamic[torch.arange(6)].any()
