"""What shows through the holes of the face mesh: eyes whose irises move, and a mouth with teeth.

Both are flat patches fixed to the skull, painted below the face mesh, which hides whatever reaches past the lids and lips.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from expportrait.demo.layers import Scene, fill, polygon_mask
from expportrait.demo.topology import IRISES, LIDS, LOWER_LIP, UPPER_LIP

FINE = 2  # patch pixels a portrait pixel
SPILL = 4  # px of the canvas painted around a hole, so that no seam shows below the edge of the face mesh
OPEN_GAP = 0.03  # face heights between the lips from which the photo itself shows teeth
CAVITY, TONGUE, TOOTH = (42, 14, 13), (158, 76, 70), (222, 200, 166)
SHADE = (0.45, 0.6, 0.75)  # how much of the shadow between the lips falls on the teeth: light that is left is red
TOOTH_WIDTHS = (1.0, 0.78, 0.86, 0.72, 0.66)  # from the middle outwards, as seen from the front
TOOTH_WIDTH = 0.068  # face heights: a middle incisor of 8.5 mm
TOOTH_DROP = 0.020  # face heights that the upper teeth reach below the resting upper lip


def affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2,3) least-squares affine map from points (n,2) to points (n,2)."""
    solution, *_ = np.linalg.lstsq(np.column_stack([source, np.ones(len(source))]), target, rcond=None)
    return solution.T


