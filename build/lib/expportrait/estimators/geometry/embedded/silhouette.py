"""Normals and depth from a silhouette and a sparse prior: two sparse linear systems a frame, on a coarse grid.

A smooth closed surface turns away from the viewer at its outline: there its normal lies in the image plane, along the
outline's own normal. The smoothest n_x, n_y inside the outline with those rim values, and
n_z = sqrt(1 - n_x^2 - n_y^2), are exactly a sphere for a disc (through a pinhole: in the frame of each pixel's own
ray). A prior (normals of a fitted head) is mixed in by a weight a cell. Both fields are smooth, so
a grid of about 128 cells is enough, if the rim keeps its place between the cells' centres.

Grids are (h, w), row 0 at the top; x right, y up, z to the viewer.
"""

import cv2
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))  # row, column
STEEPEST = 0.22  # slopes are taken from n_z no smaller than this: a rim's slope is infinite


def solve(inside: np.ndarray, across: np.ndarray, down: np.ndarray, data: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """Minimise sum links w (x_i - x_j)^2 + sum cells (data x^2 - 2 rhs x) over the cells ``inside`` (h,w) bool.

    ``across`` (h,w-1) and ``down`` (h-1,w) weigh the links to the right and to the lower neighbour, ``data`` (h,w) > 0
    somewhere in each connected part; ``rhs`` (h,w,c). Returns x (h,w,c) float32, 0 outside.
    """
    out = np.zeros(rhs.shape, np.float32)
    n = int(inside.sum())
    if n == 0:
        return out
    index = np.full(inside.shape, -1)
    index[inside] = np.arange(n)
    i = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    j = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    link = np.concatenate([across.ravel(), down.ravel()]).astype(np.float64)
    keep = (i >= 0) & (j >= 0)
    i, j, link = i[keep], j[keep], link[keep]
    # A part without any data (mask that fills the picture) would be singular; this pulls it to zero too weakly to see.
    diagonal = data[inside].astype(np.float64) + 1e-9
    rows = np.concatenate([i, j, i, j, np.arange(n)])
    columns = np.concatenate([i, j, j, i, np.arange(n)])
    values = np.concatenate([link, link, -link, -link, diagonal])
    matrix = sparse.csc_matrix((values, (rows, columns)), shape=(n, n))
    factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    out[inside] = factor.solve(rhs[inside].astype(np.float64))
    return out


def shift(grid: np.ndarray, row: int, column: int) -> np.ndarray:
    """The neighbour's value at every cell, (h,w) or (h,w,c); edge cells see themselves beyond the border."""
    h, w = grid.shape[:2]
    rows = np.clip(np.arange(h) + row, 0, h - 1)
    columns = np.clip(np.arange(w) + column, 0, w - 1)
    return grid[rows[:, None], columns]


def silhouette_normals(
    alpha: np.ndarray,
    prior: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    across: np.ndarray | None = None,
    down: np.ndarray | None = None,
    shown: np.ndarray | None = None,
) -> np.ndarray:
    """n_x, n_y (h,w,2), in ``to_view``'s frame, of the smoothest surface that is round at the outline of ``alpha``
    (h,w) 0..1, a soft mask.

    The outline is where alpha crosses 1/2. ``prior`` (h,w,2) with ``weight`` (h,w) >= 0 a cell pulls the field;
    ``across`` (h,w-1), ``down`` (h-1,w) in 0..1 loosen links where the surface is torn. The picture's border is free:
    that of the grid, or of the cells ``shown`` (h,w) bool.
    Values go on outside the outline (up to length 1.2), so that the field can be interpolated.
    """
    h, w = alpha.shape
    alpha = alpha.astype(np.float32)
    shown = np.ones((h, w), bool) if shown is None else shown
    inside = (alpha > 0.5) & shown
    smooth = cv2.GaussianBlur(alpha, (0, 0), 1.5, borderType=cv2.BORDER_REPLICATE)
    outward = -np.stack([cv2.Scharr(smooth, cv2.CV_32F, 1, 0), -cv2.Scharr(smooth, cv2.CV_32F, 0, 1)], -1)
    data, rhs = np.zeros((h, w), np.float32), np.zeros((h, w, 2), np.float32)
    links = []
    for row, column in NEIGHBOURS:
        crossing = inside & ~shift(inside, row, column) & shift(shown, row, column)
        distance = np.clip((alpha - 0.5) / np.maximum(alpha - shift(alpha, row, column), 1e-6), 0.1, 1)
        rim = outward * (1 - distance)[..., None] + shift(outward, row, column) * distance[..., None]
        rim /= np.maximum(np.linalg.norm(rim, axis=-1, keepdims=True), 1e-6)
        link = np.where(crossing, 1 / distance, 0).astype(np.float32)
        data += link
        rhs += link[..., None] * rim
        links.append((row, column, link, rim))
    if prior is not None:
        data = data + weight
        rhs = rhs + weight[..., None] * prior
    across = np.ones((h, w - 1), np.float32) if across is None else across
    down = np.ones((h - 1, w), np.float32) if down is None else down
    field = solve(inside, across, down, data, rhs)
    return extend(field, inside, links)


def extend(field: np.ndarray, inside: np.ndarray, links: list) -> np.ndarray:
    """``field`` (h,w,2) continued outside: linearly through the rim for the first cell, then the nearest value."""
    total, count = np.zeros_like(field), np.zeros(inside.shape, np.float32)
    for row, column, link, rim in links:
        ghost = np.where(link[..., None] > 0, field + (rim - field) * link[..., None], 0)
        total += shift(ghost, -row, -column)
        count += shift((link > 0).astype(np.float32), -row, -column)
    ghosts = (count > 0) & ~inside
    total[ghosts] /= count[ghosts][:, None]
    total[ghosts] /= np.maximum(np.linalg.norm(total[ghosts], axis=-1, keepdims=True) / 1.2, 1)
    return nearest(np.where(ghosts[..., None], total, field), inside | ghosts)


def nearest(field: np.ndarray, known: np.ndarray) -> np.ndarray:
    """``field`` (h,w) or (h,w,c), each unknown cell set to the nearest known one's value; zeros if none is known."""
    if known.all() or not known.any():
        return field
    rows, columns = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return field[rows, columns]


def unit_normals(field: np.ndarray) -> np.ndarray:
    """Unit normals (...,3) from n_x, n_y (...,2); components longer than 1 are cut to the rim."""
    x, y = field[..., 0], field[..., 1]
    squared = x * x + y * y
    shrink = 1 / np.sqrt(np.maximum(squared, 1))
    return np.stack([x * shrink, y * shrink, np.sqrt(np.maximum(1 - squared, 0))], -1)


def ray_directions(n: int, pitch: float, focal: float, centre: tuple[float, float]) -> np.ndarray:
    """Unit vectors (n,n,3) from the surface to the camera, at the centres of n x n cells of ``pitch`` px."""
    at = (np.arange(n, dtype=np.float32) + 0.5) * pitch
    x, y = np.meshgrid((at - centre[0]) / focal, (at - centre[1]) / focal)
    return np.stack([-x, y, np.ones_like(x)], -1) / np.sqrt(x * x + y * y + 1)[..., None]


def to_view(normals: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Camera-space normals (h,w,3) turned so that the ray to the camera becomes z: on an outline n_z is exactly 0."""
    along = normals[..., 0] * rays[..., 0] + normals[..., 1] * rays[..., 1] + normals[..., 2] * rays[..., 2]
    k = (along + normals[..., 2]) / (1 + rays[..., 2])
    return np.stack([normals[..., 0] - k * rays[..., 0], normals[..., 1] - k * rays[..., 1], along], -1)


def from_view(normals: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """The inverse of ``to_view``."""
    along = normals[..., 0] * rays[..., 0] + normals[..., 1] * rays[..., 1] + normals[..., 2] * rays[..., 2]
    k = 2 * normals[..., 2] - (along + normals[..., 2]) / (1 + rays[..., 2])
    z = normals[..., 2] * rays[..., 2] - normals[..., 0] * rays[..., 0] - normals[..., 1] * rays[..., 1]
    return np.stack([normals[..., 0] + k * rays[..., 0], normals[..., 1] + k * rays[..., 1], z], -1)


def slopes(normals: np.ndarray, rays: np.ndarray, pitch: float, focal: float) -> tuple[np.ndarray, np.ndarray]:
    """Slope of log depth a cell to the right and down, (h,w) each, of a surface with camera-space ``normals`` (h,w,3).

    From n . dP = 0 for P = Z ray, exact for a pinhole camera; ``pitch`` and ``focal`` in px of the picture.
    """
    facing = (normals * rays).sum(-1) / rays[..., 2]
    scale = pitch / (focal * np.maximum(facing, STEEPEST))
    return normals[..., 0] * scale, -normals[..., 1] * scale


def integrate(
    right: np.ndarray,
    below: np.ndarray,
    inside: np.ndarray,
    across: np.ndarray,
    down: np.ndarray,
    prior: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """The field (h,w) whose differences come closest to the slopes ``right`` and ``below`` (h,w) within ``inside``.

    ``prior`` (h,w) with ``weight`` (h,w) fixes the constant and what the slopes leave open. Continued outside by the
    nearest value.
    """
    step_x = (right[:, 1:] + right[:, :-1]) / 2 * (across * (inside[:, 1:] & inside[:, :-1]))
    step_y = (below[1:] + below[:-1]) / 2 * (down * (inside[1:] & inside[:-1]))
    rhs = weight * prior
    rhs[:, 1:] += step_x
    rhs[:, :-1] -= step_x
    rhs[1:] += step_y
    rhs[:-1] -= step_y
    return nearest(solve(inside, across, down, weight, rhs[..., None])[..., 0], inside)
