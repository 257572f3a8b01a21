"""The silhouette solver against surfaces that are known exactly."""

import cv2
import numpy as np
import pytest

from expportrait.estimators.geometry.embedded.silhouette import (
    from_view,
    integrate,
    ray_directions,
    silhouette_normals,
    slopes,
    solve,
    to_view,
    unit_normals,
)

FOCAL = 800.0


def disc(n: int, x: float, y: float, radius: float) -> np.ndarray:
    """Coverage (n,n) of a disc, its centre and radius in cells."""
    fine = (np.arange(8 * n) + 0.5) / 8
    inside = (fine - x) ** 2 + ((fine - y) ** 2)[:, None] < radius**2
    return cv2.resize(inside.astype(np.float32), (n, n), interpolation=cv2.INTER_AREA)


def sphere_field(n: int, x: float, y: float, radius: float) -> np.ndarray:
    """n_x, n_y (n,n,2) of the sphere over that disc."""
    at = np.arange(n) + 0.5
    return np.stack(np.broadcast_arrays((at - x) / radius, -((at - y) / radius)[:, None]), -1)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


@pytest.mark.parametrize(("x", "y", "radius"), [(32, 32, 22), (30.3, 33.6, 12.4)])
def test_a_disc_becomes_a_sphere(x, y, radius):
    alpha, truth = disc(64, x, y, radius), sphere_field(64, x, y, radius)
    field = silhouette_normals(alpha)
    inside = alpha > 0.5
    assert np.abs(field - truth)[inside].max() < 0.01
    error = angle(unit_normals(field), unit_normals(truth))
    assert error[inside].mean() < 0.3
    deep = (truth**2).sum(-1) < 0.9  # at the rim itself an angle is ill-conditioned: dn_z = n_xy dn_xy / n_z
    assert error[deep].max() < 0.6


