"""The benchmark's own truth and figures: known answers for known cases."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from benchmarks.dynamic_field import fitted, parts
from benchmarks.proxy_truth import RATIOS, summary, true_start
from benchmarks.truth_clips import Clip, make_clip
from benchmarks.truth_film import film
from benchmarks.truth_mixed import dynamic_of
from benchmarks.truth_motion import make_motion
from benchmarks.truth_observe import interocular, observe
from benchmarks.truth_person import HAIR_RMS, activations, ground_of, make_person, rms
from benchmarks.truth_scores import (
    align,
    angles,
    correlation,
    disentanglement,
    dynamic_scores,
    identity_correlation,
    jitter,
    lid_error,
    pooled,
    score_clip,
    similarity,
)

from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.evidence.growth import ears
from expportrait.fit.result import ProxyFit
from expportrait.head import Head
from expportrait.settings.config import HeadSettings, Proxy

FRAMES = 6


@pytest.fixture(scope="module")
def head() -> Head:
    torch.set_num_threads(1)
    return load_head(HeadSettings(shape_components=20, expression_components=40))


@pytest.fixture(scope="module")
def clip(head: Head) -> Clip:
    return make_clip(head, 3, 1, FRAMES)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def perfect(head: Head, clip: Clip, share: float = 1.0) -> ProxyFit:
    """A fit with the true unknowns, and ``share`` of the true offsets."""
    everywhere = torch.arange(len(clip.static))
    offsets = (share * torch.from_numpy(x.astype(np.float32)) for x in (clip.static, clip.dynamic))
    return ProxyFit(true_start(head, clip), *offsets, everywhere)


def test_the_truth_itself_scores_perfectly(head: Head, clip: Clip) -> None:
    scores = score_clip(head, perfect(head, clip), clip)
    for name in (
        "surface_face_mm",
        "surface_rest_mm",
        "vertex_face_mm",
        "landmark_iod",
        "gaze_deg",
        "leakage",
    ):
        assert scores[name] == pytest.approx(0, abs=0.05), name
    assert scores["normal_deg"] < 0.3  # the truth is kept as int8
    assert scores["normal_missed"] < 1e-3
    for name in ("jitter_ratio", "dynamic_truth", "dynamic_size"):
        assert scores[name] == pytest.approx(1, abs=0.01), name


def test_missing_offsets_are_seen(head: Head, clip: Clip) -> None:
    scores = score_clip(head, perfect(head, clip, 0.0), clip)
    assert scores["normal_deg"] > 4
    assert scores["surface_rest_mm"] > 1.5
    assert scores["surface_face_mm"] > 0.5


def test_wrinkles_are_found_where_all_else_is_known(head: Head) -> None:
    """Stretch and magnitude once left a seventh of their size."""
    still, rising = make_motion((3, 1), FRAMES), np.linspace(0, 0.9, FRAMES)
    smile = dict.fromkeys(("mouthSmileLeft", "mouthSmileRight", "browInnerUp"), rising)
    clip = make_clip(head, 3, 1, FRAMES, motion=replace(still, units=still.units | smile))
    moved = fitted(head, clip, (3, 1), False, "truth", Proxy())
    total = dict.fromkeys(("all", "along normals", "along the surface"))
    for name, (found, true) in parts(head, moved, clip).items():
        if name in total:
            total[name] = correlation(found, true), float(np.linalg.norm(found) / np.linalg.norm(true))
    assert total["all"][0] > 0.75 and 0.5 < total["all"][1] < 1.2
    assert total["along normals"][0] > total["along the surface"][0]


def test_what_one_view_cannot_know_costs_nothing(head: Head, clip: Clip) -> None:
    weight = clip.visible.astype(float)
    ray = (weight[..., None] * clip.vertices).sum(1) / weight.sum(1)[:, None]
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    deeper = 0.8 * clip.vertices + np.linspace(-0.2, 0.3, FRAMES)[:, None, None] * ray[:, None]
    assert np.abs(align(head, deeper, clip.vertices, weight) - clip.vertices).max() < 1e-4
    sideways = clip.vertices + np.array([0.004, 0, 0])
    assert np.abs(align(head, sideways, clip.vertices, weight) - clip.vertices).mean() > 1e-3


def test_eyelids_that_stay_open_are_seen(clip: Clip) -> None:
    shut, points = replace(clip, open_eyes=np.zeros(FRAMES, bool)), clip.landmarks[..., :2].copy()
    points[:, 159, 1] = points[:, 145, 1]
    points[:, 386, 1] = points[:, 374, 1]
    assert lid_error(clip.landmarks, shut) == 0 and 2 < lid_error(points, shut) < 20
    assert np.isnan(lid_error(points, replace(clip, open_eyes=np.ones(FRAMES, bool))))


def test_leakage_of_a_known_case(rng: np.random.Generator) -> None:
    static, dynamic = rng.normal(size=(50, 3)), rng.normal(size=(8, 50, 3))
    dynamic -= dynamic.mean(0)
    where = np.arange(50) < 40
    scores = disentanglement(dynamic + 0.3 * static, dynamic, static, np.ones(50), where)
    assert scores["leakage"] == pytest.approx(0.09)
    size = np.linalg.norm(0.3 * static[where], axis=-1).mean() / np.linalg.norm(dynamic[:, where], axis=-1).mean()
    assert scores["mean_dynamic"] == pytest.approx(size)


def test_correlation_of_known_offsets_along_and_across_the_normals(rng: np.random.Generator) -> None:
    true, normals = rng.normal(size=(8, 50, 3)), np.tile([0.0, 0, 1], (50, 1))
    still = rng.normal(size=(50, 3))  # the mean over the clip is D_s's
    scores = dynamic_scores(0.5 * true + still, true, normals)
    assert scores["dynamic_truth"] == pytest.approx(1) and scores["dynamic_size"] == pytest.approx(0.5)
    flat = dynamic_scores(true * [0, 0, 1], true, normals)
    assert flat["dynamic_normal"] == pytest.approx(1) and flat["dynamic_truth"] == pytest.approx(3**-0.5, abs=0.05)
    absent = dynamic_scores(0 * true, true, normals)
    assert absent["dynamic_truth"] == absent["dynamic_size"] == absent["dynamic_normal"] == 0


def test_clips_weigh_by_their_energy(rng: np.random.Generator) -> None:
    true, normals = rng.normal(size=(8, 50, 3)), np.tile([0.0, 0, 1], (50, 1))
    large = dynamic_scores(10 * true, 10 * true, normals)
    wrong = dynamic_scores(-true, true, normals)
    together = pooled([large, wrong])
    assert together["dynamic_truth"] == pytest.approx(99 / 101) and together["dynamic_size"] == pytest.approx(1)


def test_of_the_mixed_truth_a_third_is_no_function_of_the_expression(head: Head) -> None:
    motions = [make_motion((1, clip), 60) for clip in range(4)]
    curves = np.concatenate([activations(motion.units, motion.jaw) for motion in motions])
    known = np.linalg.qr(np.column_stack([curves, np.repeat(np.eye(4), 60, axis=0)]))[0]
    plain, mixed = (
        np.concatenate([dynamic_of(head, (1, clip), motion, kind) for clip, motion in enumerate(motions)])
        for kind in ("pattern", "mixed")
    )
    assert np.array_equal(mixed[:60], dynamic_of(head, (1, 0), motions[0], "mixed"))
    assert np.array_equal(plain, make_person(head, 1).dynamic(curves.astype(np.float64)))

    def unexplained(moved: np.ndarray) -> float:
        flat = (moved.reshape(4, 60, -1) - moved.reshape(4, 60, -1).mean(1, keepdims=True)).reshape(240, -1)
        return float(((flat - known @ (known.T @ flat)) ** 2).sum() / (flat**2).sum())

    assert unexplained(plain) < 1e-6
    assert 0.15 < unexplained(mixed) < 0.34  # linear in the same curves is half of the lag
    size = lambda x: ((x[:60] - x[:60].mean(0)) ** 2).sum()  # noqa: E731
    assert size(mixed - plain) == pytest.approx(size(plain) / 2, rel=0.35)  # a third of the sum, its halves apart
    assert np.abs(mixed[:, ground_of(head).dynamic == 0]).max() == 0


def test_identity_ignores_place_turn_and_size(rng: np.random.Generator) -> None:
    mean = rng.normal(size=(400, 3))
    a, b = mean + 0.05 * rng.normal(size=(2, 400, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    everywhere = np.ones(400, bool)
    assert identity_correlation(a, 1.3 * a @ turn + [1, 2, 3], mean, everywhere) == pytest.approx(1, abs=1e-6)
    assert abs(identity_correlation(a, b, mean, everywhere)) < 0.2
    assert identity_correlation(a, 2 * mean - similarity(a, mean), mean, everywhere) < -0.95
    assert np.allclose(similarity(0.7 * mean @ turn + 4, mean), mean)


def test_jitter_is_acceleration() -> None:
    t = np.arange(5.0)[:, None, None]
    assert jitter(np.repeat(3 * t, 2, -1), np.ones((5, 1), bool)) == pytest.approx(0)
    assert jitter(np.concatenate([t**2, 0 * t], -1), np.ones((5, 1), bool)) == pytest.approx(2)


def test_offset_fields_have_the_stated_size(head: Head) -> None:
    g, sizes = ground_of(head), []
    for seed in range(3):
        person = make_person(head, seed)
        assert np.array_equal(person.static, make_person(head, seed).static)
        assert rms(person.static, person.hair > 0.5) == pytest.approx(np.mean(HAIR_RMS), abs=0.006)
        assert rms(person.static, g.face * g.free > 0.5) == pytest.approx(0.002, rel=0.15)
        assert np.abs(person.static[g.free == 0]).max() == 0
        motion = make_motion((seed, 1), 60)
        moved = person.dynamic(activations(motion.units, motion.jaw))
        size = np.linalg.norm(moved, axis=-1)
        sizes.append(size[size > 3e-4])
        assert size[:, g.dynamic == 0].max() == 0
        basis = np.linalg.qr(head.dense.expression_basis.numpy().reshape(-1, head.n_expression))[0]
        flat = (moved - moved.mean(0)).reshape(60, -1)
        assert ((flat @ basis) ** 2).sum() < 0.6 * (flat**2).sum()  # outside the blendshapes
    assert 0.0007 < np.sqrt((np.concatenate(sizes) ** 2).mean()) < 0.0013


def test_equal_faces_have_equal_offsets(head: Head) -> None:
    person = make_person(head, 1)
    a, b = make_motion((1, 0), 20), make_motion((1, 1), 20)
    together = {name: np.concatenate([a.units[name], b.units[name]]) for name in a.units}
    moved = person.dynamic(activations(together, np.concatenate([a.jaw, b.jaw])))
    assert np.allclose(moved[:20], person.dynamic(activations(a.units, a.jaw)), atol=1e-7)


def test_clean_observations_are_the_truth_up_to_depth_units(clip: Clip) -> None:
    targets, points, confidence = observe(clip, (3, 1), noisy=False)
    assert torch.equal(points, torch.from_numpy(clip.landmarks.astype(np.float32)))
    assert confidence.min() == 1
    assert np.array_equal(targets.mask.numpy() > 0.5, clip.mask)
    seen, true = targets.depth.numpy()[clip.mask], clip.depth[clip.mask]
    assert abs(np.corrcoef(seen, true)[0, 1]) > 0.999
    assert abs(seen.mean() - true.mean()) > 1e-2


def test_noisy_observations_have_the_stated_errors(head: Head) -> None:
    clip = make_clip(head, 2, 0, 20)
    targets, points, confidence = observe(clip, (2, 0), noisy=True)
    lost = confidence.numpy().min(1) < 1
    assert lost.sum() == 1  # 5 % of 20
    off = (points.numpy() - clip.landmarks)[~lost][..., :2] / interocular(clip.landmarks)[~lost, None, None]
    assert np.sqrt((off**2).sum(-1).mean()) == pytest.approx(0.01, rel=0.1)
    for t in (0, 10):
        estimate, mask = targets.mask[t].numpy() > 0.5, clip.mask[t]
        edge = np.where(mask, ndi.distance_transform_edt(mask), ndi.distance_transform_edt(~mask))
        moved = edge[estimate != mask]
        assert 1 < moved.max() <= 4
        deep = mask & (edge > 8)
        tilt = angles(targets.normals[t].numpy(), clip.normals[t] / 127.0)[deep]
        assert 2 < np.sqrt((tilt**2).mean()) < 6  # the bias of 3 degrees, and blurred detail
        a, b = targets.depth[t].numpy()[deep].astype(float), clip.depth[t][deep].astype(float)
        slope, shift = np.polyfit(a, b, 1)
        spread = np.diff(np.quantile(clip.depth[clip.mask], [0.02, 0.98]))[0]
        assert 0.005 < np.std(slope * a + shift - b) / spread < 0.04


def test_hair_that_a_method_lacks_is_no_identity(rng: np.random.Generator) -> None:
    bare = rng.normal(size=(300, 3))
    hair = bare + 2 * rng.normal(size=bare.shape)
    everywhere = np.ones(len(bare), bool)

    def heads(mean: np.ndarray) -> dict:
        moved = rng.normal(size=(4, 9, 3))
        scores = dict.fromkeys(RATIOS.values(), 1.0) | dynamic_scores(moved, moved, moved[0])
        who = 0.1 * rng.normal(size=(3, *bare.shape))
        return {
            (person, clip): (scores, {"fitted": mean + who[person], "true": hair + who[person], "seen": everywhere})
            for person in range(3)
            for clip in range(2)
        }

    figures = summary({"fit": heads(hair), "coarse": heads(bare)}, hair, bare, everywhere)
    coarse = figures["baselines"]["coarse"]
    for method in (figures, coarse):
        assert method["static_same"] == pytest.approx(1)
        assert abs(method["static_other"]) < 0.2
    assert coarse["static_other_hair"] > 0.9 and figures["static_other_hair"] == figures["static_other"]


def test_long_hair_hides_the_ears_and_changes_no_head(head: Head, clip: Clip) -> None:
    """The sheet stands before the head in all maps and in the film; what the fit is measured against is the same."""
    long = make_clip(head, 3, 1, FRAMES, long_hair=True)
    np.testing.assert_array_equal(long.vertices, clip.vertices)
    np.testing.assert_array_equal(long.landmarks, clip.landmarks)
    assert (long.mask | ~clip.mask).all() and long.mask.mean() > clip.mask.mean() + 0.02
    ear = (ears(head) > 0.9).numpy()
    assert long.visible[:, ear].mean() < 0.7 * clip.visible[:, ear].mean()
    mouth = np.array(head.REGIONS)[head.regions.numpy()] == "lips"
    np.testing.assert_array_equal(long.visible[:, mouth], clip.visible[:, mouth])
    assert (long.depth[clip.mask] <= clip.depth[clip.mask] + 1e-4).all()
    both = film(head, clip, 3, 1), film(head, long, 3, 1)
    changed = np.abs(both[0].astype(int) - both[1]).max(-1) > 60
    assert changed[long.mask & ~clip.mask].mean() > 0.3 > changed[clip.mask].mean()
