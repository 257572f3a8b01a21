"""The face mesh of the landmarks: its faces, what surrounds its eyes and lips."""

from collections import Counter
from functools import cache
from itertools import combinations

import cv2
import numpy as np

from expportrait.points478 import LEFT_LOWER_LID, LEFT_UPPER_LID, RIGHT_LOWER_LID, RIGHT_UPPER_LID

LIDS = (  # right eye, left eye: upper and lower lid from corner to corner, and the crease above the upper one
    (RIGHT_UPPER_LID, RIGHT_LOWER_LID, (247, 30, 29, 27, 28, 56, 190)),
    (LEFT_UPPER_LID, LEFT_LOWER_LID, (467, 260, 259, 257, 258, 286, 414)),
)
UPPER_RED = (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292)  # the ring outside that edge, on the red of the lips
LOWER_RED = (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292)


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
