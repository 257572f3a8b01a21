"""One frame's maps from a mask and an exactly known ball in the place of the head."""

import numpy as np
import pytest

from expportrait.estimators.geometry.embedded.fusion import Cells, HeadMaps, frame_geometry, torn_links
from expportrait.face_areas import polygon

SIZE, FOCAL, BALL, DISTANCE = 192, 576.0, 0.1, 1.5
OVAL = list(range(420, 456))
HEIGHT = 45.0  # px, of the face


@pytest.fixture(scope="module")
def ball():
    """Normals (H,W,3) and depth (H,W) m of a ball seen through a pinhole; depth 0 outside."""
    at = (np.arange(SIZE) + 0.5 - SIZE / 2) / FOCAL
    rays = np.stack(np.broadcast_arrays(at, -at[:, None], -1.0), -1)
    middle = np.array([0.0, 0.0, -DISTANCE])
    b, a = rays @ middle, (rays**2).sum(-1)
    root = b**2 - a * (middle @ middle - BALL**2)
    depth = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, 0)
    normals = np.where(root[..., None] > 0, (depth[..., None] * rays - middle) / BALL, 0)
    return normals.astype(np.float32), depth.astype(np.float32)


@pytest.fixture(scope="module")
def points():
    out = np.full((478, 3), [SIZE / 2, SIZE / 2, 0], np.float32)
    turn = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    out[OVAL, :2] += np.stack([16 * np.cos(turn), 20 * np.sin(turn)], -1)
    out[10, 1], out[152, 1] = SIZE / 2 - 22.5, SIZE / 2 + 22.5
    return out


def maps_of(ball, trust=0.9) -> HeadMaps:
    normals, depth = ball
    return HeadMaps(normals, depth, np.zeros_like(depth), np.full_like(depth, trust), FOCAL, np.zeros_like(depth))


def angle(a, b):
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


@pytest.mark.parametrize("fitted", [True, False])
def test_a_balls_mask_gives_the_ball(ball, points, fitted):
    normals, truth = ball
    mask = (truth > 0).astype(np.float32)
    maps = maps_of(ball) if fitted else None
    estimate, depth, confidence = frame_geometry(mask, maps, points, OVAL, HEIGHT, 96)
    inside = truth > 0
    assert angle(estimate, normals)[inside].mean() < 1
    np.testing.assert_allclose(np.linalg.norm(estimate, axis=-1), mask, atol=1e-5)
    assert not depth[~inside].any() and not confidence[~inside].any()
    facing = normals[..., 2] > 0.4
    # Without a head the focal length is a guess that happens to be right here, the distance is not: compare shapes.
    scale, shift = np.polyfit(depth[facing], truth[facing], 1)
    assert scale > 0
    assert np.abs(scale * depth + shift - truth)[facing].max() < 0.003
    if fitted:
        assert scale == pytest.approx(1, abs=0.05)


def test_depth_is_counted_from_the_face(ball, points):
    mask = (ball[1] > 0).astype(np.float32)
    _, depth, _ = frame_geometry(mask, maps_of(ball), points, OVAL, HEIGHT, 96)
    assert abs(depth[polygon(points[OVAL], SIZE)].mean()) < 0.002


def test_normals_and_depth_reach_to_the_end_of_a_soft_mask(ball, points):
    at = np.hypot(*np.meshgrid(*[np.arange(SIZE) + 0.5 - SIZE / 2] * 2))
    mask = np.clip((45 - at) / 12, 0, 1).astype(np.float32)
    normals, depth, _ = frame_geometry(mask, maps_of(ball), points, OVAL, HEIGHT, 96)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), mask > 0, atol=1e-5)
    assert np.isfinite(depth).all()


