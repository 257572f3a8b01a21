"""Pictures and the video of one clip, from arrays. Images are (H, W, 3) u8 RGB."""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from expportrait.fit.store import FittedHead
from expportrait.render import Camera, render

IRISES = slice(468, 478)
TURN = 40.0  # degrees to either side of the front


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Square image to ``size`` px."""
    shrink = size < len(image)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)


def strip(frames: list[np.ndarray], height: int) -> np.ndarray:
    """Square frames beside each other."""
    return np.concatenate([resize(frame, height) for frame in frames], axis=1)


def landmarks(frame: np.ndarray, points: np.ndarray, size: int) -> np.ndarray:
    """points (478, 2+) px of ``frame``, drawn on it: the irises in another colour."""
    scale = size / len(frame)
    image = resize(frame, size)
    for number, (x, y) in enumerate(points[:, :2] * scale):
        if math.isfinite(x + y):
            colour = (255, 196, 0) if number >= IRISES.start else (60, 240, 150)
            # drawn in 1/16 px; the centre of pixel 0 is at 0.5 here, at 0 there
            centre = (round((x - 0.5) * 16), round((y - 0.5) * 16))
            cv2.circle(image, centre, round(size / 400 * 16), colour, -1, cv2.LINE_AA, shift=4)
    return image


def normal_colours(normals: np.ndarray) -> np.ndarray:
    """Normals (..., 3) as colours, (n + 1) / 2; background 0 becomes black."""
    colours = np.rint((normals + 1) * 127.5).clip(0, 255)
    return np.where(np.abs(normals).sum(-1, keepdims=True) > 0, colours, 0).astype(np.uint8)


def overlay(frame: np.ndarray, colours: np.ndarray, coverage: np.ndarray, size: int) -> np.ndarray:
    """``colours`` half-transparent over the frame where ``coverage`` (size, size) is 1, with its outline."""
    image = resize(frame, size)
    covered = (coverage > 0.5)[..., None]
    image = np.where(covered, (0.45 * image + 0.55 * colours).astype(np.uint8), image)
    outlines, _ = cv2.findContours(covered[..., 0].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(image), outlines, -1, (255, 255, 255), 1, cv2.LINE_AA)


@torch.no_grad()
def fitted(head: FittedHead, frame: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Normals (size, size, 3) and coverage (size, size) of one frame of a fit, seen by the clip's camera."""
    maps = render(head.vertices(slice(frame, frame + 1)), head.head.dense_faces, head.camera.resized(size, size))
    return maps.normals[0].numpy(), maps.coverage[0].numpy()


@torch.no_grad()
def two_sides(head: FittedHead, size: int) -> list[np.ndarray]:
    """The personalised neutral head in grey clay, from its right and from its left."""
    turns = torch.deg2rad(torch.tensor([TURN, -TURN]))
    cos, sin, zero, one = turns.cos(), turns.sin(), torch.zeros(2), torch.ones(2)
    rotation = torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1).view(2, 3, 3)
    posed = head.neutral() @ rotation.transpose(1, 2)
    low, high = posed.amin((0, 1)), posed.amax((0, 1))
    extent = float((high - low)[:2].max())
    distance = 4 * extent
    posed = posed - (low + high) / 2 - torch.tensor([0.0, 0.0, distance])
    camera = Camera(size / extent * distance * 0.86, size / 2, size / 2, size, size)
    maps = render(posed, head.head.dense_faces, camera)
    return [clay(normals, coverage) for normals, coverage in zip(maps.normals.numpy(), maps.coverage.numpy(), strict=True)]


def clay(normals: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Matte grey under a key light from the upper left and a weak fill from the right; black outside."""
    key, fill = np.array([-0.45, 0.55, 0.7]), np.array([0.8, 0.1, 0.35])
    light = 0.12 + 0.75 * (normals @ (key / np.linalg.norm(key))).clip(0) + 0.25 * (normals @ fill).clip(0)
    grey = (light.clip(0, 1) ** (1 / 1.6))[..., None] * np.array([225.0, 220.0, 212.0])
    return np.where(coverage[..., None] > 0.5, grey, 0).astype(np.uint8)


def save(image: np.ndarray, file: Path) -> None:
    """JPEG."""
    if not cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise OSError(f"{file} could not be written")


def save_video(file: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    """H.264 that browsers play and can start before all of it is there; frames of even height and width."""
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(file, "w", options={"movflags": "+faststart"}) as container:
        stream = None
        for image in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate, options={"crf": "22", "preset": "veryfast", "threads": "1"})
                stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
