"""One frame's normals, depth and confidence from its mask and, where there is one, the fitted head's maps.

Inside the face the fitted head's own maps stand, with relief from the picture's shading; elsewhere the silhouette
solver's, with the head as a weak prior: it shapes the torso and, grown to the outline, the hair. A bald head must not
show through the hair.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from expportrait.estimators.geometry.embedded import silhouette
from expportrait.face_areas import inner_face, open_mouth
from expportrait.fit.evidence.shading import face_relief
from expportrait.video.margins import NONE, Margins

# The pull towards the fitted head a face height squared: it gives way over 1/sqrt(weight) face heights.
FACE, TORSO, HAIR = 1e5, 300.0, 30.0  # of the normals
GROWN = 10.0  # times more in hair that was grown to the outline; above that its hairline is seen as a hood's edge
FACE_DEPTH, TORSO_DEPTH, HAIR_DEPTH = 1e4, 30.0, 1.0  # of the depth
ANCHOR = 1e-6  # pull of all depths towards the face's, a cell: for parts that have no prior; flattens nothing
STEP = 0.03  # depth step between neighbouring cells, in face heights, that tears the surface
TORN = 0.01  # weight of a torn link
FEATHER = 0.014  # face heights, soft edge of the face; the oval's rim is left to the silhouette
FOCAL, FACE_METRES = 3.0, 0.12  # image sizes and m: where no head is fitted
AT_OUTLINE, FAR_INSIDE, ON_TORSO = 0.5, 0.25, 0.35  # confidence
ON_NECK = 0.1  # share of it left on the neck, which collars and hair hide: a fit would fold the chin over it
GRAZING = 0.3  # n_z below which a fitted face is trusted less


@dataclass
class HeadMaps:
    """The fitted head as the camera sees it."""

    normals: np.ndarray  # (H,W,3)
    depth: np.ndarray  # (H,W) m, 0 outside
    torso: np.ndarray  # (H,W) 0..1
    trust: np.ndarray  # (H,W) 0..1, confidence of its face
    focal: float  # px
    neck: np.ndarray  # (H,W) 0..1
    grown: bool = False  # hair included


@dataclass
class Cells:
    """The solver's grid over a square picture: (n,n) cells of ``pitch`` px."""

    n: int
    size: int

    @property
    def pitch(self) -> float:
        return self.size / self.n

    def mean(self, image: np.ndarray) -> np.ndarray:
        return cv2.resize(image.astype(np.float32), (self.n, self.n), interpolation=cv2.INTER_AREA)

    def centre(self, image: np.ndarray) -> np.ndarray:
        """The value at each cell's centre: averaging would soften depth steps."""
        at = ((np.arange(self.n) + 0.5) * self.pitch).astype(int)
        return image[at[:, None], at]

    def spread(self, grid: np.ndarray) -> np.ndarray:
        return cv2.resize(grid, (self.size, self.size), interpolation=cv2.INTER_LINEAR)


def face_weight(points: np.ndarray, oval: np.ndarray, maps: HeadMaps, height: float) -> np.ndarray:
    """(H,W) 0..1: where the fitted head's own maps stand, feathered; not in the open mouth, where it has no shape."""
    size = len(maps.depth)
    inner = inner_face(points, oval, height, size) & ~open_mouth(points, size)
    return cv2.GaussianBlur(inner.astype(np.float32), (0, 0), max(0.5, FEATHER * height)) * (maps.depth > 0)