def test_confidence_is_the_faces_trust_then_the_outline_then_the_inside(ball, points):
    mask = (ball[1] > 0).astype(np.float32)
    _, _, confidence = frame_geometry(mask, maps_of(ball, 0.8), points, OVAL, HEIGHT, 96)
    middle = SIZE // 2
    assert confidence[middle + 5, middle] == pytest.approx(0.8, abs=0.02)
    hair, outline = confidence[middle - 30, middle], confidence[middle - 37, middle]
    assert 0.2 < hair < outline < 0.6
    _, _, alone = frame_geometry(mask, None, points, OVAL, HEIGHT, 96)
    assert alone[middle, middle] < hair + 0.05


def test_open_mouth_is_not_trusted(ball, points):
    mask = (ball[1] > 0).astype(np.float32)
    lips = points.copy()
    loop = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95]
    turn = np.linspace(0, 2 * np.pi, len(loop), endpoint=False)
    lips[loop, :2] = SIZE / 2 + np.stack([6 * np.cos(turn), 4 * np.sin(turn)], -1)
    _, _, confidence = frame_geometry(mask, maps_of(ball), lips, OVAL, HEIGHT, 96)
    assert confidence[SIZE // 2, SIZE // 2] < 0.3
    assert confidence[SIZE // 2 + 10, SIZE // 2] > 0.7


def test_a_step_between_head_and_torso_is_torn_and_a_slope_is_not():
    n = 8
    log_depth = np.zeros((n, n), np.float32)
    log_depth[4:] = 0.05
    torso = np.zeros((n, n), bool)
    torso[4:] = True
    known, flat = np.ones((n, n), bool), (np.zeros((n, n)), np.zeros((n, n)))
    across, down = torn_links(log_depth, flat, 0.02, known, torso)
    assert (across == 1).all() and (down[3] < 0.1).all() and (np.delete(down, 3, 0) == 1).all()
    sloping = (np.zeros((n, n)), np.full((n, n), 0.05))
    _, down = torn_links(np.arange(n)[:, None] * np.full((n, n), 0.05), sloping, 0.02, known, torso)
    assert (down == 1).all()
    _, down = torn_links(log_depth, flat, 0.02, known, np.zeros((n, n), bool))
    assert (down == 1).all()


def test_a_tear_keeps_the_heads_own_edge(ball, points):
    """Torso behind the lower half, its border running through the cells: depth steps at the border's own pixel."""
    normals = np.broadcast_to(np.float32([0, 0, 1]), (SIZE, SIZE, 3)).copy()
    border = SIZE // 2 + 31
    depth = np.full((SIZE, SIZE), DISTANCE, np.float32)
    depth[border:] += 0.05
    torso = np.zeros((SIZE, SIZE), np.float32)
    torso[border:] = 1
    maps = HeadMaps(normals, depth, torso, np.full_like(depth, 0.9), FOCAL, np.zeros_like(depth))
    _, out, confidence = frame_geometry(np.ones((SIZE, SIZE), np.float32), maps, points, OVAL, HEIGHT, 48)
    column = out[:, SIZE // 2]
    assert column[border] - column[border - 1] > 0.03
    assert np.abs(np.diff(column)).argmax() == border - 1
    assert confidence[border, SIZE // 2] < 0.5 * confidence[border + 30, SIZE // 2]


def test_cells_of_any_size_keep_a_ramp():
    for size, n in ((100, 32), (96, 48)):
        cells = Cells(n, size)
        ramp = np.tile((np.arange(size) + 0.5) / size, (size, 1)).astype(np.float32)
        at = (np.arange(n) + 0.5) / n
        np.testing.assert_allclose(cells.mean(ramp), np.tile(at, (n, 1)), atol=1e-3)
        np.testing.assert_allclose(cells.spread(cells.mean(ramp))[:, 4:-4], ramp[:, 4:-4], atol=2e-3)


def test_polygon_has_pixel_centres_at_half_integers():
    square = np.array([[10, 20], [14, 20], [14, 26], [10, 26]], np.float32)
    inside = polygon(square, 40)
    rows, columns = np.nonzero(inside)
    assert abs(rows.mean() + 0.5 - 23) < 0.51 and abs(columns.mean() + 0.5 - 12) < 0.51
    assert not polygon(square - 100, 40).any()
