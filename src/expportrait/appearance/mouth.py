"""What the inside of a mouth looks like where the portrait does not show it, pixel by pixel.

The head's teeth are two plain bands along the dental arches. Single teeth, gums, and the light that comes in between
the lips are drawn over them by where a pixel lies: how far along the arch, how high above the biting edge, how far
behind the lips. Widths and heights are means of adults' permanent teeth (Wheeler's Dental Anatomy), rounded.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from expportrait.head import Head
from expportrait.head.regions import smoothstep
from expportrait.head.topology import components

INSIDE = ("teeth", "tongue", "mouth")
# mm of one side's upper and lower teeth, from the midline on: width along the arch, height of the crown
WIDTHS = np.float32([[8.5, 6.5, 7.5, 7.0, 6.8, 10.2, 9.5], [5.2, 5.9, 6.8, 7.0, 7.1, 11.0, 10.5]])
CROWNS = np.float32([[10.3, 9.0, 10.0, 8.4, 8.2, 7.6, 7.2], [8.8, 9.2, 10.2, 8.6, 8.0, 7.5, 7.0]])
SHORT = np.float32([[0.0, 0.8, 0.1, 0.5, 0.7, 0.8, 0.8], [0.0, 0.1, 0.0, 0.4, 0.6, 0.8, 0.8]])  # mm below the edge
GAP = 0.3, np.float32([0.38, 0.48, 0.54])  # mm, half a gap's width; what it takes of red, green, blue
ROUND = 0.2, np.float32([1.0, 1.1, 1.3])  # what a tooth's curve takes at its sides, and the more the bluer
CORNER = 0.8  # mm: how high a tooth's corners lie above its edge
PAPILLA = 2.4  # mm: how far the gum reaches down between two teeth
GUM = np.float32([0.70, 0.40, 0.42])  # over the teeth's colour
GROOVE = 0.22, 2.5  # of the tongue's middle: what it takes, and half its width, mm
LIT = 14.0  # mm behind the lips, to where light comes in unhindered: the front teeth
ENTERS = 0.3  # how fast light falls behind, in heights of the opening
THROAT = 38.0  # mm, over which the inside takes up what light there is
RED = np.float32([1.0, 1.18, 1.16])  # powers: light that bounces inside a mouth is red
SHADOW = 2.4, 1.6, 0.55  # mm: softness and length of the upper lip's shadow; how much it takes
AJAR, SHOWN = 14.0, 40.0  # mm, mean height of a mouth that is open more than a smile; mm² of teeth that make one
APART = 2.5  # mm: gum and gaps as narrow belong to the teeth between which they lie
BESIDE = 2.0  # mm around the fitted mouth, where its teeth may show
LIGHT, REDNESS = (0.6, 0.85), (1.0, 1.4)  # over the skin's, in CIELAB: from no tooth to a tooth, and back
DIM = (0.5, 0.65)  # between two teeth, light enough for one
FRONT = 12.0  # mm behind the front teeth, which an affine map takes along
ARC = np.radians(3.0)  # over which an arch's outer wall is taken


def inside(head: Head) -> np.ndarray:
    """(n_d,) bool: teeth, tongue and the mouth's skin, but not the eye sockets, which are skin that never shows too."""
    region, height = head.regions.cpu().numpy(), head.dense.template[:, 1].cpu().numpy()
    lips, eyes = (height[region == head.REGIONS.index(name)].mean() for name in ("lips", "eye"))
    nearer = np.abs(height - lips) < np.abs(height - eyes)
    return np.isin(region, [head.REGIONS.index(name) for name in INSIDE]) & nearer