def test_field_goes_on_outside_the_outline():
    alpha, truth = disc(64, 31.7, 32.2, 20), sphere_field(64, 31.7, 32.2, 20)
    beside = (alpha <= 0.5) & (cv2.dilate((alpha > 0.5).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    assert np.abs(silhouette_normals(alpha) - truth)[beside].max() < 0.08


def test_finer_grid_is_closer_to_the_sphere():
    def error(n):
        s = n / 64
        field, truth = (
            silhouette_normals(disc(n, 31.7 * s, 32.2 * s, 20 * s)),
            sphere_field(n, 31.7 * s, 32.2 * s, 20 * s),
        )
        return angle(unit_normals(field), unit_normals(truth))[disc(n, 31.7 * s, 32.2 * s, 20 * s) > 0.5].mean()

    assert error(128) < 0.7 * error(64) < 0.7 * 0.7 * error(32)


def test_where_the_picture_ends_within_the_grid_all_is_as_if_the_grid_ended_there():
    """The upper third of a disc lies beyond the picture, where the mask goes on as at its edge."""
    alpha, shown = disc(64, 32, 32, 22), np.ones((64, 64), bool)
    shown[:25], alpha[:25] = False, alpha[25]
    field, alone = silhouette_normals(alpha, shown=shown)[25:], silhouette_normals(alpha[25:])
    inside = alpha[25:] > 0.5
    assert np.abs(field - alone)[inside].max() < 0.1
    assert field[0, 20:44, 1].max() < 0.8, "no rim at the cut"


def test_picture_border_is_not_an_outline():
    """A bar that runs out of the picture at top and bottom is a cylinder: n_y = 0 everywhere."""
    alpha = np.zeros((48, 48), np.float32)
    alpha[:, 12:36] = 1
    field = silhouette_normals(alpha)
    assert np.abs(field[:, 12:36, 1]).max() < 1e-4
    np.testing.assert_allclose(field[10, 12:36, 0], (np.arange(24) + 0.5 - 12) / 12, atol=0.02)


def test_full_and_empty_masks_are_flat():
    for alpha in (np.ones((16, 16), np.float32), np.zeros((16, 16), np.float32)):
        np.testing.assert_allclose(unit_normals(silhouette_normals(alpha)), np.broadcast_to([0, 0, 1.0], (16, 16, 3)))


def test_strong_prior_wins_and_weak_prior_does_not():
    alpha = disc(48, 24, 24, 18)
    prior = np.full((48, 48, 2), 0.3, np.float32)
    near_centre = disc(48, 24, 24, 9) > 0.5
    strong = silhouette_normals(alpha, prior, np.full((48, 48), 1e3, np.float32))
    assert np.abs(strong - prior)[near_centre].max() < 0.01
    weak = silhouette_normals(alpha, prior, np.full((48, 48), 1e-5, np.float32))
    assert np.abs(weak - silhouette_normals(alpha))[near_centre].max() < 0.01


def test_torn_links_separate_two_parts():
    inside = np.ones((8, 8), bool)
    data = np.zeros((8, 8), np.float32)
    rhs = np.zeros((8, 8, 1), np.float32)
    data[0], data[-1] = 1, 1
    rhs[-1] = 1
    down = np.ones((7, 8), np.float32)
    down[3] = 1e-4
    x = solve(inside, np.ones((8, 7), np.float32), down, data, rhs)[..., 0]
    assert x[:4].max() < 0.01
    assert x[4:].min() > 0.99


def test_view_frame_turns_the_ray_to_z_and_back():
    rays = ray_directions(16, 30.0, 300.0, (200, 260))
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(to_view(rays, rays), np.broadcast_to([0, 0, 1.0], rays.shape), atol=1e-6)
    normals = np.random.default_rng(0).normal(size=rays.shape)
    np.testing.assert_allclose(from_view(to_view(normals, rays), rays), normals, atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(to_view(normals, rays), axis=-1), np.linalg.norm(normals, axis=-1), rtol=1e-6
    )


def depth_of(normals, inside, truth, fixed):
    """Depth (h,w) integrated from ``normals``, given ``truth`` in the cells ``fixed``."""
    h, w = inside.shape
    right, below = slopes(normals, ray_directions(h, 1.0, FOCAL, (w / 2, h / 2)), 1.0, FOCAL)
    across, down = np.ones((h, w - 1), np.float32), np.ones((h - 1, w), np.float32)
    return np.exp(integrate(right, below, inside, across, down, np.where(fixed, np.log(truth), 0), fixed * 1.0))


def test_tilted_plane_integrates_to_its_own_depth():
    """Through a pinhole: Z = d / (n . ray) for the plane n . P = -d."""
    n = np.array([0.35, -0.25, 1.0])
    n /= np.linalg.norm(n)
    at = np.arange(64) + 0.5 - 32
    rays = np.stack(np.broadcast_arrays(at / FOCAL, -(at / FOCAL)[:, None], -1.0), -1)
    truth = -1.5 / (rays @ n)
    inside, fixed = np.ones((64, 64), bool), np.zeros((64, 64), bool)
    fixed[10, 50] = True
    depth = depth_of(np.broadcast_to(n, (64, 64, 3)), inside, truth, fixed)
    assert np.ptp(truth) > 0.05
    assert np.abs(depth - truth).max() < 1e-4


def test_sphere_integrates_to_its_own_depth():
    """Normals and depth of a ball of 3 cm seen through a pinhole at 1.5 m."""
    ball, at = 0.03, np.arange(64) + 0.5 - 32
    rays = np.stack(np.broadcast_arrays(at / FOCAL, -(at / FOCAL)[:, None], -1.0), -1)
    middle = np.array([0.0, 0.0, -1.5])
    b, a = rays @ middle, (rays**2).sum(-1)
    root = b**2 - a * (middle @ middle - ball**2)
    truth = (b - np.sqrt(np.maximum(root, 0))) / a
    normals = (truth[..., None] * rays - middle) / ball
    inside = (root > 0) & (normals[..., 2] > 0.3)
    fixed = np.zeros((64, 64), bool)
    fixed[32, 32] = True
    depth = depth_of(normals, inside, truth, fixed)
    assert np.ptp(truth[inside]) > 0.015
    assert np.abs(depth - truth)[inside].max() < 3e-4
