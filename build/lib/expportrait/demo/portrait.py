"""The two public-domain portraits of the demo, cropped to head and shoulders, with landmarks and cut-out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from expportrait.errors import UserError
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.estimators.mediapipe_models import SelfieSegmenter

REFERENCE_SIZE = 512  # px: the portrait that lengths in px are meant for
CROP_HALF_SIDE, CROP_DROP = 1.22, 0.12  # in heights of the landmark box: half the side, and how far below its centre

# Outlines traced by hand where the segmentation fails: x, y in px of the file.
ASTRONAUT_BODY = [  # ears, neck, the ring of the suit, shoulders; down the left of the picture, up its right
    (168, 116.6), (171.4, 120.6), (173, 126.3), (177.5, 131), (181.8, 132), (182.9, 138), (184.4, 147), (185, 148.8),
    (177, 148.3), (167.3, 148.7), (159.3, 150.1), (151.2, 152.5), (143.2, 156.4), (135.9, 162), (129.5, 169),
    (124.6, 177), (120.6, 183.5), (119, 185.4), (114.2, 186.4), (113.4, 189.9), (115.8, 196.3), (113.8, 201.2),
    (113.4, 205.5), (109.3, 206.8), (106.1, 213.3), (100.5, 217.3), (97.3, 220.2), (80, 236), (80, 290), (356, 290),
    (347, 275), (343.3, 267.6), (338.7, 259.9), (329.5, 252.2), (320.3, 243), (311.1, 237.7), (304.5, 233.1),
    (302.7, 224.7), (298.9, 215.5), (292.8, 205.6), (285.1, 196.4), (275.9, 188), (266.7, 180.3), (259.8, 175.7),
    (255.9, 173.4), (257.4, 165), (258.4, 159.6), (262.7, 152), (265.3, 145.9), (266.8, 139.7), (267.3, 136.2),
    (270.1, 136.6), (273.4, 135.7), (277.2, 133.2), (279.5, 129), (283.4, 124.4), (290.5, 118.3), (290.5, 100),
    (168, 100),
]  # fmt: skip
HOPPER_HEAD = [  # shoulder, jaw, hair, ears, hat; clockwise from the lower left
    (160, 360), (160, 346), (168.4, 341.9), (177.7, 336.5), (184.5, 330.7), (190.7, 324.5), (196.3, 318.6),
    (204, 312.6), (203.2, 309.6), (201.7, 303.8), (200.5, 299), (190, 294), (180, 290), (171, 284), (164, 278),
    (161, 272), (160, 260), (161, 245), (161, 231), (157, 222), (154, 214), (154, 204), (155, 195), (156, 189),
    (151, 183), (147.5, 180), (147, 150), (147.5, 133), (150, 120), (155, 107), (160, 98), (166, 91), (173, 86),
    (175, 76), (180, 65), (187, 57), (197, 49.5), (208, 43.5), (219, 40.5), (224, 32), (234.5, 25.5), (250, 22.5),
    (266.5, 22.8), (279, 25.5), (290.5, 31), (299.5, 39.5), (311, 41.2), (323, 45.5), (335, 53), (343, 62), (350, 73),
    (353.5, 84), (361, 85.8), (366, 90), (369.5, 100), (370, 119), (371, 139), (370.3, 155), (369.5, 179),
    (373.8, 189), (374.8, 199), (371, 222), (366.5, 240), (364, 257), (362.5, 267), (360.5, 279), (354.5, 292),
    (346, 301.5), (340, 304.5), (335, 306.5), (331, 307.5), (330.3, 311.5), (333, 316), (337, 320.5), (344, 325),
    (351, 332), (358, 337), (367, 341.5), (377, 346.5), (390, 352), (390, 360),
]  # fmt: skip
HOPPER_CLUTTER = ((135, 0, 150, 350), (168, 0, 184, 90), (186, 0, 236, 50), (193, 293, 210, 316))  # cords, star, stripe


def _astronaut() -> np.ndarray:
    import skimage.data

    return skimage.data.astronaut()


def _hopper() -> np.ndarray:
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    image = cv2.imread(str(file))
    if image is None:
        raise UserError(f"the portrait {file} is missing: reinstall matplotlib from its wheel, which carries it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@dataclass(frozen=True)
class Source:
    """Where a portrait comes from; px of the file."""

    read: Callable[[], np.ndarray]
    outline: list[tuple[float, float]]  # of the person, overrules the segmentation in ``rows``
    rows: tuple[float, float]  # first, last
    clutter: tuple[tuple[int, int, int, int], ...] = ()  # x0 y0 x1 y1: what is not to be continued behind the person


SOURCES = {
    "astronaut": Source(_astronaut, ASTRONAUT_BODY, (118.5, 512)),
    "hopper": Source(_hopper, HOPPER_HEAD, (0, 341), HOPPER_CLUTTER),
}


@dataclass
class Portrait:
    """One square portrait."""

    name: str
    image: np.ndarray  # (S,S,3) u8 RGB
    points: np.ndarray  # (478,3) px, z in px too
    alpha: np.ndarray  # (S,S) f32, 1 on the person
    clutter: np.ndarray  # (S,S) bool: parts of the background not to be continued behind the person


def crop_transform(points: np.ndarray, size: int) -> np.ndarray:
    """(2,3) map from px of the file to px of a ``size`` square around head and shoulders."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    height = high[1] - low[1]
    corner = (low + high) / 2 + (0, CROP_DROP * height) - CROP_HALF_SIDE * height
    scale = size / (2 * CROP_HALF_SIDE * height)
    return np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])


