"""A portrait's colours, carried by its head's surface to other poses and expressions."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch

from expportrait.appearance.portrait import Portrait, inward
from expportrait.appearance.pyramid import fill
from expportrait.fit.store import FittedHead
from expportrait.head.regions import smoothstep
from expportrait.render import Camera, render

BLOCK = 4  # frames rendered at once
STRETCH = (0.2, 0.6)  # what was seen at an angle is smeared where it turns to the viewer: unseen to seen


@torch.no_grad()
def carried(
    shown: Portrait, made: FittedHead, rim: float = 9.0, still: float = 8.0, backend: str = "auto"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of (appearance (B, H, W, 3) u8 RGB, seen (B, H, W) u8) of the frames of ``made``.

    ``made``: the portrait's own head in other poses, seen by the same camera. ``seen`` is 255 where a pixel shows what
    the portrait showed, 0 where its colour is a guess.
    """
    attributes = {"at": torch.cat([shown.pixels, shown.shown, shown.facing, shown.colours], 1)}
    rays = _rays(made.camera)
    for first in range(0, made.frames, BLOCK):
        vertices = made.vertices(slice(first, first + BLOCK))
        maps = render(vertices, made.head.dense_faces, made.camera, attributes, backend=backend, cull=True)
        covered, at = maps.coverage.cpu().numpy() > 0.5, maps.attributes["at"].cpu().numpy()
        facing = -(maps.normals.cpu().numpy() * rays).sum(-1)
        pairs = [_frame(shown, c, a, f, rim, still) for c, a, f in zip(covered, at, facing, strict=True)]
        yield np.stack([one for one, _ in pairs]), np.stack([one for _, one in pairs])


def _rays(camera: Camera) -> np.ndarray:
    """(H, W, 3): the unit directions from the camera through its pixels."""
    rows, columns = np.mgrid[: camera.height, : camera.width].astype(np.float32) + 0.5
    focal = float(camera.focal)
    rays = np.dstack([(columns - camera.width / 2) / focal, (camera.height / 2 - rows) / focal, -np.ones_like(rows)])
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _frame(
    shown: Portrait, covered: np.ndarray, at: np.ndarray, facing: np.ndarray, rim: float, still: float
) -> tuple[np.ndarray, np.ndarray]:
    height, width = covered.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    here = np.dstack([columns, rows]) + 0.5
    flow = np.where(covered[..., None], at[..., :2] - here, 0).astype(np.float32)
    source = here + fill(flow, covered.astype(np.float32)) - 0.5
    across, down = source[..., 0], source[..., 1]
    sampled = cv2.remap(shown.person, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    matte = cv2.remap(shown.matte, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (across >= 0) & (across <= width - 1) & (down >= 0) & (down <= height - 1)

    known = (np.where(covered, at[..., 2], 1) * inside).astype(np.float32)[..., None]
    colour = known * sampled + (1 - known) * np.where(covered[..., None], at[..., 4:], sampled)
    sharp = smoothstep(*STRETCH, np.maximum(at[..., 3], 0.02) / np.maximum(facing, 0.02))
    known *= np.where(covered, sharp, 1)[..., None]
    alpha = np.maximum(matte, inward(covered, rim))[..., None]
    image = alpha * colour + (1 - alpha) * shown.background
    moved = np.hypot(across - columns, down - rows)[..., None] * (512 / width)
    rest = cv2.remap(shown.rest, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    image += (1 - smoothstep(1.0, still, moved)) * rest
    seen = alpha * known + (1 - alpha) * shown.open[..., None]
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8), np.rint(255 * seen[..., 0]).astype(np.uint8)
