"""Regions of the bust and the masks m_d and m_s (paper, section 3.1.2), from skinning weights and landmarks alone, so
that they can be had for any file in SMPL-X's layout."""

from typing import TypeVar

import numpy as np
from scipy.spatial import cKDTree
from torch import Tensor

from expportrait.head import topology
from expportrait.points478 import (
    EARS,
    EYELIDS,
    FACE_OVAL,
    INNER_LIPS,
    LEFT_EYELIDS,
    NOSE_TIP,
    OUTER_LIPS,
    RIGHT_EYELIDS,
)

Values = TypeVar("Values", np.ndarray, Tensor)
REGIONS = ("face", "lips", "scalp", "neck", "body", "eye", "teeth", "tongue", "mouth")
"""``mouth``: skin that never shows, the mouth's inside and the eye sockets."""

OVAL_FADE = (-0.015, 0.005)  # m: m_d rises from 0 to 1 from 15 mm outside the face oval to 5 mm inside it
LID_FADE = (0.002, 0.007)  # m: no offset within 2 mm of the eye opening, so that lids are not pushed through eyeballs


def smoothstep(low: float, high: float, x: Values) -> Values:
    """Returns ``x``, an array or a tensor, as 0 below ``low``, 1 above ``high``, and a smooth passage between them."""
    t = ((x - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def find(
    template: np.ndarray,
    faces: np.ndarray,
    weights: np.ndarray,
    landmarks: np.ndarray,
    visible: np.ndarray,
    part: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Regions and masks of the coarse bust.

    template (n,3) m, faces (F,3), weights (n,10) in the order of model.JOINTS, landmarks (478,3) on the template,
    visible (n,) bool, part (n,) index into layout.PARTS or None. Returns region (n,) index into REGIONS, the facial
    mask (n,) 0..1, and free (n,) 0..1: where offsets of either kind may act.
    """
    label = topology.components(faces, len(template))
    skin = label == np.bincount(label).argmax()
    eye = ~skin & (weights[:, 4:6].sum(1) > 0.5)
    tongue = ~skin & (part == 3) if part is not None else np.zeros_like(skin)
    teeth = ~(skin | eye | tongue)

    flat, flat_landmarks = unroll(template, landmarks)
    from_oval = signed_distance(flat, flat_landmarks[list(FACE_OVAL)])
    facial = smoothstep(*OVAL_FADE, from_oval) * skin
    lids = np.maximum(*(signed_distance(flat, flat_landmarks[list(loop)]) for loop in (RIGHT_EYELIDS, LEFT_EYELIDS)))
    openings = landmarks[list(INNER_LIPS + EYELIDS)]
    hidden = pockets(template, faces, skin & ~visible, openings)
    free = skin * smoothstep(*LID_FADE, -lids) * (1 - soften(hidden, faces))

    of_head, of_neck = weights[:, 2:6].sum(1), weights[:, 1]
    of_body = 1 - of_head - of_neck
    jaw_height = landmarks[[172, 397], 1].mean()
    head = (of_head >= np.maximum(of_neck, of_body)) & ((template[:, 1] > jaw_height) | (facial > 0.5))
    region = np.full(len(template), REGIONS.index("body"))
    region[skin & (of_head + of_neck > of_body)] = REGIONS.index("neck")
    region[skin & head] = REGIONS.index("scalp")
    region[skin & (facial > 0.5)] = REGIONS.index("face")
    region[skin & (signed_distance(flat, flat_landmarks[list(OUTER_LIPS)]) > 0)] = REGIONS.index("lips")
    for name, where in (("mouth", hidden), ("eye", eye), ("teeth", teeth), ("tongue", tongue)):
        region[where] = REGIONS.index(name)
    return region, facial, free


def unroll(points: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and landmarks on a plane (n,2), (478,2), in metres: the azimuthal equidistant map about the +z axis
    through a centre between the ears, scaled by the face's mean radius."""
    ears = landmarks[list(EARS)]
    centre = np.array([ears[:, 0].mean(), landmarks[NOSE_TIP, 1], ears[:, 2].mean() - 0.02])
    radius = np.linalg.norm(landmarks[list(FACE_OVAL)] - centre, axis=1).mean()

    def flatten(x: np.ndarray) -> np.ndarray:
        x = x - centre
        across = np.linalg.norm(x[:, :2], axis=1, keepdims=True)
        return radius * np.arctan2(across, x[:, 2:]) * x[:, :2] / np.maximum(across, 1e-9)

    return flatten(points), flatten(landmarks)


def signed_distance(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Distance (n,) of points (n,2) to a closed polygon (k,2), positive inside."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    along, to = end - start, points[:, None] - start
    t = np.clip((to * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-20), 0, 1)
    distance = np.linalg.norm(to - t[..., None] * along, axis=-1).min(1)
    y = points[:, None, 1]
    crosses = (start[:, 1] > y) != (end[:, 1] > y)
    x = start[:, 0] + (y - start[:, 1]) / np.where(along[:, 1] == 0, 1, along[:, 1]) * along[:, 0]
    inside = (crosses & (points[:, None, 0] < x)).sum(1) % 2 == 1
    return np.where(inside, distance, -distance)


def pockets(template: np.ndarray, faces: np.ndarray, hidden: np.ndarray, openings: np.ndarray) -> np.ndarray:
    """(n,) bool: the connected parts of ``hidden`` (n,) bool that come within 1 cm of points of the ``openings`` (k,3):
    the mouth's inside and the eye sockets, but not the nostrils or what is behind the ears."""
    label = topology.components(faces[hidden[faces].all(1)], len(template))
    near = cKDTree(openings).query(template)[0] < 0.01
    return hidden & np.isin(label, label[hidden & near])


def soften(where: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """1 on ``where`` (n,) bool, one half on its neighbours, 0 elsewhere."""
    edges, _ = topology.edges_of(faces)
    out = where.astype(float)
    for a, b in ((0, 1), (1, 0)):
        near = edges[where[edges[:, a]], b]
        out[near] = np.maximum(out[near], 0.5)
    return out
