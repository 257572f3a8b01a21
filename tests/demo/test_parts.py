"""What the animation is put together from, without a portrait."""

from collections import Counter
from itertools import combinations

import numpy as np

from expportrait.demo.animate import close_lids, part_lips
from expportrait.demo.cutout import fill
from expportrait.demo.interior import Canvas
from expportrait.demo.layers import CURVATURE, inflate, lift, project
from expportrait.demo.topology import LIDS, polygon_mask, triangles
from expportrait.points478 import FACE_OVAL, LOWER_LIP_INNER, SKIN_POINTS, UPPER_LIP_INNER


def test_the_face_mesh_has_four_edges_only():
    faces = triangles()
    assert set(faces.ravel()) == set(range(SKIN_POINTS))
    edges = Counter(edge for face in faces for edge in combinations(sorted(face.tolist()), 2))
    assert max(edges.values()) == 2
    border = {point for edge, count in edges.items() if count == 1 for point in edge}
    holes = {point for upper, lower, _ in LIDS for point in (*upper, *lower)} | {*UPPER_LIP_INNER, *LOWER_LIP_INNER}
    assert border == holes | {*FACE_OVAL}
    assert len(faces) - len(edges) + SKIN_POINTS == 1 - 3  # Euler: a disc with three holes


def test_a_disc_becomes_a_ball():
    y, x = np.mgrid[:81, :81] - 40.0
    far = np.hypot(x, y)
    height = inflate(far < 30, np.zeros((81, 81), bool), np.zeros((81, 81)), pixel=0.002)
    ball = np.sqrt(CURVATURE / 4 * np.clip(30**2 - far**2, 0, None)) * 0.002
    np.testing.assert_allclose(height[far < 24], ball[far < 24], rtol=0.04)
    assert (height[far >= 30] == 0).all()


def test_known_heights_are_kept():
    inside, known = np.ones((20, 20), bool), np.zeros((20, 20), bool)
    inside[:, 0], known[8:12, 8:12] = False, True
    height = inflate(inside, known, np.full((20, 20), 0.05), pixel=0.001)
    np.testing.assert_allclose(height[known], 0.05)
    assert (height[:, 1:] > 0).all()  # the surface runs on at the picture's border


def test_lifted_points_project_back():
    pixels = np.random.default_rng(0).uniform(0, 512, (50, 2))
    depth = np.linspace(0.8, 1.5, 50)
    points = lift(pixels, depth, 1500.0, 512)
    np.testing.assert_allclose(project(points, 1500.0, 512), pixels)
    np.testing.assert_allclose(points[:, 2], -depth)
    assert lift(np.array([300.0, 100.0]), 1.0, 1500.0, 512)[1] > 0  # up in the picture is up


def test_filling_keeps_what_is_known_and_invents_no_colour():
    image = np.random.default_rng(0).uniform(50, 60, (37, 52, 3)).astype(np.float32)
    weight = np.ones((37, 52), np.float32)
    weight[10:30, 5:40], image[10:30, 5:40] = 0, 255
    filled = fill(image, weight)
    np.testing.assert_allclose(filled[weight > 0], image[weight > 0], rtol=1e-5)
    assert filled.min() > 49 and filled.max() < 61


def test_a_patch_lands_where_its_landmarks_are():
    canvas = Canvas(np.zeros((100, 120, 3), np.uint8), low=np.array([10, 20]), scale=2)
    patch = np.full((40, 40, 3), 200, np.uint8)
    patch[18:22, 18:22] = (255, 0, 0)
    square = np.array([[30.0, 30], [50, 30], [50, 50], [30, 50]])
    canvas.paste(patch, np.array([[0.5, 0, 30], [0, 0.5, 30]]), square)  # patch px (20, 20) is px (40, 40) of the frame
    red = np.argwhere(canvas.pixels[..., 1] < 100)[:, ::-1][:, :]
    red = red[canvas.pixels[red[:, 1], red[:, 0], 0] > 200] + 0.5
    np.testing.assert_allclose(red.mean(0), [(40 - 10) * 2, (40 - 20) * 2], atol=0.3)
    assert not canvas.pixels[:, 100:].any()


def test_a_blink_closes_the_eyes_and_leaves_the_corners():
    rest = np.random.default_rng(0).normal(size=(478, 3))
    points = rest.copy()
    close_lids(points, rest, 1.0)
    for upper, lower, _ in LIDS:
        gap = np.linalg.norm(points[list(upper)] - points[list(lower)], axis=1)
        np.testing.assert_allclose(gap, 0, atol=1e-9)
        np.testing.assert_array_equal(points[[upper[0], upper[-1]]], rest[[upper[0], upper[-1]]])


def test_lips_never_cross():
    points = np.zeros((478, 3))
    points[list(UPPER_LIP_INNER), 1], points[list(LOWER_LIP_INNER), 1] = -0.002, 0.001
    part_lips(points)
    assert (points[list(UPPER_LIP_INNER[1:-1]), 1] >= points[list(LOWER_LIP_INNER[1:-1]), 1]).all()


def test_polygon_mask_covers_the_polygon():
    mask = polygon_mask(np.array([[2.0, 3], [8, 3], [8, 9], [2, 9]]), (12, 12))
    assert mask[4:8, 3:7].all() and not mask[:2].any() and not mask[:, 10:].any()
