import numpy as np
import pytest
import torch

from expportrait.config import Proxy
from expportrait.errors import ClipError
from expportrait.fit.clip_model import hem
from expportrait.fit.landmarks import fit_landmarks
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.proxy import ProxyFit, ProxyFitter, fit_proxy
from expportrait.fit.store import load_proxy, parameters_of, save_proxy
from expportrait.fit.tracked import read_tracked
from expportrait.head import Head
from expportrait.head.smplx import to_smplx
from expportrait.store import Store, StoreWriter
from tests.fit.make import Truth, make_truth

QUICK = Proxy(coarse_size=64, fine_size=96, min_steps=30, coarse_passes=4, static_passes=12, dynamic_passes=6)


@pytest.fixture(scope="session")
def fit(head: Head, truth: Truth) -> ProxyFit:
    return fit_proxy(head, truth.targets, truth.points, torch.ones(6), QUICK)


def coarse_errors(head: Head, truth: Truth) -> dict[str, torch.Tensor]:
    fitter = ProxyFitter(head, truth.targets, truth.points, torch.ones(6), QUICK)
    fitter.parameters = fit_landmarks(head, fitter.points, fitter.confidence, 128, QUICK)
    return fitter.evaluate(QUICK.fine_size, dense=False)


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


def test_dynamic_field_is_zero_mean_and_masked(head: Head, fit: ProxyFit) -> None:
    assert fit.dynamic.abs().max() > 0
    assert fit.dynamic.mean(0).abs().max() < 1e-6
    still = torch.isin(head.regions, torch.tensor([head.REGIONS.index(name) for name in ("eye", "teeth", "tongue")]))
    assert fit.offset(slice(None))[:, still].abs().max() == 0


def test_every_loss_falls_and_is_recorded(fit: ProxyFit) -> None:
    for stage in ("landmarks", "static"):
        total = [terms["total"] for name, terms in fit.losses if name == stage]
        assert np.mean(total[-5:]) < np.mean(total[:5])
    assert {"total", "landmark", "normal", "depth", "silhouette"} == set(fit.losses[-1][1])


def test_a_single_portrait_has_both_fields(head: Head) -> None:
    truth = make_truth(head, 1)
    quick = QUICK.model_copy(update={"static_passes": 1, "dynamic_passes": 1, "final_passes": 1, "min_steps": 25})
    fit = fit_proxy(head, truth.targets, truth.points, torch.ones(1), quick)
    assert fit.dynamic.shape[0] == 1 and torch.isfinite(fit.offset(slice(None))).all()
    assert fit.static.norm(dim=-1).max() > 0.005 and fit.errors["landmark"].max() < 0.02


def test_a_zero_weight_switches_its_loss_off(head: Head, truth: Truth) -> None:
    silent = QUICK.model_copy(update={"w_silhouette": 0.0, "coarse_passes": 0, "dynamic_passes": 0, "final_passes": 0})
    fit = fit_proxy(head, truth.targets, truth.points, torch.ones(6), silent)
    assert "silhouette" not in fit.losses[-1][1]
    assert not fit.dynamic.any()


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
    only_offsets = QUICK.model_copy(
        update={"coarse_passes": 0, "static_passes": 2, "min_steps": 5, "dynamic_passes": 0}
    )
    fit = fit_proxy(head, truth.targets, truth.points, torch.ones(6), only_offsets, start=start)
    assert not any(name == "landmarks" for name, _ in fit.losses)
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
    assert grown.max() == 0 if offsets == "none" else grown.mean() > 0.005


def test_without_disentanglement_both_fields_act_everywhere(head: Head) -> None:
    truth = make_truth(head, 3)
    short = {"static_passes": 1, "dynamic_passes": 4, "final_passes": 0, "min_steps": 8, "coarse_passes": 1}
    settings = QUICK.model_copy(update=short | {"disentangle": False})
    fit = fit_proxy(head, truth.targets, truth.points, torch.ones(3), settings)
    hair = truth.static.norm(dim=-1) > 0.018
    assert torch.isin(hair.nonzero().squeeze(-1), fit.dynamic_vertices).all()
    assert fit.dynamic.mean(0).abs().max() > 1e-6