def places(head: Head) -> Tensor:
    """(n_d, 4) of each vertex: mm along its dental arch from the midline on, of other parts mm to the side; mm above
    the biting edge, towards the gum; mm behind the lips; 1 of upper teeth, 2 of lower ones, 3 of the tongue, else 0."""
    region, points = head.regions.cpu().numpy(), 1000 * head.dense.template.cpu().numpy()
    faces = head.dense_faces.cpu().numpy()
    across, above = points[:, 0].copy(), np.zeros(len(points), np.float32)
    kind = np.where(region == head.REGIONS.index("tongue"), 3, 0)
    teeth = region == head.REGIONS.index("teeth")
    label = components(faces[teeth[faces].all(1)], len(points))
    middle = np.median(points[teeth, 1]) if teeth.any() else 0.0
    for upper in (True, False):
        parts = [one for one in np.unique(label[teeth]) if (np.mean(points[label == one, 1]) > middle) == upper]
        arch = np.isin(label, parts) & teeth
        if not arch.any():
            continue
        kind[arch] = 1 if upper else 2
        across[arch] = along = _along(points[arch])
        up = points[arch, 1] if upper else -points[arch, 1]
        near = np.abs(along[:, None] - along) < 4.0
        above[arch] = up - np.where(near, up, np.inf).min(1)
    behind = points[region == head.REGIONS.index("lips"), 2].max() - points[:, 2]
    return torch.from_numpy(np.stack([across, above, behind, kind], 1).astype(np.float32)).to(head.regions.device)


def _along(points: np.ndarray) -> np.ndarray:
    """(n,) mm along the outer wall of an arch's points (n, 3) mm, from the midline on, negative on the right."""
    x, z = points[:, 0], points[:, 2] - points[:, 2].min()
    angle, radius = np.arctan2(x, z), np.hypot(x, z)
    steps = np.linspace(-np.pi / 2, np.pi / 2, 61)
    near = np.abs(angle - steps[:, None]) < 2 * ARC
    outer = np.where(near, radius, -np.inf).max(1)
    known = np.isfinite(outer)
    outer = np.interp(steps, steps[known], outer[known])
    walls = np.stack([outer * np.sin(steps), outer * np.cos(steps)], 1)
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(walls, axis=0), axis=1))]
    return np.interp(angle, steps, length - np.interp(0, steps, length))


def smile(picture: np.ndarray, mouth: np.ndarray, skin: np.ndarray, pixel: float) -> np.ndarray | None:
    """(H, W) float32 0..1: the upper teeth in a picture (H, W, 3) u8 RGB, None where it shows next to none.

    ``mouth`` (H, W) bool: where the fitted head shows its mouth's inside; ``skin`` (n, 3) 0..255: colours of the face;
    ``pixel``: mm that one is wide there. What is about as light as the skin and less red is a tooth, and an upper one
    as long as the mouth is hardly open: a smile shows hardly any other.
    """
    columns = mouth.sum(0)
    if not columns.any() or not len(skin) or pixel * columns[columns > 0].mean() > AJAR:
        return None
    reach = 2 * max(1, round(BESIDE / pixel)) + 1
    near = cv2.dilate(np.uint8(mouth), np.ones((reach, reach), np.uint8))
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    light, red, _ = np.median(cv2.cvtColor(skin[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0], 0)
    teeth = smoothstep(*LIGHT, lab[..., 0] / max(light, 1)) * (1 - smoothstep(*REDNESS, lab[..., 1] / max(red, 1)))
    between = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, 2 * [2 * max(1, round(APART / pixel)) + 1])
    teeth = cv2.morphologyEx(np.float32(teeth * near), cv2.MORPH_CLOSE, between)
    sure = np.argwhere(teeth > 0.5)[:, ::-1].astype(np.int32)
    if len(sure):  # between teeth are teeth, however red the light or the picture makes one
        hull = cv2.fillConvexPoly(np.zeros_like(near), cv2.convexHull(sure), 1)
        teeth = np.maximum(teeth, hull * mouth * smoothstep(*DIM, lab[..., 0] / max(light, 1)))
    teeth = cv2.GaussianBlur(teeth, (0, 0), 0.7)
    return teeth if (teeth > 0.5).sum() * pixel**2 > SHOWN else None


def upper(places: Tensor) -> Tensor:
    """(n_d,) bool: the front of the upper teeth, which are the skull's."""
    return (places[:, 3] == 1) & (places[:, 2] < LIT + FRONT)


