"""Sheets to look at: what the fit was given, what it found, and where it is off."""

from pathlib import Path

import cv2
import numpy as np
import torch
from benchmarks.truth_clips import Clip
from benchmarks.truth_scores import align, angles, fitted_vertices, skin

from expportrait.fit.evidence.targets import Targets
from expportrait.fit.result import ProxyFit
from expportrait.head import Head
from expportrait.render import render
from expportrait.render.picture import normals_to_rgb, shade_image
from expportrait.store import decode_normals

DEGREES, MILLIMETRES = 25.0, 8.0  # white in the two error maps


def heat(values: np.ndarray, top: float, where: np.ndarray) -> np.ndarray:
    """(H,W) -> (H,W,3) u8 RGB: black at 0 to white at ``top``, grey where there is nothing to compare."""
    colour = cv2.applyColorMap(np.uint8(255 * np.clip(values / top, 0, 1)), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.where(where[..., None], colour, 90).astype(np.uint8)


def save_picture(file: Path, head: Head, fit: ProxyFit, clip: Clip, targets: Targets, frames: int = 3) -> None:
    """One row a frame: normals given, true clay, fitted clay, normal error 0 to 25 degrees, distance of the true
    vertices from the fitted ones after alignment 0 to 8 mm."""
    vertices = fitted_vertices(head, fit)
    weight = (clip.visible & skin(head)).astype(np.float64)
    off = 1e3 * np.linalg.norm(
        align(head, vertices.numpy().astype(np.float64), clip.vertices, weight) - clip.vertices, axis=-1
    )
    rows = []
    for t in np.linspace(0, len(vertices) - 1, frames + 2).round().astype(int)[1:-1]:
        true = decode_normals(clip.normals[t])
        fitted = render(vertices[t : t + 1], head.dense_faces, fit.parameters.camera(), cull=True)
        there = clip.mask[t] & (fitted.coverage[0].numpy() > 0.5)
        distance = torch.from_numpy(off[t, :, None].astype(np.float32))
        known = render(
            torch.from_numpy(clip.vertices[t : t + 1]), head.dense_faces, clip.camera, {"off": distance}, cull=True
        )
        rows.append(
            [
                normals_to_rgb(targets.normals[t], targets.mask[t]),
                shade_image(true, clip.mask[t]),
                shade_image(fitted.normals[0], fitted.coverage[0]),
                heat(angles(true, fitted.normals[0].numpy()), DEGREES, there),
                heat(known.attributes["off"][0, ..., 0].numpy(), MILLIMETRES, clip.mask[t]),
            ]
        )
    sheet = np.concatenate([np.concatenate(row, 1) for row in rows])
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), cv2.resize(sheet, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)[..., ::-1])
