"""The side of hair or hat that a portrait does not show, in the texture of the side that it does.

No colour of a vertex is fine enough for hair. So each vertex of the scalp that was not seen gets a place in the picture
where its hair is taken from: as far inside the seen part, square to the head's outline, as it lies beyond it on the
surface. What is there goes on beyond the seam as its mirror image, and meets it without an edge.
"""

import numpy as np
from scipy.spatial import cKDTree

from expportrait.appearance.outline import Outline
from expportrait.head import Head
from expportrait.points478 import EARS

EAR = 0.038, 0.025, 0.003  # m: an ear's reach around its middle, that far behind its landmark; how far it sticks out
WIDE = 40.0  # px of 512: how wide a strip of the picture is taken, there and back again
NEIGHBOURS = 8  # seen vertices that say together where the seen part ends
ENOUGH = 20  # seen vertices without which nothing is said of the scalp's texture


def ears(head: Head) -> np.ndarray:
    """(n_d,) bool: vertices of the region scalp that are an ear's, skin where the rest is hair or hat."""
    points, reach = head.dense.template.cpu().numpy(), np.zeros(len(head.regions), bool)
    for ear in head.landmarks.template[list(EARS)].cpu().numpy():
        outward = (points[:, 0] - ear[0]) * np.sign(ear[0])
        reach |= (np.linalg.norm(points - ear + [0, 0, EAR[1]], axis=1) < EAR[0]) & (outward > EAR[2])
    return reach & (head.regions.cpu().numpy() == head.REGIONS.index("scalp"))


def lookups(
    head: Head, points: np.ndarray, pixels: np.ndarray, trusted: np.ndarray, outline: Outline, scale: float
) -> np.ndarray:
    """(n_d, 3): px, x and y, of where each vertex has its hair from, and 1 where it is of the scalp, else 0.

    ``points`` (n_d, 3) m, ``pixels`` (n_d, 2) px: the head in the portrait; ``trusted`` (n_d,) 0..1: how surely a
    vertex was seen; ``scale``: px that a metre is long there.
    """
    scalp = (head.regions.cpu().numpy() == head.REGIONS.index("scalp")) & ~ears(head)
    sure = scalp & (trusted > 0.5)
    found = np.concatenate([pixels, np.zeros((len(pixels), 1))], 1).astype(np.float32)
    if sure.sum() < ENOUGH:
        return found
    found[scalp, 2] = 1
    far, near = cKDTree(points[sure]).query(points[scalp], k=NEIGHBOURS)
    weight = 1 / np.maximum(far, 1e-4) ** 2
    weight /= weight.sum(1, keepdims=True)
    seam = (weight[..., None] * pixels[sure][near]).sum(1)
    (height, width), wide = outline.distance.shape, WIDE * outline.distance.shape[1] / 512
    columns, rows = (seam.astype(int).clip(0, [width - 1, height - 1])).T
    way = far[:, 0] * scale
    way = np.abs((way + wide) % (2 * wide) - wide)  # there, and back again
    found[scalp, :2] = np.where(sure[scalp, None], pixels[scalp], seam - outline.outward[rows, columns] * way[:, None])
    return found
