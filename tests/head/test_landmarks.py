"""Landmarks on the mesh, regions and masks."""

import math

import numpy as np
import pytest
import torch

from expportrait.estimators import head_landmarks
from expportrait.head import REGIONS, Head, triangulation
from expportrait.head.regions import signed_distance
from expportrait.head.topology import clip, edges_of, subdivide
from expportrait.head.triangulation import closest, intersect
from expportrait.points478 import LEFT_EYELIDS, RIGHT_EYELIDS
from expportrait.settings.config import HeadSettings


def test_landmarks_are_where_faces_have_them(head):
    points = head.landmarks.template
    right_eye, left_eye, nose, chin, forehead, upper_lip, lower_lip = points[[33, 263, 4, 152, 10, 13, 14]]
    assert right_eye[0] < -0.03 and left_eye[0] > 0.03  # +x is the subject's left
    assert nose[2] > max(right_eye[2], left_eye[2], chin[2]) + 0.01
    assert chin[1] < lower_lip[1] <= upper_lip[1] < nose[1] < right_eye[1] < forehead[1]
    for iris, joint in ((468, 5), (473, 4)):  # subject's right and left
        assert (points[iris] - head.joint_template[joint])[:2].norm() < 0.002
        ring = (points[iris + 1 : iris + 5] - points[iris]).norm(dim=1)
        assert ((ring > 0.004) & (ring < 0.008)).all()
    weights = head.landmarks.weights
    assert weights[468:473, 5].min() > 0.99 and weights[473:, 4].min() > 0.99 and weights[:468, 4:6].max() < 0.1


def test_landmarks_are_symmetric(head):
    points = head.landmarks.template
    mirrored = points * torch.tensor([-1.0, 1, 1])
    distance = torch.cdist(points, mirrored).min(1).values
    assert distance.mean() < 0.0015 and distance.max() < 0.005


def test_inner_lips_follow_their_own_lip(head):
    pose = torch.eye(3).repeat(2, 10, 1, 1)
    pose[1, 3] = torch.tensor([[1, 0, 0], [0, math.cos(0.12), -math.sin(0.12)], [0, math.sin(0.12), math.cos(0.12)]])
    rest = torch.zeros(2, head.n_expression)
    points = head.pose(head.landmarks, torch.zeros(head.n_shape), rest, pose, torch.zeros(2, 3))
    drop = 1000 * (points[0] - points[1])[:, 1]
    assert (drop[triangulation.INNER_LOWER] > 4).all() and (drop[triangulation.INNER_UPPER] < 4).all()


def test_landmark_faces_and_surface_agree(head):
    corners = head.coarse.template[head.faces[head.landmark_faces]]
    torch.testing.assert_close((corners * head.landmark_barycentric[..., None]).sum(1), head.landmarks.template)
    assert head.landmark_barycentric.min() >= -1e-6
    torch.testing.assert_close(head.landmark_barycentric.sum(1), torch.ones(478))


def test_masks(head):
    region = np.array(REGIONS)[head.regions.numpy()]
    dynamic, static = head.dynamic_mask, head.static_mask(0.25)
    for mask in (dynamic, static):
        assert mask.min() >= 0 and mask.max() <= 1
        assert mask[np.isin(region, ["eye", "teeth", "tongue"])].abs().max() == 0
        assert mask[region == "mouth"].max() <= 0.75  # the inside of the mouth hardly moves by offsets
    assert dynamic[np.isin(region, ["scalp", "neck", "body"])].max() < 0.51
    assert static[np.isin(region, ["neck", "body"]) & (dynamic == 0).numpy()].min() > 0.99
    assert 0.24 < static[dynamic > 0.99].min() <= static[dynamic > 0.99].max() < 0.26
    assert head.static_mask(1.0)[region == "scalp"].min() > 0.95
    tip = (head.dense.template - head.landmarks.template[4]).norm(dim=1).argmin()
    assert dynamic[tip] > 0.99  # the nose is part of the face


def test_masks_vanish_at_the_eye_openings(head):
    """No offset within 1.5 mm of the lids' edges."""
    lids = head.landmarks.template[list(RIGHT_EYELIDS + LEFT_EYELIDS)]
    near = torch.cdist(head.dense.template, lids).min(1).values < 0.0015
    assert near.sum() > 50
    assert head.dynamic_mask[near].max() < 0.05 and head.static_mask(1.0)[near].max() < 0.05


