"""The portrait's pictures: what stands behind the person, the person's own colour, and lids without lashes."""

import cv2
import numpy as np

from expportrait.demo.portrait import REFERENCE_SIZE, Portrait
from expportrait.demo.topology import LIDS, polygon_mask

BAND = 30  # px of a portrait of REFERENCE_SIZE, from the outline inwards, that get a careful background


def fill(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(H,W,C) f32 with the pixels of small weight (H,W) f32 filled in smoothly from the others, coarse to fine."""
    if min(weight.shape) > 2:
        total = cv2.pyrDown(weight)
        mean = cv2.pyrDown(image * weight[..., None]) / np.maximum(total, 1e-6)[..., None]
        coarse = cv2.pyrUp(fill(mean, np.clip(total * 4, 0, 1)), dstsize=weight.shape[::-1])
    else:
        coarse = np.broadcast_to((image * weight[..., None]).sum((0, 1)) / max(weight.sum(), 1e-6), image.shape)
    return image * weight[..., None] + coarse * (1 - weight[..., None])


def behind(portrait: Portrait) -> np.ndarray:
    """(S,S,3) u8: the picture without the person. A band along the outline, the only part that is ever uncovered,
    mirrors what stands beyond it, clutter left out; the rest is filled in smoothly.
    """
    image, size = portrait.image, len(portrait.image)
    hole = cv2.dilate((portrait.alpha > 0.02).astype(np.uint8), np.ones((7, 7)))
    unknown = np.maximum(hole, cv2.dilate(portrait.clutter.astype(np.uint8), np.ones((3, 3))))
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    half_unknown = cv2.dilate(cv2.resize(unknown, half.shape[1::-1], interpolation=cv2.INTER_AREA), np.ones((3, 3)))
    smooth = cv2.GaussianBlur(cv2.inpaint(half, half_unknown, 5, cv2.INPAINT_TELEA), (0, 0), 1.5)
    smooth = cv2.resize(smooth, (size, size), interpolation=cv2.INTER_LINEAR)
    plain = np.where(unknown[..., None] > 0, smooth, image)

    depth, label = cv2.distanceTransformWithLabels(hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    y, x = np.nonzero(hole == 0)
    nearest = np.zeros((label.max() + 1, 2), np.float32)
    nearest[label[y, x]] = np.column_stack([x, y])
    here = np.mgrid[:size, :size][::-1].transpose(1, 2, 0).astype(np.float32)
    there = np.where(hole[..., None] > 0, 2 * nearest[label] - here, -10)
    mirrored = cv2.remap(np.dstack([plain, 255 * (1 - hole)]), *there.transpose(2, 0, 1), cv2.INTER_LINEAR)
    valid = mirrored[..., 3] > 254  # another part of the person is not
    mirrored = np.where(valid[..., None], mirrored[..., :3], smooth)
    trust = np.clip((BAND * size / REFERENCE_SIZE - depth) / 10, 0, 1)
    trust = cv2.GaussianBlur(trust * cv2.erode(valid.astype(np.float32), np.ones((3, 3))), (0, 0), 1.0)[..., None]
    filled = smooth * (1 - trust) + mirrored * trust
    soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 1.0)[..., None]
    return np.round(image + (filled - image) * soft).astype(np.uint8)


def own_colour(portrait: Portrait) -> np.ndarray:
    """(S,S,4) u8: the person's colour times alpha, and alpha. Pixels of the soft outline hold some background, so they
    take their colour from inside.
    """
    inside = cv2.erode(np.clip((portrait.alpha - 0.9) / 0.1, 0, 1), np.ones((3, 3))).astype(np.float32)
    colour = fill(portrait.image.astype(np.float32), inside)
    texture = np.dstack([colour, np.full(portrait.alpha.shape, 255.0)]) * portrait.alpha[..., None]
    return np.round(np.clip(texture, 0, 255)).astype(np.uint8)


def bare_lids(texture: np.ndarray, pixels: np.ndarray, face_height: float) -> np.ndarray:
    """A copy of ``texture`` (S,S,4) with the lashes above the upper lids painted over by the skin above them."""
    bare = texture.copy()
    for upper, lower, crease in LIDS:
        top, rim = pixels[list(crease)], pixels[list(upper)]
        between = np.concatenate([rim[:1], 0.75 * top + 0.25 * rim[1:-1], rim[-1:]])
        eye = np.concatenate([between, pixels[list(lower[-2:0:-1])] + (0, 0.02 * face_height)])
        low, high = (f.astype(int) for f in (eye.min(0) - 0.06 * face_height, eye.max(0) + 0.06 * face_height))
        box = slice(low[1], high[1]), slice(low[0], high[0])
        part = texture[box].astype(np.float32)
        lashes = polygon_mask(eye - low, part.shape[:2]).astype(np.float32)
        skin = fill(part, 1 - cv2.dilate(lashes, np.ones((3, 3))))
        soft = cv2.GaussianBlur(lashes, (0, 0), 1.0)[..., None]
        bare[box] = np.round(part + (skin - part) * soft).clip(0, 255)
    return bare
