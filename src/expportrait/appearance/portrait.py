"""What a portrait shows, worked out once: the person, the background behind, and what each vertex looks like."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor

from expportrait.appearance import mouth
from expportrait.appearance.colours import completed
from expportrait.appearance.matte import refined, strays
from expportrait.appearance.outline import Outline, beyond
from expportrait.appearance.pyramid import fill, spread
from expportrait.appearance.scalp import hairy, lookups, skinlike
from expportrait.fit.store import FittedHead
from expportrait.head.regions import smoothstep
from expportrait.render import render, vertex_normals

DEPTHS = ((1, 0.006), (3, 0.014))  # (px of 512, m): a vertex that far behind what is that near to it was hidden
FREE = 6.0  # px of 512 around the person that give no colours to the background: wisps of hair
TRUSTED = (10.0, 20.0)  # px of 512 inside the fitted head's outline: from the matte alone to the head alone
# cosine of the normal and the view: at the rim, where the background mixes in, colours are not taken for others
STRAIGHT = (0.1, 0.4)
RIM, RIM_OF_HAIR = (0.0, 1.5), (1.5, 5.0)  # px of 512 inside the matte: the same of its own rim
MOUTH, SCALP = 1, 2  # parts of a head of which more is said than vertices' colours
SOFT = 6.0  # px of 512, over which the scalp's texture passes over into its colours


@dataclass(frozen=True)
class Portrait:
    """One reference picture of H x W px and the head fitted to it."""

    matte: np.ndarray  # (H, W) float32 0..1: the person, with its rim where the colours change
    person: np.ndarray  # (H, W, 3) float32: the person's colours, gone on beyond the matte
    background: np.ndarray  # (H, W, 3) float32: filled in where the person stood
    rest: np.ndarray  # (H, W, 3) float32: what person over background lacks to be the picture
    outline: Outline  # of the head
    open: np.ndarray  # (H, W) float32 0..1: where the background was seen
    vertices: Tensor  # (1, n_d, 3) m, camera space: the head in it
    pixels: Tensor  # (n_d, 2) px, x and y: where each dense vertex lies in the picture
    shown: Tensor  # (n_d, 1) 0..1: whether it shows there, nothing being before it
    facing: Tensor  # (n_d, 1): cosine of its normal and the direction to the camera
    colours: Tensor  # (n_d, 3) 0..255: its colour, a guess where it was not seen
    unseen: Tensor  # (n_d, 7): what is asked of a vertex where it was not: its ``mouth.places``, its ``scalp.lookups``
    faces: Tensor  # (n_faces, 3): of the dense mesh
    parts: Tensor  # (n_faces,) int64: MOUTH of the mouth's inside, SCALP of hair and hat, else 0
    hair: np.ndarray  # (H, W) float32 0..1: where the scalp shows
    smile: np.ndarray | None  # (H, W) float32 0..1: its upper teeth, None where it shows none or its mouth is open

    @cached_property
    def rest_and_matte(self) -> np.ndarray:
        """(H, W, 4), which are looked up at the same places: at once that takes half the time."""
        return np.dstack([self.rest, self.matte])


def inward(covered: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W) 0..1: 0 up to ``low`` px of 512 inside the outline of the head that covers (H, W) bool, 1 from ``high``
    on."""
    return smoothstep(*(r * covered.shape[1] / 512 for r in (low, high)), beyond(~covered))


@torch.no_grad()
def portrait(image: np.ndarray, matte: np.ndarray, fitted: FittedHead, backend: str = "auto") -> Portrait:
    """``image`` (H, W, 3) u8 RGB, ``matte`` (H, W) u8 of head and shoulders, ``fitted``: the head in it, T = 1."""
    head, size, device = fitted.head, len(image) / 512, fitted.static.device
    vertices = fitted.vertices(slice(0, 1))
    maps = render(vertices, head.dense_faces, fitted.camera, backend=backend, cull=True)
    covered, face_id = maps.coverage[0].cpu().numpy() > 0.5, maps.face_id[0].cpu().numpy()
    # mattes have holes where clothes and background are alike; well inside the head there is none
    alpha = np.maximum(refined(image, matte.astype(np.float32) / 255), inward(covered, *TRUSTED))
    person, background, rest = _layers(image, alpha)

    pixels, seen, facing = _seen(vertices, maps.depth[0], fitted)
    places, at_pixels = mouth.places(head), pixels.cpu().numpy()
    scale = float(fitted.camera.focal) / float(-vertices[0, :, 2].mean())
    inside, hairs, outline, inner = mouth.inside(head), hairy(head), Outline.of(covered), beyond(alpha < 0.9)
    at, shown = _sampled(np.dstack([person, alpha, inner]), at_pixels), seen.cpu().numpy()
    person_there = smoothstep(0.3, 0.8, at[:, 3])  # where the head is drawn a little too large, the background shows
    drawn = ((at_pixels >= 1) & (at_pixels < len(image) - 1)).all(1)
    trusted = shown * person_there * drawn * smoothstep(*STRAIGHT, facing.cpu().numpy())
    of_hair, of_skin = (smoothstep(*(d * size for d in rim), at[:, 4]) for rim in (RIM_OF_HAIR, RIM))
    trusted *= np.where(hairs, of_hair, of_skin)

    faces, smile, teeth = head.dense_faces.cpu().numpy(), None, mouth.upper(places).cpu().numpy()
    skin = at[(trusted > 0.5) & (head.regions.cpu().numpy() == head.REGIONS.index("face")), :3]
    of_hair = at[(trusted > 0.5) & hairs, :3]
    trusted *= ~(hairs & skinlike(at[:, :3], of_hair, skin))
    if teeth.any():
        smile = mouth.smile(image, inside[faces].any(1)[face_id] & covered, skin, 1000 / scale)
    if smile is not None:  # what the fit takes for a tongue is teeth
        trusted = np.where(inside, teeth * trusted * _sampled(smile[..., None], at_pixels)[:, 0], trusted)
    colours = completed(at[:, :3], trusted, head)
    shows = hairs[faces].all(1)[face_id] & covered & (inner > RIM_OF_HAIR[1] * size) & ~skinlike(person, of_hair, skin)
    hair = smoothstep(0.0, SOFT * size, beyond(~shows))
    beside = lookups(head, vertices[0].cpu().numpy(), at_pixels, trusted, outline, hair, scale)
    parts = MOUTH * inside[faces].any(1) + SCALP * (beside[:, 2] > 0)[faces].all(1)
    visible = 1 - smoothstep(0.05, 0.5, alpha)
    colours, beside, parts = (torch.from_numpy(one).to(device) for one in (colours, beside, parts))
    return Portrait(
        alpha, person, background, rest, outline, visible, vertices, pixels, seen[:, None], facing[:, None], colours,
        torch.cat([places, beside], 1), head.dense_faces, parts, hair, smile,
    )  # fmt: skip