def paste(canvas: np.ndarray, patch: np.ndarray, transform: np.ndarray, hole: np.ndarray) -> None:
    """Overwrite ``canvas`` (h,w,3) u8, in place, in and a little around the polygon ``hole`` (n,2) px, with a patch (a,b,3) moved
    by ``transform`` (2,3) px."""
    low = np.maximum(np.floor(hole.min(0)).astype(int) - SPILL, 0)
    high = np.minimum(np.ceil(hole.max(0)).astype(int) + SPILL, canvas.shape[1::-1])
    if (high <= low).any():
        return
    shifted = transform.copy()
    shifted[:, 2] += transform[:, :2] @ (0.5, 0.5) - 0.5 - low
    moved = cv2.warpAffine(
        patch, shifted, (high - low).tolist(), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    mask = np.zeros(moved.shape[:2], np.uint8)
    corners = [np.round(hole - low).astype(np.int32)]
    cv2.fillPoly(mask, corners, 1)
    cv2.polylines(mask, corners, True, 1, 2 * SPILL)
    part = canvas[low[1] : high[1], low[0] : high[0]]
    part[mask > 0] = moved[mask > 0]


@dataclass
class Patch:
    """A rectangle of the portrait, ``FINE`` times enlarged: its corner and the landmarks (ids) that carry it."""

    corner: np.ndarray  # (2,) px of the portrait
    shape: tuple[int, int]  # px of the patch
    landmarks: list[int]
    rest: np.ndarray  # (n,2) those landmarks in patch px

    @classmethod
    def around(cls, scene: Scene, pixels: np.ndarray, landmarks: list[int], margin: tuple[float, float, float]) -> "Patch":
        """margin: face heights left and right, above, below the landmarks' box."""
        side, above, below = (m * scene.face_height for m in margin)
        own = pixels[landmarks]
        low = np.floor(own.min(0) - (side, above)).astype(int).clip(0)
        high = np.ceil(own.max(0) + (side, below)).astype(int).clip(None, len(scene.image))
        return cls(low, tuple(((high - low) * FINE)[::-1].tolist()), landmarks, (own - low) * FINE)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The patch's part of an image (S,S,C), enlarged, f32."""
        (x, y), (h, w) = self.corner, self.shape
        part = image[y : y + h // FINE, x : x + w // FINE].astype(np.float32)
        return cv2.resize(part, (w, h), interpolation=cv2.INTER_CUBIC)

    def transform(self, skull: np.ndarray) -> np.ndarray:
        """(2,3) patch px -> px of the frame, for the landmarks of the turned skull (478,2) px."""
        return affine(self.rest, skull[self.landmarks])


def to_canvas(transform: np.ndarray, low: np.ndarray, scale: int) -> np.ndarray:
    """The map ``transform`` (2,3), onto a canvas that starts at ``low`` (2,) px and is enlarged by ``scale``."""
    moved = transform * scale
    moved[:, 2] -= low * scale
    return moved


@dataclass
class Eye:
    """White of the eye, and the iris as a disc that moves over it."""

    patch: Patch
    white: np.ndarray  # (h,w,3) f32
    iris: np.ndarray  # (h,w,3) f32
    disc: np.ndarray  # (h,w) f32, 0..1
    metre: float  # patch px

    def paint(self, canvas: np.ndarray, skull: np.ndarray, points: np.ndarray, gaze: np.ndarray, low: np.ndarray, scale: int):
        """Paint the eye, its iris moved by ``gaze`` (2,) m, y up, between the lids of ``points`` (478,2) px; see `to_canvas`."""
        x, y = gaze * self.metre
        moved = cv2.warpAffine(
            np.dstack([self.iris, self.disc]), np.array([[1, 0, x], [0, 1, -y]]), self.patch.shape[::-1],
            flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        eye = self.white + (moved[..., :3] - self.white) * moved[..., 3:]
        eye = np.round(np.clip(eye, 0, 255)).astype(np.uint8)
        hole = (points[self.patch.landmarks] - low) * scale
        paste(canvas, eye, to_canvas(self.patch.transform(skull), low, scale), hole)


def build_eyes(scene: Scene, pixels: np.ndarray) -> list[Eye]:
    """Both eyes of a portrait with landmarks ``pixels`` (478,2)."""
    eyes = []
    for (upper, lower, _), ring in zip(LIDS, IRISES, strict=True):
        lids = list(upper) + list(lower[-2:0:-1])
        patch = Patch.around(scene, pixels, lids, (0.04, 0.04, 0.04))
        image = patch.cut(scene.image)
        shown = polygon_mask(patch.rest, patch.shape).astype(np.uint8)
        inside = cv2.erode(shown, np.ones((3, 3))) > 0
        points = (pixels[list(ring)] - patch.corner) * FINE
        radius = 1.06 * np.linalg.norm(points[1:] - points[0], axis=1).mean()
        y, x = np.mgrid[: patch.shape[0], : patch.shape[1]] + 0.5
        far = np.hypot(x - points[0, 0], y - points[0, 1])
        disc = np.clip((radius + 1.5 - far) / 3, 0, 1).astype(np.float32)
        # The upper lid hides a part of the iris: the same ring of colour stands opposite, half a turn about the pupil away.
        around = cv2.getRotationMatrix2D(tuple(points[0] - 0.5), 180, 1)
        opposite = cv2.warpAffine(np.dstack([image, inside.astype(np.float32)]), around, patch.shape[::-1])
        hidden = ~inside & (y < points[0, 1]) & (opposite[..., 3] > 0.99)
        iris = np.where(hidden[..., None], opposite[..., :3], image)
        known = (inside | hidden) & (far < radius + 2)
        white = fill(image, (inside & (far > radius + 2)).astype(np.float32))
        depth = -scene.points[ring[0], 2]
        eyes.append(Eye(patch, white, fill(iris, known.astype(np.float32)), disc, scene.focal / depth * FINE))
    return eyes


@dataclass
class Mouth:
    """Upper teeth fixed to the skull, before a dark cavity with a tongue that keeps to the lower lip."""

    patch: Patch
    closed: np.ndarray  # (h,w,3) f32: the photo, seen where the lips hardly part
    teeth: np.ndarray  # (h,w,3) f32
    cover: np.ndarray  # (h,w) f32 alpha of the teeth
    shaded: float  # 1: the lips' shadow falls on the teeth; 0: the photo has it already
    face_height: float  # patch px

    def paint(self, canvas: np.ndarray, skull: np.ndarray, points: np.ndarray, low: np.ndarray, scale: int) -> None:
        """Paint the mouth behind the lips of ``points`` (478,2) px; see `to_canvas`."""
        transform = self.patch.transform(skull)
        back = cv2.invertAffineTransform(transform)
        upper, lower = (points[list(lip)] @ back[:, :2].T + back[:, 2] for lip in (UPPER_LIP, LOWER_LIP))
        opening = polygon_mask(np.concatenate([upper, lower[-2:0:-1]]), self.patch.shape)
        depth = cv2.distanceTransform(opening.astype(np.uint8), cv2.DIST_L2, 5) / (0.03 * self.face_height)
        light = cv2.GaussianBlur(0.45 + 0.55 * np.clip(depth, 0, 1), (0, 0), 0.01 * self.face_height)[..., None]
        y, x = np.mgrid[: self.patch.shape[0], : self.patch.shape[1]].astype(np.float32) + 0.5
        width = upper[-1, 0] - upper[0, 0]
        tip = lower[5] + (0, 0.015 * self.face_height)
        tongue = np.hypot((x - tip[0]) / (0.40 * width), (y - tip[1]) / (0.085 * self.face_height))
        tongue = np.clip(1.3 - tongue, 0, 1)[..., None] ** 1.5
        back_wall = np.array(CAVITY, np.float32) * (1 - tongue) + np.array(TONGUE, np.float32) * tongue
        teeth = self.teeth * (1 - self.shaded * (1 - light) * np.array(SHADE, np.float32))
        inside = back_wall * light * (1 - self.cover[..., None]) + teeth * self.cover[..., None]
        parted = np.clip(opening.sum(0).max() / (OPEN_GAP * self.face_height), 0, 1) if self.shaded else 1.0
        inside = self.closed + (inside - self.closed) * parted
        inside = np.round(np.clip(inside, 0, 255)).astype(np.uint8)
        hole = (points[self.patch.landmarks] - low) * scale
        paste(canvas, inside, to_canvas(transform, low, scale), hole)


def build_mouth(scene: Scene, pixels: np.ndarray) -> Mouth:
    """The mouth of a portrait with landmarks ``pixels`` (478,2): the photo's own teeth where it shows them, else drawn ones."""
    lips = list(UPPER_LIP) + list(LOWER_LIP[-2:0:-1])
    patch = Patch.around(scene, pixels, lips, (0.08, 0.10, 0.25))
    height = scene.face_height * FINE
    upper = patch.rest[: len(UPPER_LIP)]
    gap = np.linalg.norm(pixels[UPPER_LIP[5]] - pixels[LOWER_LIP[5]])
    image = patch.cut(scene.image)
    if gap > OPEN_GAP * scene.face_height:
        shown = polygon_mask(patch.rest, patch.shape)
        inner = cv2.erode(shown.astype(np.uint8), np.ones((3, 3)))
        teeth = fill(image, inner.astype(np.float32))
        # The upper lip may rise over them, so they go on above it; below, they reach the resting lip without a gap.
        above = cv2.dilate(inner, np.ones((round(0.05 * height), 1)), anchor=(0, 0))
        cover = cv2.dilate(np.maximum(inner, above), np.ones((7, 7)))
        return Mouth(patch, image, teeth, cv2.GaussianBlur(cover.astype(np.float32), (0, 0), 1.2), 0.0, height)
    teeth, cover = draw_teeth(patch.shape, upper, height)
    return Mouth(patch, image, teeth, cover, 1.0, height)


def draw_teeth(shape: tuple[int, int], lip: np.ndarray, face_height: float) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h,w,3) and alpha (h,w) f32 of upper teeth behind the inner edge ``lip`` (11,2) px of a closed upper lip."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    middle = lip[5]
    along = np.array(lip[-1] - lip[0]) / np.linalg.norm(lip[-1] - lip[0])
    right = (x - middle[0]) * along[0] + (y - middle[1]) * along[1]
    down = (y - middle[1]) * along[0] - (x - middle[0]) * along[1]
    edges = np.concatenate([[0], np.cumsum(TOOTH_WIDTHS)]) * TOOTH_WIDTH * face_height
    side = np.abs(right)
    tooth = np.clip(np.searchsorted(edges, side, side="right") - 1, 0, len(TOOTH_WIDTHS) - 1)
    centre, half = (edges[tooth] + edges[tooth + 1]) / 2, (edges[tooth + 1] - edges[tooth]) / 2
    across = np.clip(np.abs(side - centre) / half, 0, 1)  # 0 the middle of a tooth, 1 the gap to the next
    arch = side / edges[-1]
    length = face_height * (TOOTH_DROP * (1 - 0.6 * arch**2) - 0.006 * across**4 - 0.003 * (tooth == 1))
    light = (1 - 0.13 * across**6) * (1 - 0.55 * np.clip(arch, 0, 1) ** 2)
    teeth = np.array(TOOTH, np.float32) * light[..., None].astype(np.float32)
    cover = ((down < length) & (arch < 1)).astype(np.float32)
    return cv2.GaussianBlur(teeth, (0, 0), 0.8), cv2.GaussianBlur(cover, (0, 0), 1.0)
