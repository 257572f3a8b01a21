"""A portrait taken apart for animation: what turns, by how much and at which depth, as one mesh over the picture.

Heights are metres towards the camera, in front of the plane through the head's outline.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse
from scipy.interpolate import LinearNDInterpolator
from scipy.sparse.linalg import spsolve
from scipy.spatial import Delaunay, cKDTree

from expportrait.demo.cutout import bare_lids, behind, own_colour
from expportrait.demo.portrait import REFERENCE_SIZE, Portrait
from expportrait.demo.topology import polygon_mask, triangles
from expportrait.points478 import CHIN, EARS, FACE_OVAL, FOREHEAD, SKIN_POINTS, UPPER_LIP_INNER

CURVATURE = 3.2  # -Laplacian of the squared height; a ball has 4
COARSE = 4  # px: the step at which the heights are solved
GRID = 7  # px of a portrait of REFERENCE_SIZE between the sheet's grid points
FALLOFF = 0.55  # face heights below the head over which its motion fades out ...
SIDEWAYS = 0.6  # ... and the share of it sideways, where the shoulders come close
EXPRESSION_REACH = 0.30  # face heights beyond the oval that follow the face's expression


@dataclass
class Scene:
    """A portrait ready to move. Points in camera space (m, camera at the origin), pictures in px of the portrait."""

    image: np.ndarray  # (S,S,3) u8
    background: np.ndarray  # (S,S,3) u8: the portrait, filled in where the head was
    texture: np.ndarray  # (S,S,4) u8: the person's own colour times alpha, and alpha
    closed: np.ndarray  # (S,S,4) u8: the same with upper lids free of lashes, for the skin that a blink unfolds
    focal: float  # px
    points: np.ndarray  # (478,3) m: landmarks at the portrait's pose
    vertices: np.ndarray  # (V,3) m: the 468 mesh points first, then the sheet's grid
    texture_points: np.ndarray  # (V,2) px
    faces: np.ndarray  # (F,3)
    head_share: np.ndarray  # (V,) 1 what turns with the head .. 0 what stays
    oval_share: np.ndarray  # (V - 468, 36): how the grid follows the expression of the oval's points
    pivot: np.ndarray  # (3,) m: what the head turns about
    face_height: float  # px, forehead to chin


def lift(pixels: np.ndarray, depth: np.ndarray | float, focal: float, size: int) -> np.ndarray:
    """(...,2) px at (...,) m depth -> (...,3) m in camera space."""
    x, y = pixels[..., 0] - size / 2, size / 2 - pixels[..., 1]
    return np.stack([x * depth / focal, y * depth / focal, -depth * np.ones_like(x)], -1)


def project(points: np.ndarray, focal: float, size: int) -> np.ndarray:
    """(...,3) m in camera space -> (...,2) px."""
    return size / 2 + focal * points[..., :2] / -points[..., 2:] * (1, -1)


def smoothstep(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def inflate(inside: np.ndarray, known: np.ndarray, height: np.ndarray, pixel: float) -> np.ndarray:
    """Heights (H,W) m of a round surface: 0 on the outline of ``inside``, ``height`` where ``known``.

    Solves Laplace(h^2) = -CURVATURE inside, which makes a ball of a disc; at the picture's border the surface runs on.
    ``pixel`` is the side of a pixel in metres.
    """
    rows, cols = inside.shape
    free = inside & ~known
    index = np.full(inside.shape, -1)
    index[free] = np.arange(free.sum())
    value = np.where(known & inside, np.maximum(height, 0) ** 2, 0.0)
    y, x = np.nonzero(free)
    diagonal, right = np.zeros(len(y)), np.full(len(y), CURVATURE * pixel**2)
    links = []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        ny, nx = y + dy, x + dx
        exists = (ny >= 0) & (ny < rows) & (nx >= 0) & (nx < cols)
        diagonal += exists
        ny, nx = ny.clip(0, rows - 1), nx.clip(0, cols - 1)
        other = index[ny, nx]
        right += np.where(exists & (other < 0), value[ny, nx], 0)
        linked = np.nonzero(exists & (other >= 0))[0]
        links.append((linked, other[linked]))
    i, j = (np.concatenate(side) for side in zip(*links, strict=True))
    matrix = sparse.coo_matrix((-np.ones(len(i)), (i, j)), (len(y), len(y))) + sparse.diags(diagonal)
    value[free] = spsolve(matrix.tocsc(), right)
    return np.sqrt(np.maximum(value, 0))


def depth_sheet(portrait: Portrait, depth: np.ndarray, base: float, focal: float) -> np.ndarray:
    """(S,S) m: height of the person over the plane at depth ``base``, from the outline and the depths (468,) m of the
    face's landmarks."""
    size = len(portrait.image)
    points = portrait.points[:SKIN_POINTS, :2]
    small = (size // COARSE, size // COARSE)
    centres = (np.mgrid[: small[0], : small[1]][::-1].transpose(1, 2, 0) + 0.5) * COARSE
    face = LinearNDInterpolator(points, base - depth)(centres)
    known = polygon_mask(points[list(FACE_OVAL)] / COARSE, small) & ~np.isnan(face)
    inside = cv2.resize(portrait.alpha, small, interpolation=cv2.INTER_AREA) > 0.5
    height = inflate(inside | known, known, np.nan_to_num(face), COARSE * base / focal)
    height = cv2.resize(height, (size, size), interpolation=cv2.INTER_LINEAR)
    # The outline of a ball is infinitely steep: a turn would draw its last pixels out into streaks.
    return cv2.GaussianBlur(height, (0, 0), 5 * size / REFERENCE_SIZE)


def sheet_grid(outline: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Grid points (n,2) px over the picture outside the face's ``outline`` (36,2) px, and faces (m,3) that join them to
    it: ids below 36 are the outline's."""
    step = GRID * size / REFERENCE_SIZE
    axis = np.arange(-step, size + 2 * step, step)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    ring = outline.astype(np.float32)
    grid = np.array([p for p in grid if cv2.pointPolygonTest(ring, tuple(map(float, p)), True) < -step / 2])
    points = np.concatenate([outline, grid])
    faces = Delaunay(points).simplices
    middles = points[faces].mean(1)
    outside = [cv2.pointPolygonTest(ring, tuple(map(float, p)), False) < 0 for p in middles]
    return grid, faces[outside]


def head_share_of(portrait: Portrait, grid: np.ndarray, face_height: float) -> np.ndarray:
    """(n,) 1 at grid points (n,2) px on head and hair, fading to 0 down the neck and towards the shoulders."""
    points = portrait.points[:, :2]
    head = portrait.alpha > 0.5
    head[int(points[UPPER_LIP_INNER[5], 1]) :] = False  # below the mouth only the face itself
    head |= polygon_mask(points[list(FACE_OVAL)], head.shape)
    stretch = np.array([1 / SIDEWAYS, 1.0])
    nearest = cKDTree((np.argwhere(head)[::3, ::-1] + 0.5) * stretch)
    return 1 - smoothstep(nearest.query(grid * stretch)[0] / (FALLOFF * face_height))


def build_scene(portrait: Portrait, fitted: np.ndarray, focal: float) -> Scene:
    """Take ``portrait`` apart, with depth from the fitted head's landmarks ``fitted`` (478,3) m in camera space."""
    size = len(portrait.image)
    pixels, depth = portrait.points[:, :2].astype(float), -fitted[:, 2]
    points = lift(pixels, depth, focal, size)
    face_height = float(np.linalg.norm(pixels[FOREHEAD] - pixels[CHIN]))
    base = float(depth[list(EARS)].mean())
    height = depth_sheet(portrait, depth[:SKIN_POINTS], base, focal)

    ring = list(FACE_OVAL)
    grid, sheet = sheet_grid(pixels[ring], size)
    sheet = np.concatenate([ring, SKIN_POINTS + np.arange(len(grid))])[sheet]
    at = grid.clip(0, size - 1).astype(int)
    vertices = np.concatenate([points[:SKIN_POINTS], lift(grid, base - height[at[:, 1], at[:, 0]], focal, size)])
    texture_points = np.concatenate([pixels[:SKIN_POINTS], grid])
    head_share = np.concatenate([np.ones(SKIN_POINTS), head_share_of(portrait, grid, face_height)])
    gap = np.linalg.norm(grid[:, None] - pixels[ring], axis=-1)
    oval_share = gap**-3.0 / (gap**-3.0).sum(1, keepdims=True)
    oval_share *= np.exp(-((gap.min(1, keepdims=True) / (EXPRESSION_REACH * face_height)) ** 2))

    # Only what moves and shows is drawn; the rest of the picture is the background's.
    reach = 2 * round(GRID * size / REFERENCE_SIZE) + 1
    shows = cv2.dilate((portrait.alpha > 0.004).astype(np.uint8), np.ones((reach, reach))) > 0
    at = texture_points.clip(0, size - 1).astype(int)
    drawn = (head_share > 1e-3) & shows[at[:, 1], at[:, 0]]
    faces = np.concatenate([triangles(), sheet[drawn[sheet].any(1)]])

    texture = own_colour(portrait)
    pivot = np.array([pixels[[FOREHEAD, CHIN], 0].mean(), pixels[CHIN, 1] - 0.1 * face_height])
    return Scene(
        image=portrait.image,
        background=moving_background(portrait, texture_points, head_share),
        texture=texture,
        closed=bare_lids(texture, pixels, face_height),
        focal=focal,
        points=points,
        vertices=vertices,
        texture_points=texture_points,
        faces=faces,
        head_share=head_share,
        oval_share=oval_share,
        pivot=lift(pivot, base, focal, size),
        face_height=face_height,
    )


def moving_background(portrait: Portrait, at: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(S,S,3) u8: the portrait, its background filled in where it moves: by the ``share`` (V,) of points (V,2) px."""
    size = len(portrait.image)
    centres = np.mgrid[:size, :size][::-1].transpose(1, 2, 0)[::COARSE, ::COARSE] + COARSE / 2
    share = cv2.resize(share[cKDTree(at).query(centres)[1]].astype(np.float32), (size, size))
    moving = cv2.GaussianBlur(np.clip((share - 0.01) / 0.02, 0, 1), (0, 0), 3 * size / REFERENCE_SIZE)[..., None]
    return np.round(portrait.image + (behind(portrait).astype(np.float32) - portrait.image) * moving).astype(np.uint8)
