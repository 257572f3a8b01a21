"""The side of hair or hat that a portrait does not show, in the texture of the side that it does.

No colour of a vertex is fine enough for hair. So each vertex of the scalp that was not seen gets a place in the picture
where its hair is taken from: as far inside the seen part, square to the head's outline, as it lies beyond it on the
surface. What is there goes on beyond the seam as its mirror image, and meets it without an edge.
"""

import cv2
import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from expportrait.appearance.outline import Outline
from expportrait.head import Head, topology
from expportrait.points478 import EARS

EAR = (0.005, -0.033), (0.030, 0.025)  # m, up and forward: an ear's middle from its landmark on, and half its size
LOBE = 0.0, 0.045  # m below an ear's landmark and behind it, from where down and forward a head's side is skin
STRIP = 10, 4.0  # steps of that many px of 512: how wide a strip of the picture is taken at most, there and back again
SLOW = 20.0  # px of 512 beyond the seam, up to where it goes on more slowly: what was seen edge on is not far from it
LEAST = 3  # of these steps have to show hair for a strip to be one
ALIKE = 24.0, 0.6  # CIELAB: colours that near to skin are skin; or that much of what lies between skin and hair
NEIGHBOURS = 8  # seen vertices that say together where the seen part ends
ENOUGH = 20  # seen vertices without which nothing is said of the scalp's texture
SMOOTH = 12  # times a place is taken for the mean of its neighbours', so that hair is not torn from vertex to vertex


def hairy(head: Head) -> np.ndarray:
    """(n_d,) bool: what of the region scalp is hair or hat, without the ears, and the jaws' corners below them."""
    points = head.dense.template.cpu().numpy()
    skin = np.zeros(len(points), bool)
    for ear in head.landmarks.template[list(EARS)].cpu().numpy():
        side = np.sign(ear[0]) * points[:, 0] > 0
        off = (points - ear)[:, 1:]
        skin |= side & ((((off - EAR[0]) / EAR[1]) ** 2).sum(1) < 1)
        skin |= side & (off[:, 0] < -LOBE[0]) & (off[:, 1] > -LOBE[1])
    return (head.regions.cpu().numpy() == head.REGIONS.index("scalp")) & ~skin


def skinlike(colours: np.ndarray, hair: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """(...,) bool: which colours (..., 3) 0..255 are of ``skin`` (n, 3) rather than of ``hair`` (m, 3), as those of a
    high forehead that the head has under its hair. Where hair and skin are alike, none is."""
    if not len(hair) or not len(skin):
        return np.zeros(colours.shape[:-1], bool)
    values, hair, skin = (_lab(one) for one in (colours, np.median(hair, 0), np.median(skin, 0)))
    return np.linalg.norm(values - skin, axis=-1) < min(ALIKE[0], ALIKE[1] * np.linalg.norm(hair - skin))


def _lab(colours: np.ndarray) -> np.ndarray:
    """CIELAB of colours (..., 3) 0..255 RGB."""
    flat = np.float32(colours).reshape(1, -1, 3) / 255
    return cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).reshape(np.shape(colours))


def lookups(
    head: Head,
    points: np.ndarray,
    pixels: np.ndarray,
    trusted: np.ndarray,
    outline: Outline,
    hair: np.ndarray,
    scale: float,
) -> np.ndarray:
    """(n_d, 3): px, x and y, of where each vertex has its hair from, and 1 where it has it from somewhere, else 0.

    ``points`` (n_d, 3) m, ``pixels`` (n_d, 2) px: the head in the portrait; ``trusted`` (n_d,) 0..1: how surely a
    vertex was seen; ``hair`` (H, W) 0..1: where the picture shows hair; ``scale``: px that a metre is long there.
    """  # fmt: skip
    scalp, (height, width) = hairy(head), hair.shape
    step, most = STRIP[1] * width / 512, np.array([width - 1, height - 1])

    def sampled(values: np.ndarray, at: np.ndarray) -> np.ndarray:
        columns, rows = at.astype(int).clip(0, most).T
        return values[rows, columns]

    inward = -sampled(outline.outward, pixels)
    sure = scalp & (trusted > 0.5)
    shows = [sampled(hair, pixels + number * step * inward) > 0.5 for number in range(1, STRIP[0] + 1)]
    wide = np.cumprod(shows, 0).sum(0)
    ends = sure & (wide >= LEAST)
    found = np.concatenate([pixels, np.zeros((len(pixels), 1))], 1).astype(np.float32)
    if ends.sum() < ENOUGH:
        return found
    far, near = cKDTree(points[ends]).query(points[scalp], k=NEIGHBOURS)
    weight = 1 / np.maximum(far, 1e-4) ** 2
    weight /= weight.sum(1, keepdims=True)
    seam = np.c_[pixels, inward, wide * step, np.zeros(len(pixels))]
    seam[scalp] = (weight[..., None] * seam[ends][near]).sum(1)
    seam[scalp, 5] = far[:, 0] * scale
    seam[sure] = np.c_[pixels, inward, np.full(len(pixels), STRIP[0] * step), np.zeros(len(pixels))][sure]
    edges = topology.edges_of(head.dense_faces.cpu().numpy())[0]
    edges = edges[scalp[edges].all(1)]
    beside = sparse.csr_matrix((np.ones(len(edges)), edges.T), 2 * [len(found)])
    beside = beside + beside.T
    count, free = np.asarray(beside.sum(1)).reshape(-1, 1), scalp & ~sure
    for _ in range(SMOOTH):
        seam[free] = (seam + beside @ seam)[free] / (1 + count[free])
    start, inward, wide, way = np.split(seam, [2, 4, 5], 1)
    way = way**2 / (way + SLOW * width / 512)
    way = np.abs((way + wide) % np.maximum(2 * wide, 1) - wide)  # there, and back again
    found[scalp] = np.c_[start + inward * way, np.ones(len(way))][scalp]
    return found
