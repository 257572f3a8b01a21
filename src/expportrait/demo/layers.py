"""A portrait taken apart for animation: background, cut-out, a depth sheet, and the mesh that carries the picture.

Heights are metres towards the camera, in front of ``base``: the plane through the head's outline.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse
from scipy.interpolate import LinearNDInterpolator
from scipy.sparse.linalg import spsolve
from scipy.spatial import Delaunay, cKDTree

from expportrait.demo.portrait import Portrait
from expportrait.demo.topology import CHIN, FOREHEAD, LIDS, MESH_POINTS, UPPER_LIP, oval, triangles

EARS = (234, 454)  # landmarks of the oval in front of the ears
CURVATURE = 3.2  # -Laplacian of the squared height; a sphere has 4
GRID = 7  # px of a 512 px portrait between the sheet's grid points
FALLOFF = 0.55  # face heights below the head over which its motion fades out; sideways 0.6 times that
EXPRESSION_REACH = 0.30  # face heights beyond the oval that follow the face's expression


@dataclass
class Scene:
    """A portrait ready to move. Points in camera space (metres, camera at the origin), textures in px of the portrait."""

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
    face_height: float  # px, landmark 10 to 152


def lift(pixels: np.ndarray, depth: np.ndarray, focal: float, size: int) -> np.ndarray:
    """(...,2) px at (...,) m depth -> (...,3) m in camera space."""
    x, y = pixels[..., 0] - size / 2, size / 2 - pixels[..., 1]
    return np.stack([x * depth / focal, y * depth / focal, -depth * np.ones_like(x)], -1)


def project(points: np.ndarray, focal: float, size: int) -> np.ndarray:
    """(...,3) m in camera space -> (...,2) px."""
    return size / 2 + focal * points[..., :2] / -points[..., 2:] * (1, -1)


def fill(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(H,W,C) f32 with the pixels of small weight (H,W) f32 filled in smoothly from the others, coarse to fine."""
    if min(weight.shape) > 2:
        total = cv2.pyrDown(weight)
        mean = cv2.pyrDown(image * weight[..., None]) / np.maximum(total, 1e-6)[..., None]
        coarse = fill(mean, np.clip(total * 4, 0, 1))
        coarse = cv2.pyrUp(coarse, dstsize=weight.shape[::-1])
    else:
        coarse = np.broadcast_to((image * weight[..., None]).sum((0, 1)) / max(weight.sum(), 1e-6), image.shape)
    return image * weight[..., None] + coarse * (1 - weight[..., None])


