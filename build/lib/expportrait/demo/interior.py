"""What shows through the holes of the face mesh: eyes whose irises move, and a mouth with teeth.

Both are flat patches fixed to the skull, painted below the face mesh, which hides what reaches past the lids and lips.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from expportrait.demo.cutout import fill
from expportrait.demo.layers import Scene
from expportrait.demo.topology import LIDS, polygon_mask
from expportrait.points478 import LEFT_IRIS, LOWER_LIP_INNER, RIGHT_IRIS, UPPER_LIP_INNER

FINE = 2  # patch pixels a portrait pixel
SPILL = 4  # px of the canvas painted around a hole, so that no seam shows at the edge of the face mesh
OPEN_GAP = 0.03  # face heights between the lips from which the photo itself shows teeth
CAVITY, TONGUE, TOOTH = (42, 14, 13), (158, 76, 70), (236, 202, 168)
SHADE = (0.45, 0.6, 0.75)  # how much of the shadow between the lips falls on the teeth: light that is left is red
TOOTH_WIDTHS = (1.0, 0.78, 0.86, 0.72, 0.66)  # from the middle outwards, as seen from the front
TOOTH_WIDTH = 0.068  # face heights: a middle incisor of 8.5 mm
TOOTH_DROP = 0.020  # face heights that the upper teeth reach below the resting upper lip


@dataclass
class Canvas:
    """A part of the frame that is being painted: ``scale`` times enlarged, from the corner ``low`` (2,) px on."""

    pixels: np.ndarray  # (h,w,3) u8
    low: np.ndarray
    scale: int

    def paste(self, patch: np.ndarray, transform: np.ndarray, hole: np.ndarray) -> None:
        """Overwrite the polygon ``hole`` (n,2) px and a little around it with a patch (a,b,3) u8, placed by
        ``transform`` (2,3) from px of the patch to px of the frame."""
        hole = (hole - self.low) * self.scale
        low = np.maximum(np.floor(hole.min(0)).astype(int) - SPILL, 0)
        high = np.minimum(np.ceil(hole.max(0)).astype(int) + SPILL, self.pixels.shape[1::-1])
        if (high <= low).any():
            return
        moved = transform * self.scale
        moved[:, 2] -= self.low * self.scale + low
        moved[:, 2] += moved[:, :2] @ (0.5, 0.5) - 0.5  # warpAffine counts from the middle of the first pixel
        size = (high - low).tolist()
        picture = cv2.warpAffine(patch, moved, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        mask = np.zeros(picture.shape[:2], np.uint8)
        corners = [np.round(hole - low).astype(np.int32)]
        cv2.fillPoly(mask, corners, 1)
        cv2.polylines(mask, corners, True, 1, 2 * SPILL)
        part = self.pixels[low[1] : high[1], low[0] : high[0]]
        part[mask > 0] = picture[mask > 0]


@dataclass
class Patch:
    """A rectangle of the portrait, ``FINE`` times enlarged, carried by landmarks."""

    corner: np.ndarray  # (2,) px of the portrait
    shape: tuple[int, int]  # px of the patch
    landmarks: list[int]  # a closed polygon
    rest: np.ndarray  # (n,2) those landmarks, px of the patch

    @classmethod
    def around(cls, scene: Scene, pixels: np.ndarray, landmarks: list[int], margins: tuple[float, float]) -> "Patch":
        """margins: face heights around the landmarks' box, and more of them below."""
        side, below = (m * scene.face_height for m in margins)
        own = pixels[landmarks]
        low = np.floor(own.min(0) - side).astype(int).clip(0)
        high = np.ceil(own.max(0) + side + np.array([0, below])).astype(int).clip(None, len(scene.image))
        return cls(low, tuple(((high - low) * FINE)[::-1].tolist()), landmarks, (own - low) * FINE)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The patch's part of an image (S,S,C), enlarged, f32."""
        (x, y), (h, w) = self.corner, self.shape
        part = image[y : y + h // FINE, x : x + w // FINE].astype(np.float32)
        return cv2.resize(part, (w, h), interpolation=cv2.INTER_CUBIC)

    def transform(self, skull: np.ndarray) -> np.ndarray:
        """(2,3) least-squares affine map, px of the patch to px of the frame, for landmarks of the skull (478,2) px."""
        source = np.column_stack([self.rest, np.ones(len(self.rest))])
        return np.linalg.lstsq(source, skull[self.landmarks], rcond=None)[0].T


@dataclass
class Eye:
    """White of the eye, and the iris as a disc that moves over it."""

    patch: Patch
    white: np.ndarray  # (h,w,3) f32
    iris: np.ndarray  # (h,w,4) f32: colour, and the disc 0..1
    metre: float  # px of the patch

    def paint(self, canvas: Canvas, skull: np.ndarray, points: np.ndarray, gaze: np.ndarray) -> None:
        """Paint the eye between the lids of ``points`` (478,2) px, its iris moved by ``gaze`` (2,) m, y up; ``skull``
        (478,2) px: the portrait's landmarks, turned with the head only."""
        x, y = gaze * self.metre
        shift = np.array([[1, 0, x], [0, 1, -y]])
        moved = cv2.warpAffine(self.iris, shift, self.patch.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        eye = self.white + (moved[..., :3] - self.white) * moved[..., 3:]
        eye = np.round(np.clip(eye, 0, 255)).astype(np.uint8)
        canvas.paste(eye, self.patch.transform(skull), points[self.patch.landmarks])


def build_eyes(scene: Scene, pixels: np.ndarray) -> list[Eye]:
    """Both eyes of a portrait with landmarks ``pixels`` (478,2)."""
    eyes = []
    for (upper, lower, _), ring in zip(LIDS, (RIGHT_IRIS, LEFT_IRIS), strict=True):
        patch = Patch.around(scene, pixels, [*upper, *lower[-2:0:-1]], (0.04, 0))
        image = patch.cut(scene.image)
        inside = cv2.erode(polygon_mask(patch.rest, patch.shape).astype(np.uint8), np.ones((3, 3))) > 0
        points = (pixels[list(ring)] - patch.corner) * FINE
        radius = 1.06 * np.linalg.norm(points[1:] - points[0], axis=1).mean()
        y, x = np.mgrid[: patch.shape[0], : patch.shape[1]] + 0.5
        far = np.hypot(x - points[0, 0], y - points[0, 1])
        disc = np.clip((radius + 1.5 - far) / 3, 0, 1).astype(np.float32)
        # The upper lid hides a part of the iris: the same ring of colour stands opposite, half a turn away.
        around = cv2.getRotationMatrix2D(tuple(points[0] - 0.5), 180, 1)
        opposite = cv2.warpAffine(np.dstack([image, inside.astype(np.float32)]), around, patch.shape[::-1])
        hidden = ~inside & (y < points[0, 1]) & (opposite[..., 3] > 0.99)
        iris = np.where(hidden[..., None], opposite[..., :3], image)
        iris = fill(iris, ((inside | hidden) & (far < radius + 2)).astype(np.float32))
        white = fill(image, (inside & (far > radius + 2)).astype(np.float32))
        eyes.append(Eye(patch, white, np.dstack([iris, disc]), scene.focal / -scene.points[ring[0], 2] * FINE))
    return eyes


@dataclass
class Mouth:
    """Upper teeth fixed to the skull, before a dark cavity with a tongue that keeps to the lower lip."""

    patch: Patch
    photo: np.ndarray  # (h,w,3) f32
    teeth: np.ndarray  # (h,w,3) f32
    cover: np.ndarray  # (h,w) f32 alpha of the teeth
    drawn: bool  # the teeth are not the photo's
    face_height: float  # px of the patch

    def paint(self, canvas: Canvas, skull: np.ndarray, points: np.ndarray) -> None:
        """Paint the mouth behind the lips of ``points`` (478,2) px; ``skull`` as in `Eye.paint`."""
        transform = self.patch.transform(skull)
        back = cv2.invertAffineTransform(transform)
        upper, lower = (points[list(lip)] @ back[:, :2].T + back[:, 2] for lip in (UPPER_LIP_INNER, LOWER_LIP_INNER))
        opening = polygon_mask(np.concatenate([upper, lower[-2:0:-1]]), self.patch.shape)
        depth = cv2.distanceTransform(opening.astype(np.uint8), cv2.DIST_L2, 5) / (0.03 * self.face_height)
        light = cv2.GaussianBlur(0.45 + 0.55 * np.clip(depth, 0, 1), (0, 0), 0.01 * self.face_height)[..., None]
        y, x = np.mgrid[: self.patch.shape[0], : self.patch.shape[1]].astype(np.float32) + 0.5
        tip = lower[5] + (0, 0.015 * self.face_height)
        width = upper[-1, 0] - upper[0, 0]
        away = np.hypot((x - tip[0]) / (0.40 * width), (y - tip[1]) / (0.085 * self.face_height))
        tongue = np.clip(1.3 - away, 0, 1)[..., None] ** 1.5
        behind = np.array(CAVITY, np.float32) * (1 - tongue) + np.array(TONGUE, np.float32) * tongue
        teeth = self.teeth * (1 - self.drawn * (1 - light) * np.array(SHADE, np.float32))
        inside = behind * light * (1 - self.cover[..., None]) + teeth * self.cover[..., None]
        if self.drawn:  # lips that hardly part show the photo's own line between them
            inside = self.photo + (inside - self.photo) * min(opening.sum(0).max() / (OPEN_GAP * self.face_height), 1)
        inside = np.round(np.clip(inside, 0, 255)).astype(np.uint8)
        canvas.paste(inside, transform, points[self.patch.landmarks])


def build_mouth(scene: Scene, pixels: np.ndarray) -> Mouth:
    """The mouth of a portrait with landmarks ``pixels`` (478,2); teeth are drawn where the photo shows none."""
    patch = Patch.around(scene, pixels, [*UPPER_LIP_INNER, *LOWER_LIP_INNER[-2:0:-1]], (0.09, 0.16))
    height = scene.face_height * FINE
    photo = patch.cut(scene.image)
    gap = np.linalg.norm(pixels[UPPER_LIP_INNER[5]] - pixels[LOWER_LIP_INNER[5]])
    if gap < OPEN_GAP * scene.face_height:
        return Mouth(patch, photo, *draw_teeth(patch.shape, patch.rest[: len(UPPER_LIP_INNER)], height), True, height)
    inner = cv2.erode(polygon_mask(patch.rest, patch.shape).astype(np.uint8), np.ones((3, 3)))
    teeth = fill(photo, inner.astype(np.float32))
    # The upper lip may rise over them, so they go on above it; below, they reach the resting lip without a gap.
    above = cv2.dilate(inner, np.ones((round(0.05 * height), 1)), anchor=(0, 0))
    cover = cv2.dilate(np.maximum(inner, above), np.ones((7, 7)))
    return Mouth(patch, photo, teeth, cv2.GaussianBlur(cover.astype(np.float32), (0, 0), 1.2), False, height)


def draw_teeth(shape: tuple[int, int], lip: np.ndarray, face_height: float) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h,w,3) and alpha (h,w) f32 of upper teeth behind the inner edge ``lip`` (11,2) px of a closed mouth."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    middle = lip[5]
    along = (lip[-1] - lip[0]) / np.linalg.norm(lip[-1] - lip[0])
    side = np.abs((x - middle[0]) * along[0] + (y - middle[1]) * along[1])
    down = (y - middle[1]) * along[0] - (x - middle[0]) * along[1]
    edges = np.concatenate([[0], np.cumsum(TOOTH_WIDTHS)]) * TOOTH_WIDTH * face_height
    tooth = np.clip(np.searchsorted(edges, side, side="right") - 1, 0, len(TOOTH_WIDTHS) - 1)
    centre, half = (edges[tooth] + edges[tooth + 1]) / 2, (edges[tooth + 1] - edges[tooth]) / 2
    across = np.clip(np.abs(side - centre) / half, 0, 1)  # 0 the middle of a tooth, 1 the gap to the next
    arch = side / edges[-1]
    length = face_height * (TOOTH_DROP * (1 - 0.6 * arch**2) - 0.006 * across**4 - 0.003 * (tooth == 1))
    light = (1 - 0.13 * across**6) * (1 - 0.55 * np.clip(arch, 0, 1) ** 2)
    teeth = np.array(TOOTH, np.float32) * light[..., None].astype(np.float32)
    cover = ((down < length) & (arch < 1)).astype(np.float32)
    return cv2.GaussianBlur(teeth, (0, 0), 0.8), cv2.GaussianBlur(cover, (0, 0), 1.0)