def test_masks_are_smooth(head):
    """Outside of the mouth's rim no mask jumps along an edge."""
    edges, _ = edges_of(head.dense_faces.numpy())
    step = (head.facial[edges[:, 0]] - head.facial[edges[:, 1]]).abs()
    length = (head.dense.template[edges[:, 0]] - head.dense.template[edges[:, 1]]).norm(dim=1)
    assert (step / length).max() < 150  # 0.15 a millimetre


def test_regions_hold_what_they_say(head):
    names, counts = np.unique(np.array(REGIONS)[head.regions.numpy()], return_counts=True)
    assert set(names) == set(REGIONS) and counts.min() > 100
    y = {name: head.dense.template[head.regions == k, 1].mean() for k, name in enumerate(REGIONS)}
    assert y["body"] < y["neck"] < y["lips"] < y["face"] < y["scalp"]


@pytest.mark.filterwarnings("ignore")
def test_users_file_gets_its_landmarks_once(real_shape_file, users_cache, head, monkeypatch):
    """MediaPipe on renders of the file's template finds what is shipped with the open head, and is not asked again."""
    monkeypatch.setenv("EXPPORTRAIT_CACHE", str(users_cache))
    user = Head.load(real_shape_file)
    distance = (user.landmarks.template - head.landmarks.template).norm(dim=1)
    assert distance.median() < 5e-4 and distance.max() < 0.006
    assert (user.regions == REGIONS.index("teeth")).sum() == 0
    assert abs((user.dynamic_mask > 0.5).sum() - (head.dynamic_mask > 0.5).sum()) < 200
    assert len(list(users_cache.iterdir())) == 1

    monkeypatch.setattr(head_landmarks, "find_landmarks", lambda _: pytest.fail("asked again"))
    again = head_landmarks.load_head(HeadSettings(file=real_shape_file))
    torch.testing.assert_close(again.landmarks.template, user.landmarks.template)
    assert Head.load(real_shape_file).landmarks is not None


def test_rays_meet_in_spite_of_outliers():
    rng = np.random.default_rng(0)
    goal = rng.normal(size=(5, 3))
    origins = rng.normal(size=(20, 1, 3)) * 10
    rays = goal - origins
    rays[:2] += rng.normal(size=(2, 5, 3))
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    found = intersect(origins, rays, np.ones((20, 5)))
    assert np.abs(found - goal).max() < 2e-3


def test_closest_points_on_a_mesh(head):
    """Against a dense sampling of the faces."""
    vertices, faces = head.coarse.template.double().numpy(), head.faces.numpy()[:4000]
    rng = np.random.default_rng(0)
    points = vertices[rng.integers(0, 1500, 30)] + rng.normal(0, 0.004, (30, 3))
    ids, weights = closest(points, vertices, faces, np.arange(len(faces)))
    spots = (vertices[faces[ids]] * weights[..., None]).sum(1)
    samples = rng.dirichlet([0.7] * 3, 200)
    cloud = np.einsum("sk,fkd->fsd", samples, vertices[faces]).reshape(-1, 3)
    nearest = np.array([np.linalg.norm(cloud - p, axis=1).min() for p in points])
    found = np.linalg.norm(spots - points, axis=1)
    assert (found < nearest + 1e-9).all() and weights.min() >= -1e-9


def test_signed_distance_of_a_square():
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2.0]])
    points = np.array([[1, 1], [1, 0.25], [3, 1], [-1, -1], [1, 2.5]])
    np.testing.assert_allclose(signed_distance(points, square), [1, 0.25, -1, -np.sqrt(2), -0.5])


def test_clip_keeps_the_inside_exactly():
    """Half of a grid: area and border as computed by hand, orientation kept."""
    x, y = np.meshgrid(np.arange(6.0), np.arange(6.0), indexing="ij")
    vertices = np.stack([x.ravel(), y.ravel()], 1)
    quads = np.array([[6 * i + j, 6 * i + j + 6, 6 * i + j + 7, 6 * i + j + 1] for i in range(5) for j in range(5)])
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    kept, matrix = clip(faces, 2.6 - vertices[:, 0])
    cut = matrix @ vertices
    a, b, c = (cut[kept[:, k]] for k in range(3))
    signed = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert signed.min() > 0 and signed.sum() == pytest.approx(2.6 * 5)
    assert cut[:, 0].max() == pytest.approx(2.6)
    np.testing.assert_allclose(np.asarray(matrix.sum(1)).ravel(), 1)


def test_subdivision_keeps_the_surface():
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    fine, upsample = subdivide(faces, 4, times=2)
    assert fine.shape == (32, 3) and upsample.shape == (25, 4)
    np.testing.assert_allclose(upsample[:4].toarray(), np.eye(4))
    np.testing.assert_allclose(np.asarray(upsample.sum(1)).ravel(), 1)