def _layers(image: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(H, W, 3) float32 each of a picture (H, W, 3) u8 in which a person is by ``alpha`` (H, W): the person's colours,
    the background's, and what the one over the other lacks to be the picture."""
    near = cv2.dilate(alpha, np.ones(2 * [2 * max(1, round(FREE * len(image) / 512)) + 1], np.uint8))
    picture, alpha = image.astype(np.float32), alpha[..., None]
    # a rim where the matte may be wrong gives no colours to the background, nor does what looks like the person
    free = (1 - smoothstep(0.02, 0.2, near)) * (1 - strays(image, alpha[..., 0]))
    background = np.where(free[..., None] == 1, picture, spread(picture, free))
    # what a soft pixel shows of the person: I = a F + (1 - a) B
    unmixed = (picture - (1 - alpha) * background) / np.maximum(alpha, 0.3)
    person = fill(np.clip(unmixed, 0, 255), smoothstep(0.5, 0.95, alpha[..., 0]))
    return person, background, picture - (alpha * person + (1 - alpha) * background)


def _seen(vertices: Tensor, depth: Tensor, fitted: FittedHead) -> tuple[Tensor, Tensor, Tensor]:
    """(n_d, 2) px of the vertices, (n_d,) 0..1 whether nothing hides them and they are turned to the camera, and their
    cosines, also beyond the picture's edge."""
    head, camera = fitted.head, fitted.camera
    clip = camera.clip(vertices)[0]
    z, width, height = clip[:, 3], camera.width, camera.height
    pixels = torch.stack([(clip[:, 0] / z + 1) / 2 * width, (1 - clip[:, 1] / z) / 2 * height], 1)
    depth = torch.where(depth > 0, depth, depth.new_tensor(99.0))
    columns, rows = pixels[:, 0].long().clamp(0, width - 1), pixels[:, 1].long().clamp(0, height - 1)
    seen = torch.ones_like(z)
    # lips lie so far before the teeth that the margin for slopes would hide most of what an open mouth shows
    inside = torch.isin(
        head.regions, torch.tensor([head.REGIONS.index(name) for name in mouth.INSIDE], device=z.device)
    )
    for near, deep in DEPTHS:
        reach = max(1, round(near * width / 512))
        deep *= reach * 512 / width / near  # in a coarse picture slopes reach deeper within a pixel
        nearest = -torch.nn.functional.max_pool2d(-depth[None, None], 2 * reach + 1, 1, reach)[0, 0]
        hidden = smoothstep(0.7 * deep, 1.3 * deep, z - nearest[rows, columns])
        seen *= 1 - (hidden if near == DEPTHS[0][0] else torch.where(inside, 0, hidden))
    seen[(pixels < 0).any(1) | (pixels[:, 0] > width) | (pixels[:, 1] > height)] = 1  # what lies there is not drawn
    view = -torch.nn.functional.normalize(vertices[0], dim=1)
    facing = (vertex_normals(vertices, head.dense_faces)[0] * view).sum(1)
    return pixels, seen * smoothstep(-0.1, 0.05, facing), facing


def _sampled(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Values (n, C) of an image (H, W, C) at (n, 2) px."""
    at = np.float32(pixels - 0.5)
    parts = [cv2.remap(np.ascontiguousarray(image[..., c]), at[None, :, 0], at[None, :, 1], cv2.INTER_LINEAR,
                       borderMode=cv2.BORDER_REPLICATE)[0] for c in range(image.shape[2])]  # fmt: skip
    return np.stack(parts, 1)
