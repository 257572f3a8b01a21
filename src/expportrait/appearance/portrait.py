"""What a portrait shows, worked out once: the person, the background behind, and what each vertex looks like."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import cg
from torch import Tensor

from expportrait.appearance.pyramid import fill
from expportrait.fit.store import FittedHead
from expportrait.head import Head
from expportrait.head.regions import smoothstep
from expportrait.render import render, vertex_normals

DEPTHS = ((1, 0.006), (3, 0.014))  # (px of 512, m): a vertex that far behind what is that near to it was hidden
OUTLINE = 2.0  # px at 512: how far the outline of a fitted head may be off
UNKNOWN = {  # colours over the skin's brightness, of surfaces that the portrait shows nothing of
    "teeth": (1.05, 0.97, 0.87),
    "tongue": (0.85, 0.40, 0.38),
    "mouth": (0.40, 0.18, 0.16),
    "eye": (0.86, 0.83, 0.80),
}
INSIDE = ("teeth", "tongue", "mouth")
DARK = (0.012, 0.07), 0.35  # m behind the lips: from full light to what is left of it there


@dataclass(frozen=True)
class Portrait:
    """One reference picture of H x W px and the head fitted to it."""

    matte: np.ndarray  # (H, W) float32 0..1: the person
    person: np.ndarray  # (H, W, 3) float32: the person's colours, gone on beyond the matte
    background: np.ndarray  # (H, W, 3) float32: filled in where the person stood
    rest: np.ndarray  # (H, W, 3) float32: what person over background lacks to be the picture
    open: np.ndarray  # (H, W) float32 0..1: where the background was seen
    pixels: Tensor  # (n_d, 2) px, x and y: where each dense vertex lies in the picture
    shown: Tensor  # (n_d, 1) 0..1: whether it shows there, nothing being before it
    facing: Tensor  # (n_d, 1): cosine of its normal and the direction to the camera
    colours: Tensor  # (n_d, 3) 0..255: its colour, from its neighbours where it was not seen


def inward(covered: np.ndarray, rim: float) -> np.ndarray:
    """(H, W) 0..1: 0 at the outline of the head that covers (H, W) bool, 1 from ``rim`` px of 512 inside it on."""
    depth = cv2.distanceTransform(covered.astype(np.uint8), cv2.DIST_L2, 5)
    return smoothstep(*(r * covered.shape[1] / 512 for r in (OUTLINE, rim)), depth)


@torch.no_grad()
def portrait(
    image: np.ndarray, matte: np.ndarray, fitted: FittedHead, rim: float = 9.0, backend: str = "auto"
) -> Portrait:
    """``image`` (H, W, 3) u8 RGB, ``matte`` (H, W) u8 of head and shoulders, ``fitted``: the head in it, T = 1."""
    head, size = fitted.head, len(image) / 512
    vertices = fitted.vertices(slice(0, 1))
    maps = render(vertices, head.dense_faces, fitted.camera, backend=backend, cull=True)
    # mattes have holes where clothes and background are alike; well inside the head there is none
    alpha = np.maximum(matte.astype(np.float32) / 255, inward(maps.coverage[0].cpu().numpy() > 0.5, rim))
    near = cv2.dilate(alpha, np.ones(2 * [2 * max(1, round(3 * size)) + 1], np.uint8))
    picture = image.astype(np.float32)
    free = 1 - smoothstep(0.02, 0.2, near)  # a rim where the matte may be wrong gives no colours to the background
    background = np.where(free[..., None] == 1, picture, fill(picture, free))
    # what a soft pixel shows of the person: I = a F + (1 - a) B
    unmixed = (picture - (1 - alpha[..., None]) * background) / np.maximum(alpha[..., None], 0.3)
    sure = smoothstep(0.5, 0.95, alpha)
    person = fill(np.clip(unmixed, 0, 255), sure)
    rest = picture - (alpha[..., None] * person + (1 - alpha[..., None]) * background)
    pixels, seen, facing = _seen(vertices, maps.depth[0], fitted)
    at = _sampled(np.dstack([person, alpha]), pixels.cpu().numpy())
    shown = seen.cpu().numpy() * smoothstep(0.3, 0.8, at[:, 3])
    inside = ((pixels >= 1) & (pixels < len(image) - 1)).all(1).cpu().numpy()
    colours = _spread(at[:, :3], shown * inside, fitted.head)
    device, visible = pixels.device, 1 - smoothstep(0.05, 0.5, alpha)
    shown, colours = (torch.from_numpy(one).to(device) for one in (shown[:, None], colours))
    return Portrait(alpha, person, background, rest, visible, pixels, shown, facing[:, None], colours)


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
    for near, behind in DEPTHS:
        reach = max(1, round(near * width / 512))
        behind *= reach * 512 / width / near  # in a coarse picture slopes reach deeper within a pixel
        nearest = -torch.nn.functional.max_pool2d(-depth[None, None], 2 * reach + 1, 1, reach)[0, 0]
        seen *= 1 - smoothstep(0.7 * behind, 1.3 * behind, z - nearest[rows, columns])
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


def _spread(colours: np.ndarray, seen: np.ndarray, head: Head) -> np.ndarray:
    """(n, 3): the colours of vertices that were seen, and over the mesh a smooth passage to those that were not."""
    faces, n = head.dense_faces.cpu().numpy(), len(colours)
    region = head.regions.cpu().numpy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    links = sparse.coo_matrix((np.ones(len(edges), np.float32), edges.T), (n, n)).tocsr()
    links = links.maximum(links.T)
    skin = colours[(seen > 0.5) & (region == head.REGIONS.index("face"))]
    bright = np.median(skin.max(1)) if len(skin) else 200.0
    hold, goal = 10 * seen.astype(np.float64), colours.astype(np.float64)
    template = head.dense.template[:, 2].cpu().numpy()
    behind = template[region == head.REGIONS.index("lips")].max() - template
    light = 1 - (1 - DARK[1]) * smoothstep(*DARK[0], behind)
    for name, shade in UNKNOWN.items():
        # held to it a little, so that what was seen nearby prevails
        chosen = (region == head.REGIONS.index(name)) & (seen < 0.05)
        lit = light[chosen, None] if name in INSIDE else 1.0
        hold[chosen], goal[chosen] = (0.5 if name == "mouth" else 0.02), np.asarray(shade) * bright * lit
    hold = hold + 1e-6
    system = sparse.diags(np.asarray(links.sum(1)).ravel() + hold) - links
    # from the guesses on: where a surface shows nothing at all, they are the solution
    out = [cg(system, hold * goal[:, c], x0=goal[:, c], rtol=1e-4, maxiter=500)[0] for c in range(3)]
    return np.clip(np.stack(out, 1), 0, 255).astype(np.float32)