def shading(at: np.ndarray, mouth: np.ndarray, pixel: float, facing: np.ndarray) -> np.ndarray:
    """(P, 3) factors of the colours of a mouth's P pixels.

    ``at`` (P, 4): their ``places``; ``mouth`` (H, W) bool: these pixels, in the order of ``at``; ``pixel``: mm that one
    of them is wide there; ``facing`` (P,): cosine of the surface and the view.
    """
    across, above, behind, kind = at.T
    kind = np.rint(kind).astype(int)
    factor = np.ones((len(at), 3), np.float32)
    for jaw in (0, 1):
        chosen = kind == jaw + 1
        width = pixel / np.maximum(facing[chosen], 0.2)
        factor[chosen] = _teeth(across[chosen], above[chosen], jaw, width, pixel)
    groove = GROOVE[0] * np.exp(-((across / GROOVE[1]) ** 2) / 2)
    factor *= np.where(kind == 3, 1 - groove, 1)[:, None]
    columns = mouth.sum(0)
    opening = pixel * columns[columns > 0].mean()
    deep = np.maximum(behind - LIT, 0)
    light = opening / (opening + ENTERS * deep) * np.exp(-deep / THROAT)
    return factor * (light * _under_lip(mouth, pixel))[:, None] ** RED


def _teeth(across: np.ndarray, above: np.ndarray, jaw: int, width: np.ndarray, height: float) -> np.ndarray:
    """(P, 3) factors of a jaw's teeth, mm along and above the edge (P,); a pixel is ``width`` (P,) by ``height`` mm."""
    ends = np.r_[0, np.cumsum(WIDTHS[jaw])].astype(np.float32)
    number = np.clip(np.searchsorted(ends, np.abs(across)) - 1, 0, len(WIDTHS[jaw]) - 1)
    start, size = ends[number], WIDTHS[jaw][number]
    place = np.clip((np.abs(across) - start) / size, 0, 1) * 2 - 1  # -1 to 1 over a tooth
    side = np.abs(place)
    gap = (1 - side) * size / 2
    soft = np.hypot(GAP[0], 0.5 * width)  # a gap narrower than a pixel darkens it the less
    gap = np.exp(-((gap / soft) ** 2) / 2) * GAP[0] / soft
    tooth = 1 - ROUND[0] * ROUND[1] * (side**3)[:, None]
    tooth = tooth * (1 - 0.1 * smoothstep(2.0, 8.0, above))[:, None]  # towards its neck it is darker
    tooth *= 1 - np.minimum(1.2 * gap, 1)[:, None] * GAP[1]
    edge, slope = SHORT[jaw][number] + CORNER * side**4, 0.7 * height + 0.2
    tooth *= (0.55 + 0.45 * smoothstep(-slope, slope, above - edge))[:, None]
    neck = CROWNS[jaw][number] - PAPILLA * side**2
    share = smoothstep(-slope, slope, above - neck)[:, None]
    return (1 - share) * tooth + share * GUM * (1 - 0.15 * gap[:, None])


def _under_lip(mouth: np.ndarray, pixel: float) -> np.ndarray:
    """(P,) 0..1: light that lips and corners leave to a mouth's pixels."""
    soft, long, takes = SHADOW
    rows, columns = np.nonzero(mouth)
    margin = int(np.ceil(3 * soft / pixel)) + 1
    low = max(rows.min() - margin, 0), max(columns.min() - margin, 0)
    part = mouth[low[0] : rows.max() + margin + 1, low[1] : columns.max() + margin + 1]
    down = np.float32([[1, 0, 0], [0, 1, long / pixel]])
    shut = (~part).astype(np.float32)
    shut = cv2.warpAffine(shut, down, part.shape[::-1], borderMode=cv2.BORDER_CONSTANT, borderValue=1.0)
    shut = cv2.GaussianBlur(shut, (0, 0), max(0.5, soft / pixel), borderType=cv2.BORDER_REPLICATE)
    return 1 - takes * shut[part]
