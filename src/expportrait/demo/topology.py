"""Which of the 478 landmarks form the face mesh, its oval, its lids and its lips."""

from collections import Counter
from functools import cache
from itertools import combinations

import cv2
import numpy as np

MESH_POINTS = 468  # the other ten are the irises
LIDS = (  # right eye, left eye: upper and lower lid from corner to corner, and the crease above the upper one
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133),
     (247, 30, 29, 27, 28, 56, 190)),
    ((263, 466, 388, 387, 386, 385, 384, 398, 362), (263, 249, 390, 373, 374, 380, 381, 382, 362),
     (467, 260, 259, 257, 258, 286, 414)),
)  # fmt: skip
IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))  # centre, then the ring
UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)  # inner edge, from the right corner to the left
LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_RED = (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292)  # the ring outside that edge, on the red of the lips
LOWER_RED = (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292)
FOREHEAD, CHIN = 10, 152  # the face height is measured between them
EARS = (234, 454)  # points of the oval in front of the ears


@cache
def oval() -> np.ndarray:
    """(36,) the face oval in order."""
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_FACE_OVAL

    following = dict(FACEMESH_FACE_OVAL)
    ring = [FOREHEAD]
    while (point := following[ring[-1]]) != FOREHEAD:
        ring.append(point)
    return np.array(ring)


@cache
def triangles() -> np.ndarray:
    """(852,3) faces of the face mesh, holes at eyes and mouth: the 3-cliques of MediaPipe's tessellation."""
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

    near: dict[int, set[int]] = {}
    for a, b in FACEMESH_TESSELATION:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    cliques = sorted({tuple(sorted((a, b, c))) for a in near for b in near[a] for c in near[a] & near[b]})
    shared = Counter(edge for clique in cliques for edge in combinations(clique, 2))
    # Beside each nostril three faces meet inside a fourth clique, which is not a face.
    return np.array([clique for clique in cliques if any(shared[edge] < 3 for edge in combinations(clique, 2))])


def polygon_mask(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H,W) bool: inside a polygon (n,2) px."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round((points - 0.5) * 16).astype(np.int32)], 1, shift=4)
    return mask > 0