def warp_affine(image: np.ndarray, transform: np.ndarray, size: tuple[int, int], **options: Any) -> np.ndarray:
    """``cv2.warpAffine`` to ``size`` (w, h), for a map between px whose centres are at half-integers."""
    shifted = transform.copy()
    shifted[:, 2] += transform[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(image, shifted, size, **options)


def person_alpha(image: np.ndarray, mask: np.ndarray, outline: np.ndarray, rows: slice) -> np.ndarray:
    """(S,S) f32, 1 on the person: the coarse ``mask`` (S,S) refined, but the traced ``outline`` (n,2) in ``rows``."""
    size = len(image)
    alpha = cv2.ximgproc.guidedFilter(image, mask.astype(np.float32), round(12 * size / REFERENCE_SIZE), 64.0)
    alpha = np.clip((alpha - 0.15) / 0.7, 0, 1)
    fine = np.zeros((4 * size, 4 * size), np.uint8)
    cv2.fillPoly(fine, [np.round(outline * 4).astype(np.int32)], 255)
    fine = cv2.erode(fine, np.ones((5, 5)))  # half a pixel in: the outline's own pixels hold some background
    traced = cv2.resize(cv2.GaussianBlur(fine, (0, 0), 2.5), (size, size), interpolation=cv2.INTER_AREA) / 255.0
    alpha[rows] = traced[rows]
    _, labels, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.5).astype(np.uint8))
    person = labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    return np.where(cv2.dilate(person.astype(np.uint8), np.ones((9, 9))) > 0, alpha, 0).astype(np.float32)


def load_portrait(name: str, size: int) -> Portrait:
    """Read one of the two portraits from its wheel and crop it to ``size`` px."""
    source, detector = SOURCES[name], LandmarkDetector()
    file = source.read()

    def detect(image: np.ndarray) -> np.ndarray:
        points, found, _ = detector.detect(image[None])
        if not found[0]:
            raise UserError(f"no face was found in the portrait {name!r}: check that mediapipe 0.10.14 is installed")
        return points[0]

    transform = crop_transform(detect(file), size)
    flags = cv2.INTER_LANCZOS4 if transform[0, 0] > 0.7 else cv2.INTER_AREA
    image = warp_affine(file, transform, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    outline = np.array(source.outline) @ transform[:, :2].T + transform[:, 2]
    first, last = (round(transform[1, 1] * row + transform[1, 2]) for row in source.rows)
    alpha = person_alpha(image, SelfieSegmenter().segment(image), outline, slice(max(first, 0), last))
    clutter = np.zeros((size, size), bool)
    for box in np.array(source.clutter, float).reshape(-1, 2, 2):
        (x0, y0), (x1, y1) = np.round(box @ transform[:, :2].T + transform[:, 2]).clip(0, size).astype(int)
        clutter[y0:y1, x0:x1] = True
    return Portrait(name, image, detect(image), alpha, clutter)
