"""The face's relief from its shading: linear shape from shading around a smooth surface that is known already.

Skin of one colour under far lights: its brightness is nearly an affine function a + b . n of the normal (spherical
harmonics of degree one). a and b are fitted to the smooth normals; what is left, short waves alone (long ones are
colour, cheeks and stubble), is put down to a height h over that surface:

    minimise  sum w (c . grad h - r)^2 + PRIOR |grad h|^2,   c = change of log brightness with the slope of h.

A sparse system on a grid over the face. Where the light comes straight from the camera nothing is learnt, and nothing
is changed. Colour that is no shape (freckles, make-up, beards, cast shadows) misleads it; w is small where
r is beyond ``STEEPEST``, which bounds the harm.
"""

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from expportrait.face_areas import skin

CELLS = 160  # along the longer side of the face, none smaller than a pixel
WAVE = 0.12  # Gaussian width that divides short from long waves, in face heights
PRIOR = 0.3  # (noise of the log brightness over the relief's slope)^2
STEEPEST = 0.6  # of log brightness: more is an edge of colour, half believed
GAMMA = 2.2
ROBUST = 0.15  # of the mean brightness: residual that is half believed when the light is fitted
DARKEST = 0.25  # of the mean brightness, to which the light's own shading is cut
FEATHER = 0.08  # face heights over which relief ends at the face's rim: else it is seen as a mask's edge
FEW = 100  # cells below which there is no face to speak of


def find_light(normals: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """(4,) b and a of brightness ~ b . n + a, from normals (k,3) and brightness (k,) >= 0; outliers count little."""
    columns = np.concatenate([normals, np.ones((len(normals), 1))], 1)
    weight, mean = np.ones(len(normals)), brightness.mean()
    for _ in range(6):
        normal = (columns * weight[:, None]).T @ columns + 1e-3 * len(columns) * np.diag([1, 1, 1, 0])
        light = np.linalg.solve(normal, columns.T @ (weight * brightness))
        weight = 1 / (1 + ((columns @ light - brightness) / (ROBUST * mean)) ** 2)
    return light


def relief(frame: np.ndarray, normals: np.ndarray, where: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
    """What the shading adds to a smooth surface.

    frame (H,W,3) u8 RGB; normals (H,W,3) unit; where (H,W) bool, skin; height: of the face, px.
    Returns (H,W,2) to be added to n_x and n_y, and the relief (H,W) px towards the viewer; 0 elsewhere.
    """
    tilt, raised = np.zeros((*where.shape, 2), np.float32), np.zeros(where.shape, np.float32)
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    if len(rows) < 2 or len(columns) < 2:
        return tilt, raised
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    h, w = where[box].shape
    pitch = max(h, w) / CELLS if max(h, w) > CELLS else 1.0
    size = max(2, round(w / pitch)), max(2, round(h / pitch))

    def small(image: np.ndarray) -> np.ndarray:
        return cv2.resize(np.ascontiguousarray(image, np.float32), size, interpolation=cv2.INTER_AREA)

    bright = small((cv2.cvtColor(np.ascontiguousarray(frame[box]), cv2.COLOR_RGB2GRAY) / np.float32(255)) ** GAMMA)
    inside, n = small(where[box]) > 0.9, small(normals[box])
    if inside.sum() < FEW or bright[inside].mean() < 1e-3:
        return tilt, raised
    n /= np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-6)
    mean = bright[inside].mean()
    light = find_light(n[inside].astype(np.float64), bright[inside].astype(np.float64)).astype(np.float32)
    lit = np.maximum(n @ light[:3] + light[3], DARKEST * mean)
    left = np.log(np.maximum(bright, 0.02 * mean)) - np.log(lit)
    believed, wide = inside.astype(np.float32), WAVE * height / pitch
    for _ in range(2):  # what stands out, such as a rim of glasses, must not darken what is beside it either
        short = left - long_waves(left, believed, wide)
        believed = inside / (1 + (short / STEEPEST) ** 4)
    short = np.clip(short, -STEEPEST, STEEPEST)
    along = n @ light[:3]
    # A slope of h turns n by (-h_x, h_y), y being down; what lengthens n only is taken off.
    change = -(light[0] - along * n[..., 0]) / lit, (light[1] - along * n[..., 1]) / lit
    field, slope_x, slope_y = heights(inside, *change, short, believed)
    grid = (
        np.stack([-slope_x, slope_y, field * pitch], -1)
        * cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1)[..., None]
    )
    full = cv2.resize(grid, (w, h), interpolation=cv2.INTER_LINEAR) * where[box][..., None]
    tilt[box], raised[box] = full[..., :2], full[..., 2]
    return tilt, raised


def face_relief(
    frame: np.ndarray, normals: np.ndarray, face: np.ndarray, shown: np.ndarray, points: np.ndarray, height: float
) -> tuple[np.ndarray, np.ndarray]:
    """``relief`` of the skin in the ``face`` (H,W) bool, without eyes, brows and lips of ``points`` (478,3) px, where
    it is ``shown`` (H,W) bool. It fades towards the face's edge."""
    tilt, raised = relief(frame, normals, skin(face, points) & shown, height)
    inside = cv2.distanceTransform(face.astype(np.uint8), cv2.DIST_L2, 3)
    fade = np.clip(inside / max(FEATHER * height, 1), 0, 1)
    return fade[..., None] * tilt, fade * raised


def long_waves(image: np.ndarray, weight: np.ndarray, width: float) -> np.ndarray:
    """(h,w) blurred by ``width`` cells, weighted by (h,w) 0..1."""
    blurred = cv2.GaussianBlur(image * weight, (0, 0), max(width, 0.5))
    return blurred / np.maximum(cv2.GaussianBlur(weight, (0, 0), max(width, 0.5)), 1e-3)


def heights(
    inside: np.ndarray, by_x: np.ndarray, by_y: np.ndarray, wanted: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The minimum of the module's sum over the cells ``inside`` (h,w) bool: h in cells, and its slopes to the right
    and down, (h,w) each. ``by_x``, ``by_y``: c; ``wanted``: r, with a ``weight`` 0..1."""
    count = int(inside.sum())
    index = np.full(inside.shape, -1)
    index[inside] = np.arange(count)
    whole = inside[:-1, :-1] & inside[1:, :-1] & inside[:-1, 1:]
    y, x = np.nonzero(whole)
    rows, ones = np.arange(len(y)), np.ones(len(y))

    def step(to: np.ndarray) -> sparse.csr_matrix:
        entries = np.concatenate([-ones, ones]), (np.tile(rows, 2), np.concatenate([index[y, x], to]))
        return sparse.csr_matrix(entries, (len(y), count))

    right, down = step(index[y, x + 1]), step(index[y + 1, x])
    data = sparse.diags(by_x[y, x]) @ right + sparse.diags(by_y[y, x]) @ down
    # The last term holds h itself, which its slopes leave open.
    weighted = sparse.diags(weight[y, x]) @ data
    matrix = data.T @ weighted + PRIOR * (right.T @ right + down.T @ down) + 1e-4 * sparse.identity(count)
    factor = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    solved = factor.solve(weighted.T @ wanted[y, x].astype(np.float64))
    out = np.zeros((3, *inside.shape), np.float32)
    out[0][inside], out[1][y, x], out[2][y, x] = solved, right @ solved, down @ solved
    return out[0], out[1], out[2]
