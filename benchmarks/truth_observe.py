"""What estimators would say of a rendered clip: exactly (clean), or with errors of their kinds (noisy)."""

import cv2
import numpy as np
import torch
from benchmarks.truth_clips import SIZE, Clip
from benchmarks.truth_person import waves
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr

from expportrait.fit.evidence.targets import Targets
from expportrait.points478 import OUTER_EYES
from expportrait.store import decode_normals, encode_normals

LANDMARK, DROPPED = 0.01, 0.05  # of the inter-ocular distance, rms; of the frames
BLUR, BIAS = 2.0, np.radians(3)  # px, rad rms
DEPTH = 0.02  # of the clip's range of depth, rms
EDGE = 3.0  # px, farthest that the mask's edge lies off


def observe(
    clip: Clip, seed: tuple[int, int], noisy: bool, rough: float = 1.0
) -> tuple[Targets, torch.Tensor, torch.Tensor]:
    """What the fit is given: geometry at 512 px, points (T,478,3) px, confidence (T,478). ``rough``: how many times as
    wrong noisy normals are."""
    random = np.random.default_rng([4, *seed])
    frames = len(clip.mask)
    points, confidence = clip.landmarks.copy(), np.ones(clip.landmarks.shape[:2], np.float32)
    normals, depth, mask = clip.normals, clip.depth, clip.mask.astype(np.uint8) * 255
    if noisy:
        points, confidence = noisy_landmarks(points, random)
        mask = np.stack([wandering_edge(one, random) for one in clip.mask])
        normals = noisy_normals(clip, random, rough)
        depth = noisy_depth(clip, random)
    # Estimators give depth up to a scale and a shift; outside the mask they give something too.
    scale, shift = random.uniform(0.2, 3), random.uniform(-1, 1)
    each = 1 + 0.05 * random.normal(size=(frames, 2)) if noisy else np.ones((frames, 2))
    depth = (scale * each[:, 0, None, None] * depth + shift * each[:, 1, None, None]).astype(np.float16)
    targets = Targets(
        torch.from_numpy(decode_normals(normals)),
        torch.from_numpy(depth.astype(np.float32)),
        torch.from_numpy(mask.astype(np.float32) / 255),
        torch.ones(mask.shape),
    )
    return targets, torch.from_numpy(points.astype(np.float32)), torch.from_numpy(confidence)


def interocular(points: np.ndarray) -> np.ndarray:
    """(T,) px: the outer eye corners' distance in space, so that a turn does not shorten it."""
    right, left = OUTER_EYES
    return np.linalg.norm(points[:, right] - points[:, left], axis=-1)


def noisy_landmarks(points: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """1 % of the inter-ocular distance in the picture's plane, half of its variance slow as a detector's bias is, and
    frames that the detector lost: points from frame to frame in a straight line, less sure."""
    t, unit = len(points), interocular(points)[:, None, None]
    fast = random.normal(size=points.shape)
    slow = gaussian_filter1d(random.normal(size=(t + 40, *points.shape[1:])), 6, axis=0)[20:-20]
    noise = (fast + slow / slow.std()) / 2  # two coordinates: rms length 1
    out = points + LANDMARK * unit * noise * [1, 1, 3]
    lost = np.zeros(t, bool)
    lost[random.choice(np.arange(1, t - 1), max(1, round(DROPPED * t)), replace=False)] = True
    known, confidence = np.flatnonzero(~lost), np.ones(points.shape[:2], np.float32)
    flat = out[known].reshape(len(known), -1)
    out = np.stack([np.interp(np.arange(t), known, column) for column in flat.T], -1).reshape(points.shape)
    confidence[lost] = 0.5
    return out, confidence


def smooth_image(length: float, random: np.random.Generator, shape: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    """Random image of unit variance, bumps about 2 ``length`` px wide."""
    step = 8
    y, x = np.mgrid[: shape[0] // step, : shape[1] // step] * step
    coarse = waves(np.stack([x.ravel(), y.ravel()], -1), length, random).reshape(x.shape)
    return cv2.resize(coarse.astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)


def blurred(image: np.ndarray, times: float = 1.0) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), times * BLUR)


def wandering_edge(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(H,W) bool -> u8: the edge moved by up to 3 px, evenly likely, and soft over one pixel."""
    inside, outside = (cv2.distanceTransform(x.astype(np.uint8), cv2.DIST_L2, 5) for x in (mask, ~mask))
    signed = np.where(mask, inside - 0.5, 0.5 - outside)
    moved = signed + EDGE * (2 * ndtr(smooth_image(14, random)) - 1)
    return np.rint(255 * np.clip(moved + 0.5, 0, 1)).astype(np.uint8)


def noisy_normals(clip: Clip, random: np.random.Generator, rough: float) -> np.ndarray:
    """Blurred by 2 px and tilted by a smooth field, both ``rough`` times; most of it fixed to the head: a bias,
    which no average removes."""
    fixed = [smooth_image(50, random, (2 * SIZE, 2 * SIZE)) for _ in range(2)]
    centre = clip.landmarks[..., :2].mean(1).round().astype(int)
    out = []
    for normals, mask, (x, y) in zip(clip.normals, clip.mask, centre, strict=True):
        weight, value = blurred(mask.astype(np.float32), rough), blurred(decode_normals(normals), rough)
        at = slice(SIZE - y, 2 * SIZE - y), slice(SIZE - x, 2 * SIZE - x)
        tilt = [np.sqrt(0.75) * image[at] + 0.5 * smooth_image(50, random) for image in fixed]
        axis = np.stack([*tilt, np.zeros_like(tilt[0])], -1) * rough * BIAS / np.sqrt(2)
        value = value + np.cross(axis, value)
        value /= np.maximum(np.linalg.norm(value, axis=-1, keepdims=True), 1e-6)
        out.append(encode_normals(value * (weight > 0.01)[..., None]))
    return np.stack(out)


def noisy_depth(clip: Clip, random: np.random.Generator) -> np.ndarray:
    inside = clip.depth[clip.mask]
    low, high = np.quantile(inside[:: max(1, len(inside) // 10**5)], [0.02, 0.98])
    out = []
    for depth, mask in zip(clip.depth, clip.mask, strict=True):
        beside = blurred(depth * mask) / np.maximum(blurred(mask.astype(np.float32)), 1e-3)
        out.append(np.where(mask, depth, beside) + DEPTH * (high - low) * smooth_image(40, random))
    return np.stack(out)
