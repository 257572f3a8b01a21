"""Where expressions of the mouth, the eyes, the lids and the brows move a head: smooth masks from its landmarks alone,
so that they can be had for any file in SMPL-X's layout."""

import numpy as np
import torch
from torch import Tensor

from expportrait.head.model import Head
from expportrait.head.regions import signed_distance, smoothstep, unroll
from expportrait.points478 import LEFT_BROW, LEFT_EYELIDS, OUTER_LIPS, RIGHT_BROW, RIGHT_EYELIDS

OUTLINES = {
    "mouth": (OUTER_LIPS,),
    "eyes": (RIGHT_EYELIDS, LEFT_EYELIDS),
    "brows": tuple(upper + lower[::-1] for upper, lower in (RIGHT_BROW, LEFT_BROW)),
}
FADE = {"mouth": (0.020, 0.045), "eyes": (0.010, 0.025), "brows": (0.012, 0.035)}  # m from the outline: from 1 to 0
LIDS = (0.004, 0.009)  # the same from the eye's opening: an open lid's skin up to its crease
BETWEEN = 0.003  # m on both sides of the middle between two outlines, over which one area passes into the other
RIGID = {"eye": "eyes", "teeth": "mouth", "tongue": "mouth", "mouth": "mouth"}  # regions that move as one: their area


def areas(head: Head) -> dict[str, Tensor]:
    """(n_d,) 0..1 of ``mouth``, ``eyes`` and ``brows``, whose sum is nowhere above 1, and of ``lids``.

    Eyeballs, teeth, tongue and the mouth's inside belong to their area as a whole, and the eyeballs to no lid.
    """
    points, marks = head.dense.template.cpu().numpy(), head.landmarks.template.cpu().numpy()
    away = {name: np.min([_beyond(points, marks, list(loop)) for loop in loops], 0) for name, loops in OUTLINES.items()}
    found = {}
    for name, distance in away.items():
        nearest = np.min([other for of, other in away.items() if of != name], 0)
        mine = smoothstep(-BETWEEN, BETWEEN, (nearest - distance) / 2)
        found[name] = mine * (1 - smoothstep(*FADE[name], distance))
    found["lids"] = lids = 1 - smoothstep(*LIDS, away["eyes"])
    found["eyes"], found["brows"] = np.maximum(found["eyes"], lids), found["brows"] * (1 - lids)
    region = np.array(head.REGIONS)[head.regions.cpu().numpy()]
    for name, area in RIGID.items():
        # the sockets are inside too, and go with the eyes
        inside = (region == name) & ((away["mouth"] < away["eyes"]) if name == "mouth" else True)
        for of in found:
            found[of] = np.where(inside, float(of == area), found[of])
    device = head.dense.template.device
    return {name: torch.from_numpy(mask.astype(np.float32)).to(device) for name, mask in found.items()}


def _beyond(points: np.ndarray, marks: np.ndarray, loop: list[int]) -> np.ndarray:
    """(n,) m: how far points (n,3) are from the closed curve through some of the landmarks, 0 for what it surrounds."""
    flat, flat_marks = unroll(points, marks)
    inside = signed_distance(flat, flat_marks[loop]) > 0
    start = marks[loop]
    along, to = np.roll(start, -1, axis=0) - start, points[:, None] - start
    t = np.clip((to * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-20), 0, 1)
    return np.where(inside, 0, np.linalg.norm(to - t[..., None] * along, axis=-1).min(1))


def weight(head: Head, gains: dict[str, float]) -> Tensor | None:
    """(n_d,) by how much each vertex takes part in the expression, of a gain for each of ``areas``: their product where
    areas lie in one another. None where all gains are 1."""
    changed = {name: gain for name, gain in gains.items() if gain != 1}
    if not changed:
        return None
    masks = areas(head)
    return torch.stack([1 + masks[name] * (gain - 1) for name, gain in changed.items()]).prod(0)