def polygon_mask(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H,W) bool: inside a polygon (n,2) px."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round((points - 0.5) * 16).astype(np.int32)], 1, shift=4)
    return mask > 0


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
    """(S,S) m: height over ``base`` of the person, from the depths (468,) m of the face's landmarks and the outline."""
    size, step = len(portrait.image), 4
    points = portrait.points[:MESH_POINTS, :2]
    small = (size // step, size // step)
    centres = (np.mgrid[: small[0], : small[1]][::-1].transpose(1, 2, 0) + 0.5) * step
    face = LinearNDInterpolator(points, base - depth)(centres)
    known = polygon_mask(points[oval()] / step, small) & ~np.isnan(face)
    inside = cv2.resize(portrait.alpha, small, interpolation=cv2.INTER_AREA) > 0.5
    height = inflate(inside | known, known, np.nan_to_num(face), step * base / focal)
    return cv2.GaussianBlur(cv2.resize(height, (size, size), interpolation=cv2.INTER_LINEAR), (0, 0), 5 * size / 512)


def head_outline(portrait: Portrait) -> np.ndarray:
    """(S,S) bool: head and hair, that is the person above the mouth, and the face."""
    points = portrait.points[:, :2]
    head = portrait.alpha > 0.5
    head[int(points[UPPER_LIP[5], 1]) :] = False
    return head | polygon_mask(points[oval()], head.shape)


def build_scene(portrait: Portrait, fitted: np.ndarray, focal: float) -> Scene:
    """Take ``portrait`` apart, with depth from the fitted head's landmarks ``fitted`` (478,3) m in camera space."""
    size = len(portrait.image)
    pixels, depth = portrait.points[:, :2].astype(float), -fitted[:, 2]
    points = lift(pixels, depth, focal, size)
    face_height = float(np.linalg.norm(pixels[FOREHEAD] - pixels[CHIN]))
    ring, face = oval(), triangles()
    base = float(depth[list(EARS)].mean())
    height = depth_sheet(portrait, depth[:MESH_POINTS], base, focal)

    # The sheet: a grid around the oval, on its own Delaunay triangles.
    step = GRID * size / 512
    axis = np.arange(-step, size + 2 * step, step)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    clear = cv2.dilate(polygon_mask(pixels[ring], (size, size)).astype(np.uint8), np.ones((int(step) | 1,) * 2)) > 0
    at = np.clip(grid, 0, size - 1).astype(int)
    grid = grid[~clear[at[:, 1], at[:, 0]]]
    around = np.concatenate([pixels[ring], grid])
    ids = np.concatenate([ring, MESH_POINTS + np.arange(len(grid))])
    simplices = Delaunay(around).simplices
    middle = around[simplices].mean(1)
    inner = cv2.pointPolygonTest
    outside = [inner(pixels[ring].astype(np.float32), (float(x), float(y)), False) < 0 for x, y in middle]
    sheet = ids[simplices[outside]]
    at = np.clip(grid, 0, size - 1).astype(int)
    vertices = np.concatenate([points[:MESH_POINTS], lift(grid, base - height[at[:, 1], at[:, 0]], focal, size)])
    texture_points = np.concatenate([pixels[:MESH_POINTS], grid])

    # How much every vertex turns with the head: the fade is shorter sideways, where shoulders come close.
    head = np.argwhere(head_outline(portrait))[::3, ::-1] + 0.5
    stretch = np.array([1 / 0.6, 1.0])
    away = cKDTree(head * stretch).query(grid * stretch)[0] / (FALLOFF * face_height)
    away = np.clip(away, 0, 1)
    share = np.concatenate([np.ones(MESH_POINTS), 1 - away * away * (3 - 2 * away)])
    gap = np.linalg.norm(grid[:, None] - pixels[ring], axis=-1)
    oval_share = gap**-3.0
    oval_share /= oval_share.sum(1, keepdims=True)
    oval_share *= np.exp(-((gap.min(1, keepdims=True) / (EXPRESSION_REACH * face_height)) ** 2))

    # Only what moves and shows is drawn; the rest of the picture is the background's.
    moves = cv2.dilate((portrait.alpha > 0.004).astype(np.uint8), np.ones((3, 3))) > 0
    reach = cv2.dilate(moves.astype(np.uint8), np.ones((2 * int(step) + 1,) * 2)) > 0
    at = np.clip(texture_points, 0, size - 1).astype(int)
    drawn = (share > 1e-3) & reach[at[:, 1], at[:, 0]]
    sheet = sheet[drawn[sheet].any(1)]
    background, texture = split(portrait, texture_points, share)
    middle_x = pixels[[FOREHEAD, CHIN], 0].mean()
    pivot = lift(np.array([middle_x, pixels[CHIN, 1] - 0.1 * face_height]), np.float64(base), focal, size)
    return Scene(
        portrait.image, background, texture, bare_lids(texture, pixels, face_height), focal, points, vertices, texture_points,
        np.concatenate([face, sheet]), share, oval_share, pivot, face_height,
    )  # fmt: skip


def behind(portrait: Portrait) -> np.ndarray:
    """(S,S,3) u8: the picture without the person. A band along the outline, the only part that is ever uncovered, mirrors what
    stands beyond it, clutter left out; the rest is filled in smoothly.
    """
    image, size = portrait.image, len(portrait.image)
    hole = cv2.dilate((portrait.alpha > 0.02).astype(np.uint8), np.ones((7, 7)))
    unknown = np.maximum(hole, cv2.dilate(portrait.clutter.astype(np.uint8), np.ones((3, 3))))
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    half_unknown = cv2.dilate(cv2.resize(unknown, half.shape[1::-1], interpolation=cv2.INTER_AREA), np.ones((3, 3)))
    smooth = cv2.inpaint(half, half_unknown, 5, cv2.INPAINT_TELEA)
    smooth = cv2.resize(cv2.GaussianBlur(smooth, (0, 0), 1.5), (size, size), interpolation=cv2.INTER_LINEAR)
    plain = np.where(unknown[..., None] > 0, smooth, image)
    band, label = cv2.distanceTransformWithLabels(hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    y, x = np.nonzero(hole == 0)
    nearest = np.zeros((label.max() + 1, 2), np.float32)
    nearest[label[y, x]] = np.column_stack([x, y])
    here = np.mgrid[:size, :size][::-1].transpose(1, 2, 0).astype(np.float32)
    there = np.where(hole[..., None] > 0, 2 * nearest[label] - here, -10)
    mirrored = cv2.remap(np.dstack([plain, 255 * (1 - hole)]), *there.transpose(2, 0, 1), cv2.INTER_LINEAR)
    valid = mirrored[..., 3] > 254
    mirrored = np.where(valid[..., None], mirrored[..., :3], smooth)
    trust = np.clip((30 * size / 512 - band) / 10, 0, 1) * cv2.erode(valid.astype(np.float32), np.ones((3, 3)))
    trust = cv2.GaussianBlur(trust, (0, 0), 1.0)[..., None]
    filled = smooth * (1 - trust) + mirrored * trust
    soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 1.0)[..., None]
    return (image + (np.clip(filled, 0, 255) - image) * soft).round().astype(np.uint8)


def split(portrait: Portrait, at: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The background (S,S,3) u8 with what never moves, and the person's texture (S,S,4) u8, colour times alpha.

    ``share`` (V,) of the head's motion that the points ``at`` (V,2) px take.
    """
    image, alpha, size = portrait.image, portrait.alpha, len(portrait.image)
    centres = np.mgrid[:size, :size][::-1].transpose(1, 2, 0)[::4, ::4] + 0.5
    share = cv2.resize(share[cKDTree(at).query(centres)[1]].astype(np.float32), (size, size))
    moving = cv2.GaussianBlur(np.clip((share - 0.01) / 0.02, 0, 1), (0, 0), 3 * size / 512)[..., None]
    background = behind(portrait) * moving + image * (1 - moving)
    # Colour of the person alone: pixels of the soft edge hold some background, so they take their colour from inside.
    inside = cv2.erode(np.clip((alpha - 0.9) / 0.1, 0, 1), np.ones((3, 3)))
    own = fill(image.astype(np.float32), inside.astype(np.float32))
    texture = np.dstack([own, np.full(alpha.shape, 255.0)]) * alpha[..., None]
    return np.round(background).astype(np.uint8), np.round(np.clip(texture, 0, 255)).astype(np.uint8)


def bare_lids(texture: np.ndarray, pixels: np.ndarray, face_height: float) -> np.ndarray:
    """A copy of ``texture`` (S,S,4) with the lashes above the upper lids painted over by the skin above them."""
    bare = texture.copy()
    for upper, lower, crease in LIDS:
        top, rim = pixels[list(crease)], pixels[list(upper)]
        between = np.concatenate([rim[:1], 0.75 * top + 0.25 * rim[1:-1], rim[-1:]])
        eye = np.concatenate([between, pixels[list(lower[-2:0:-1])] + (0, 0.02 * face_height)])
        low, high = (f.astype(int) for f in (eye.min(0) - 0.06 * face_height, eye.max(0) + 0.06 * face_height))
        box = slice(low[1], high[1]), slice(low[0], high[0])
        part = texture[box].astype(np.float32)
        unknown = polygon_mask(eye - low, part.shape[:2]).astype(np.float32)
        skin = fill(part, 1 - cv2.dilate(unknown, np.ones((3, 3))))
        soft = cv2.GaussianBlur(unknown, (0, 0), 1.0)[..., None]
        bare[box] = np.round(part + (skin - part) * soft).clip(0, 255)
    return bare
