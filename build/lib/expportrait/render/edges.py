"""Silhouette gradients from the rasterised image, after Pidhorskyi et al. 2024, "Rasterized Edge Gradients" (DRTK).

A rasterised image is constant while a silhouette moves within a pixel, so its exact derivative misses the silhouette.
In the mean over sub-pixel positions, moving the nearer surface by dx across the border of two neighbouring pixels
changes the colour of either by (near - far) / 2 * dx. That term is added, with value zero, to the image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from expportrait.render.raster import FacePlanes

# Metres between two surfaces that count as an occlusion. 2 to 8 mm act alike; below 1 mm, bumps of the skin count too.
GAP = 0.004


@dataclass
class Edges:
    """Pairs of neighbouring pixels between which a nearer surface ends."""

    near: Tensor  # (N,) flat pixel of the nearer surface
    far: Tensor  # (N,) flat pixel of what it occludes
    shift: (
        Tensor  # (N,) motion of the nearer surface towards the far pixel in pixels: 0, with gradients to the vertices
    )


def find_edges(pos: Tensor, faces: Tensor, ids: Tensor, depth: Tensor, gap: float = GAP) -> Edges:
    """pos (B, V, 4) clip space; faces (F, 3); ids (B, H, W), -1 where nothing is; depth (B, H, W) in metres; rows
    top-down."""
    width = ids.shape[2]
    surface = torch.where(ids >= 0, depth.detach(), torch.inf)
    pixel = torch.arange(ids.numel(), device=ids.device).view_as(ids)
    near, far, counts = [], [], []
    for axis, stride in ((2, 1), (1, width)):
        first = surface.narrow(axis, 0, surface.shape[axis] - 1)
        second = surface.narrow(axis, 1, surface.shape[axis] - 1)
        number = pixel.narrow(axis, 0, surface.shape[axis] - 1)
        ends, begins = number[first + gap < second], number[second + gap < first]
        near += [ends, begins + stride]
        far += [ends + stride, begins]
        counts += [len(ends), len(begins)]
    near, far = torch.cat(near), torch.cat(far)
    motion = _screen_motion(pos, faces, ids, near)
    right, left, down, up = motion.split(counts)
    return Edges(near, far, torch.cat([right[:, 0], -left[:, 0], down[:, 1], -up[:, 1]]))


def _screen_motion(pos: Tensor, faces: Tensor, ids: Tensor, index: Tensor) -> Tensor:
    """How the surface point seen at each pixel of index (N,) moves on the screen: (N, 2) in pixels (right, down), of
    value 0."""
    _, height, width = ids.shape
    seen = ids.reshape(-1).index_select(0, index) + torch.div(index, height * width, rounding_mode="floor") * len(faces)
    planes = FacePlanes(pos.detach(), faces, seen, index, (height, width))
    corners = planes.corners.view(3, len(planes.corners) // 3).index_select(1, planes.slot)
    weights = planes.barycentrics()  # constants: the point is a material one
    table = pos.reshape(-1, 4)
    point = sum(
        weight[:, None] * table.index_select(0, corner) for weight, corner in zip(weights, corners, strict=True)
    )
    screen = point[:, :2] / point[:, 3:] * pos.new_tensor([width / 2, -height / 2])
    return screen - screen.detach()


def edge_grad(image: Tensor, edges: Edges) -> Tensor:
    """The same image (B, H, W) or (B, H, W, C), whose gradient also sees the motion of silhouettes and occluding edges.

    Apply it last, to the image that the loss reads: masking or normalising afterwards would undo it.
    """
    flat = image.reshape(image.shape[:3].numel(), -1)
    values = flat.detach()
    delta = (values.index_select(0, edges.near) - values.index_select(0, edges.far)) * (edges.shift / 2)[:, None]
    flat = flat.index_add(0, edges.near, delta).index_add(0, edges.far, delta)
    return flat.view_as(image)