def torn_links(
    log_depth: np.ndarray, slopes: tuple[np.ndarray, np.ndarray], torn_at: float, known: np.ndarray, torso: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Link weights (n,n-1), (n-1,n): ``TORN`` where ``log_depth`` (n,n) jumps ``torn_at`` further than ``slopes`` say.

    Only between a cell of the head and one of the ``torso`` (n,n) bool, both ``known`` (n,n) bool, which is chin and
    jaw before the neck: other steps of a bald head would print through the hair.
    """
    right, below = slopes

    def weights(step: np.ndarray, both: np.ndarray, differ: np.ndarray) -> np.ndarray:
        return np.where(both & differ & (np.abs(step) > torn_at), TORN, 1).astype(np.float32)

    step_right = np.diff(log_depth, axis=1) - (right[:, 1:] + right[:, :-1]) / 2
    step_below = np.diff(log_depth, axis=0) - (below[1:] + below[:-1]) / 2
    return (
        weights(step_right, known[:, 1:] & known[:, :-1], torso[:, 1:] != torso[:, :-1]),
        weights(step_below, known[1:] & known[:-1], torso[1:] != torso[:-1]),
    )


@dataclass
class Prior:
    """What the fitted head says of one frame, on the solver's grid (n,n) and, where it stands alone, in pixels."""

    normals: np.ndarray  # (n,n,3)
    weight: np.ndarray  # (n,n) of the normals
    log_depth: np.ndarray  # (n,n) log m
    depth_weight: np.ndarray  # (n,n)
    across: np.ndarray  # (n,n-1) link weights
    down: np.ndarray  # (n-1,n)
    face: np.ndarray  # (H,W) 0..1, where the head's own maps replace the solver's
    torso: np.ndarray  # (n,n) bool, the side of a tear that a cell is on
    torn: np.ndarray  # (n,n) 0..1, 1 beside a tear
    distance: float  # m, the depth that becomes 0


def no_prior(size: int, grid: int, height: float, focal: float) -> Prior:
    """A frame without a head: the silhouette alone, at a usual focal length and the distance of a face of this size."""
    zeros, ones = np.zeros((grid, grid), np.float32), np.ones((grid, grid), np.float32)
    distance = focal * FACE_METRES / height
    return Prior(
        np.zeros((grid, grid, 3), np.float32), zeros, zeros + np.log(distance), ones * ANCHOR,
        ones[:, 1:], ones[1:], np.zeros((size, size), np.float32), zeros > 0, zeros, distance,
    )  # fmt: skip


def head_prior(
    maps: HeadMaps, points: np.ndarray, oval: np.ndarray, height: float, cells: Cells, rays: np.ndarray
) -> Prior:
    """The fitted head's maps as data for the solver: strong in the face, weak on the torso and in grown hair, faint
    where a bald head lies under hair."""
    face = face_weight(points, oval, maps, height)
    on_face, torso, covered = cells.mean(face), cells.mean(maps.torso), cells.mean(maps.depth > 0)
    normals = cells.mean(maps.normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-3)
    depth = cells.centre(maps.depth)
    known = depth > 0
    log_depth = np.log(np.where(known, depth, 1))
    distance = float(np.exp(np.average(log_depth, weights=(on_face + 1e-9) * known)))
    log_depth = np.where(known, log_depth, np.log(distance))
    hair = GROWN if maps.grown else 1.0
    shut = 1 - cells.mean(open_mouth(points, cells.size))

    def weights(in_face: float, on_torso: float, in_hair: float) -> np.ndarray:
        # Times n_z, so that the bald head's outline does not print through the hair.
        weak = (torso * on_torso + (covered - torso) * in_hair * hair) * normals[..., 2]
        return (on_face * in_face + (1 - on_face) * weak) * shut * (cells.pitch / height) ** 2

    slopes = silhouette.slopes(normals, rays, cells.pitch, maps.focal)
    on_torso = cells.centre(maps.torso) > 0.5
    across, down = torn_links(log_depth, slopes, STEP * height / maps.focal, known, on_torso)
    torn = np.zeros((cells.n, cells.n), np.uint8)
    torn[:, 1:] |= across < 1
    torn[1:] |= down < 1
    beside = cv2.blur(cv2.dilate(torn, np.ones((5, 5), np.uint8)).astype(np.float32), (3, 3))
    return Prior(
        normals, weights(FACE, TORSO, HAIR), log_depth, weights(FACE_DEPTH, TORSO_DEPTH, HAIR_DEPTH) * known + ANCHOR,
        across, down, face, on_torso, beside, distance,
    )  # fmt: skip


def frame_geometry(
    mask: np.ndarray,
    maps: HeadMaps | None,
    points: np.ndarray,
    oval: np.ndarray,
    height: float,
    grid: int,
    frame: np.ndarray | None = None,
    margins: Margins = NONE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normals (H,W,3), depth (H,W) in m from the face's mean, and confidence (H,W) 0..1 of one square frame.

    mask (H,W) 0..1; maps None: no head, the silhouette alone; points (478,3) px; oval: indices of the face oval;
    height: of the face, px; grid: cells a side of the solver; frame (H,W,3) u8 RGB: its shading gives the face
    relief; margins: beyond the picture there is no surface, and at its edge the surface does not end.
    """
    size = len(mask)
    cells = Cells(grid, size)
    if maps is not None and not maps.depth.any():  # the fitted head lies outside of the picture
        maps = None
    focal = FOCAL * size if maps is None else maps.focal
    centre = (size / 2, size / 2)
    coarse_rays = silhouette.ray_directions(grid, cells.pitch, focal, centre)
    rays = silhouette.ray_directions(size, 1.0, focal, centre)
    if maps is None:
        prior = no_prior(size, grid, height, focal)
    else:
        prior = head_prior(maps, points, oval, height, cells, coarse_rays)
    alpha, shown = cells.mean(mask), margins.inside(grid)
    guess = silhouette.to_view(prior.normals, coarse_rays)[..., :2]
    field = silhouette.silhouette_normals(alpha, guess, prior.weight, prior.across, prior.down, shown)
    coarse = silhouette.from_view(silhouette.unit_normals(field), coarse_rays)
    right, below = silhouette.slopes(coarse, coarse_rays, cells.pitch, focal)
    log_depth = silhouette.integrate(
        right, below, (alpha > 0.5) & shown, prior.across, prior.down, prior.log_depth, prior.depth_weight
    )
    fine = to_pixels(np.concatenate([field, log_depth[..., None]], -1), prior, maps, cells)
    normals = silhouette.from_view(silhouette.unit_normals(fine[..., :2]), rays)
    log_depth = fine[..., 2]
    if maps is not None:
        normals += prior.face[..., None] * (maps.normals - normals)
        normals /= np.sqrt(normals[..., 0] ** 2 + normals[..., 1] ** 2 + normals[..., 2] ** 2)[..., None]
        log_depth += prior.face * (np.log(np.where(maps.depth > 0, maps.depth, prior.distance)) - log_depth)
        if frame is not None:
            shown = (mask > 0.5) & margins.inside(size)
            tilt, raised = face_relief(frame, normals, prior.face > 0.5, shown, points, height)
            normals[..., :2] += tilt
            normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
            log_depth -= raised / focal
    visible = (mask > 0).astype(np.float32)
    depth = (np.exp(log_depth) - prior.distance) * visible
    return normals * visible[..., None], depth, confidence(mask, maps, prior, points, height, cells)


def to_pixels(grid: np.ndarray, prior: Prior, maps: HeadMaps | None, cells: Cells) -> np.ndarray:
    """``grid`` (n,n,c) at the picture's resolution; along a tear, each side for itself up to the fitted head's edge."""
    out = cells.spread(grid)
    if maps is None or not prior.torn.any():
        return out
    near, torso = cells.spread(prior.torn), maps.torso > 0.5
    for side, pixels in ((prior.torso, torso), (~prior.torso, ~torso)):
        weight = side.astype(np.float32)
        at = np.nonzero(near * pixels)
        sums = cells.spread(np.concatenate([grid * weight[..., None], weight[..., None]], -1))[at]
        total = sums[:, -1:]
        # Where no cell of this side is near, there is nothing to take.
        share = near[at][:, None] * np.clip(4 * total, 0, 1)
        out[at] += share * (sums[:, :-1] / np.maximum(total, 1e-3) - out[at])
    return out


def confidence(
    mask: np.ndarray, maps: HeadMaps | None, prior: Prior, points: np.ndarray, height: float, cells: Cells
) -> np.ndarray:
    """(H,W) 0..1, made by hand from what was seen on rendered truth; an order of trust, not a probability.

    ``maps.trust`` in the face; more near the outline and on the fitted torso than deep in hair; little on the neck, at
    torn edges and in the open mouth; fading with the mask.
    """
    depth_in = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / height
    out = FAR_INSIDE + (AT_OUTLINE - FAR_INSIDE) * np.exp(-depth_in / 0.1)
    if maps is not None:
        out += (ON_TORSO - out) * maps.torso * np.clip(maps.normals[..., 2], 0, 1)
        out *= 1 - (1 - ON_NECK) * maps.neck
        out += prior.face * (maps.trust * np.clip(maps.normals[..., 2] / GRAZING, 0, 1) - out)
        out *= 1 - 0.7 * cells.spread(prior.torn)
        out[open_mouth(points, cells.size)] *= 0.3
    return (out * mask).astype(np.float32)
