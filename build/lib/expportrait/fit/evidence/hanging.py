"""Hair that hangs past the ears: which sides of a head have it, and which part of the head it hides.

Below the ears a bare head is narrow. Where the masks are wider there, hair hangs (or a hood, which is as little the
head's surface). From the ears down neither its outline nor its normals and depths are evidence of this head.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from expportrait.fit.parameters import HeadParameters
from expportrait.head import JOINTS, Head
from expportrait.head.regions import smoothstep
from expportrait.render import fragments
from expportrait.video.margins import Margins

LEFT, RIGHT, BACK = range(3)  # sides, the subject's own
DOWN = (0.005, 0.015, 0.025, 0.035)  # m below the ear lobes, heights at which the mask is looked at
BESIDE, BEHIND = 0.0, 0.03  # m beyond the ear's outermost point, and beyond the nape
WIDE = 0.03  # m, how far the looked-at points lie apart, front to back beside the ears, left to right at the nape
SHARE = (0.4, 0.7)  # of the looked-at points that are in the mask: from bare to hanging
LEAST = 0.05  # of the points, that have to lie free of the head to tell
BORDER = 4  # px beside the picture's edge, where nothing is known
ABOVE = (0.01, 0.06)  # m above the ears' tops, over which the outline becomes evidence again
FRONT = (45.0, 60.0)  # degrees from the face's middle, about the head's upright axis, between which hair begins
NAPE = (125.0, 145.0)  # degrees, between which a side becomes the back
REACH = (0.10, 0.14)  # m from the axis, between which the shoulders come out of the hair
SKIN = ("scalp", "neck", "face", "body")


class Masks(Protocol):
    """A clip's masks, (B, size, size) 0..1 of some frames; ``margins``: where these show no picture."""

    frames: int
    size: int
    margins: Margins

    def masks(self, frames: Tensor | slice) -> Tensor: ...


@dataclass
class Ears:
    """Where the ears are on a canonical head, m: height of the tops and of the lobes, |x| of what lies outermost, z of
    the middles, and z of the nape between the lobes."""

    top: float
    lobe: float
    outermost: float
    middle: float
    nape: float

    def points(self) -> np.ndarray:
        """(3, k, 3) m: what is looked at on each side."""
        down, across = np.meshgrid(self.lobe - np.array(DOWN), WIDE * np.array([-0.5, 0, 0.5]), indexing="ij")
        down, across = down.ravel(), across.ravel()
        beside = np.stack([np.full(len(down), self.outermost + BESIDE), down, self.middle + across], -1)
        behind = np.stack([across, down, np.full(len(down), self.nape - BEHIND)], -1)
        return np.stack([beside, beside * [-1, 1, 1], behind])


def find_ears(vertices: np.ndarray, share: np.ndarray, skin: np.ndarray) -> Ears:
    """Of canonical vertices (n, 3) m, the ears' ``share`` (n,) 0..1 of them, and what is skin of scalp or neck (n,)."""
    ear = vertices[share > 0.5]
    low, high = np.quantile(ear[:, 1], [0.02, 0.98])
    around = skin & (np.abs(vertices[:, 1] - low + 0.02) < 0.02) & (np.abs(vertices[:, 0]) < 0.03)
    return Ears(high, low, float(np.abs(ear[:, 0]).max()), float(ear[:, 2].mean()), float(vertices[around, 2].min()))


@torch.no_grad()
def hanging_sides(head: Head, parameters: HeadParameters, targets: Masks, ears: Ears, views: int = 12) -> np.ndarray:
    """(3,) 0..1: on which side hair hangs, from the masks of at most ``views`` frames.

    A point counts in a frame where it lies in the picture and the bare head is not before or behind it. A side that
    no frame shows so is as the back is, which a profile shows; a back that none shows, as the barer side.
    """
    p, size = parameters, targets.size
    camera = p.camera(size)
    points = torch.from_numpy(ears.points().astype(np.float32)).to(head.coarse.template.device)
    inside, counted = np.zeros(3), np.zeros(3)
    for t in np.unique(np.linspace(0, targets.frames - 1, min(views, targets.frames)).round().astype(int)).tolist():
        frame = slice(t, t + 1)
        pose = p.shape, p.expression[frame], p.matrices(frame), p.translation(frame)
        rendered = fragments(head.pose(head.coarse, *pose), head.faces, camera, cull=True)
        covered = rendered.image(torch.ones_like(rendered.depth))[0].cpu().numpy() > 0
        joint = head.transforms(*pose)[0, JOINTS.index("head")]
        at = camera.project(points @ joint[:, :3].t() + joint[:, 3]).cpu().numpy()
        known = targets.margins.holds(at, size, BORDER)
        column, row = np.where(known[..., None], np.floor(at), 0).astype(int).transpose(2, 0, 1)
        known &= ~covered[row, column]
        counted += known.sum(1)
        inside += (known & (targets.masks(frame)[0].cpu().numpy()[row, column] > 0.5)).sum(1)
    told = counted >= LEAST * points.shape[1]
    share = smoothstep(*SHARE, inside / np.maximum(counted, 1)) * told
    if not told[BACK]:
        share[BACK] = share[[LEFT, RIGHT]].min()
    return np.where(told, share, share[BACK])


def below_ears(vertices: np.ndarray, names: np.ndarray, ears: Ears, sides: np.ndarray) -> np.ndarray:
    """(n, 2) 0..1 of vertices (n, 3) m, canonical, of regions ``names`` (n,), from above the ears down: how far hair
    that hangs on these ``sides`` (3,) hides a vertex, beside and behind the face; and how far what lies beside it in
    the picture is that hair, the face's own rim included."""
    axis = ears.middle - 0.01
    far = np.hypot(vertices[:, 0], vertices[:, 2] - axis)
    angle = np.degrees(np.arctan2(np.abs(vertices[:, 0]), vertices[:, 2] - axis))
    back = smoothstep(*NAPE, angle)
    side = np.where(vertices[:, 0] > 0, sides[LEFT], sides[RIGHT])
    low = 1 - smoothstep(*(ears.top + np.array(ABOVE)), vertices[:, 1])
    low = np.where(names == "body", low * (1 - smoothstep(*REACH, far)), low) * np.isin(names, SKIN)
    beside = low * ((1 - back) * side + back * sides[BACK])
    return np.stack([beside * np.maximum(smoothstep(*FRONT, angle), back), beside], -1)


def hidden_pixels(hidden: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """(h, w) 0..1: what hair hides in the picture: the first of ``hidden`` (h, w, 2), as the head's surface shows it
    (see ``below_ears``), where it is ``covered`` (h, w) bool; beside the head the second of what is nearest."""
    if not covered.any():
        return np.zeros(covered.shape, hidden.dtype)
    rows, columns = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return np.where(covered, hidden[..., 0], hidden[rows, columns, 1])
