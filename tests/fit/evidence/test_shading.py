"""Shape from shading on balls whose relief is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.face_areas import skin
from expportrait.fit.evidence.shading import find_light, relief

SIZE, RADIUS = 128, 56


def ball(bumps: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smooth normals, those with bumps of that height in px, and where n_z > 0.5."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2) / RADIUS
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0))
    smooth = np.stack([x, -y, z], -1)
    height = bumps * np.sin(9 * x + 2) * np.sin(8 * y)
    down, right = np.gradient(height)
    rough = smooth + np.stack([-right, down, 0 * z], -1)
    rough /= np.linalg.norm(rough, axis=-1, keepdims=True)
    return smooth.astype(np.float32), rough.astype(np.float32), z > 0.5


def picture(normals: np.ndarray, light: tuple, colour: float = 0.6) -> np.ndarray:
    lit = colour * (0.3 + 0.7 * np.clip(normals @ (np.array(light) / np.linalg.norm(light)), 0, 1))
    return np.repeat(np.rint(255 * lit ** (1 / 2.2)).astype(np.uint8)[..., None], 3, -1)


def refined(frame: np.ndarray, smooth: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tilt, raised = relief(frame, smooth, where, SIZE)
    out = smooth + np.concatenate([tilt, np.zeros_like(tilt[..., :1])], -1)
    return out / np.linalg.norm(out, axis=-1, keepdims=True), raised


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1))).mean())


@pytest.mark.parametrize("light", [(1, 0.5, 1), (-1, 0.3, 0.6), (0.2, 1, 0.7)])
def test_bumps_are_found_whatever_side_the_light_is_on(light):
    smooth, rough, where = ball(1.2)
    found, raised = refined(picture(rough, light), smooth, where)
    assert degrees(found[where], rough[where]) < 0.75 * degrees(smooth[where], rough[where])
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2) / RADIUS
    assert np.corrcoef(raised[where], (np.sin(9 * x + 2) * np.sin(8 * y))[where])[0, 1] > 0.4  # towards the viewer


@settings(deadline=None)
@given(st.floats(0.05, 1), st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.5, 1)))
def test_a_smooth_surface_stays_smooth(colour, light):
    smooth, _, where = ball()
    found, _ = refined(picture(smooth, light, colour), smooth, where)
    assert degrees(found[where], smooth[where]) < 3  # the edge of a ball's own shadow is no slope


def test_colour_alone_does_little_harm():
    smooth, _, where = ball()
    frame = picture(smooth, (1, 0.5, 1))
    frame[60:64] = 10  # the rim of a pair of glasses
    found, _ = refined(frame, smooth, where)
    assert degrees(found[where], smooth[where]) < 2 and np.isfinite(found).all()


@pytest.mark.parametrize("frame", [np.zeros((SIZE, SIZE, 3), np.uint8), np.full((SIZE, SIZE, 3), 255, np.uint8)])
def test_a_picture_without_light_changes_nothing(frame):
    smooth, _, where = ball()
    tilt, raised = relief(frame, smooth, where, SIZE)
    assert np.abs(tilt).max() < 1e-3 and np.abs(raised).max() < 1e-2


def test_nothing_to_look_at():
    smooth, _, _ = ball()
    tilt, raised = relief(np.zeros((SIZE, SIZE, 3), np.uint8), smooth, np.zeros((SIZE, SIZE), bool), SIZE)
    assert not tilt.any() and not raised.any()


def test_the_light_is_the_one_that_was_lit_with():
    smooth, _, where = ball()
    b = np.array([0.4, 0.2, 0.5])
    brightness = smooth[where] @ b + 0.6
    brightness[::50] = 0.1  # stubble
    assert np.abs(find_light(smooth[where], brightness) - [*b, 0.6]).max() < 0.05


def test_eyes_and_lips_are_no_skin():
    points = np.full((478, 3), 64.0)
    eye = [33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173]
    angle = np.linspace(0, 2 * np.pi, len(eye), endpoint=False)
    points[eye, 0], points[eye, 1] = 40 + 6 * np.cos(angle), 30 + 4 * np.sin(angle)
    found = skin(np.ones((SIZE, SIZE), bool), points)
    assert not found[30, 40] and found[100, 100]
