"""Figures of a clip's fit that need no truth (dynamic_real.py)."""

from dataclasses import replace

import numpy as np
import torch
from benchmarks.real_films import network
from benchmarks.truth_scores import facial, projected_landmarks

from expportrait import points478 as at
from expportrait.estimators.blendshapes import NAMES
from expportrait.fit.store import FittedHead, load_proxy
from expportrait.head import Head
from expportrait.store import Store

Stores = dict[str, Store]  # by stage
OPENINGS = {
    "lids": (at.RIGHT_UPPER_LID[1:-1] + at.LEFT_UPPER_LID[1:-1], at.RIGHT_LOWER_LID[1:-1] + at.LEFT_LOWER_LID[1:-1]),
    "inner lips": (at.UPPER_LIP_INNER[1:-1], at.LOWER_LIP_INNER[1:-1]),
}
LIDS = ("eyeBlink", "eyeSquint", "eyeWide")  # units that the fit leaves free
SLACK, MOVES = 0.02, 0.05  # activations: outside 0 to 1 from there on; deviation from which scores are correlated


def acceleration(points: torch.Tensor) -> float:
    return float(points.diff(n=2, dim=0).norm(dim=-1).mean())


def still(fitted: FittedHead) -> FittedHead:
    return replace(fitted, dynamic=torch.zeros_like(fitted.dynamic[:]))


def folded(faces: torch.Tensor, vertices: torch.Tensor, bare: torch.Tensor) -> float:
    """Triangles a frame that are turned over against those of the ``bare`` head."""
    sides = [x[:, faces].diff(dim=2).unbind(2) for x in (vertices, bare)]
    one, other = (torch.linalg.cross(*side) for side in sides)
    return float(((one * other).sum(-1) < 0).sum(1).float().mean())


def figures(head: Head, stores: Stores) -> dict[str, float]:
    """By name and unit; ``stores``: crop, landmarks and proxy."""
    proxy, points = stores["proxy"], stores["landmarks"]["points"][..., :2]
    fitted, face = load_proxy(proxy, head), torch.from_numpy(facial(head))
    vertices, moved = fitted.vertices(), fitted.dynamic[:]
    ours, unit = projected_landmarks(head, vertices, fitted.camera), np.diff(points[:, at.OUTER_EYES], axis=1)
    found = {"landmarks, % of the eye corners' distance": 100 * float(proxy["landmark_error"].mean())}
    for name, (upper, lower) in OPENINGS.items():
        one, other = (np.linalg.norm(x[:, upper] - x[:, lower], axis=-1) for x in (ours, points))
        found[f"opening of {name}, %"] = float((100 * np.abs(one - other) / np.linalg.norm(unit, axis=-1)).mean())
    unposed = head.dense.canonical(fitted.shape, fitted.expression)
    unposed[:, fitted.dynamic_vertices] += moved
    active = (fitted.expression @ torch.linalg.inv(head.unit_matrix)).numpy()  # of older checkouts too
    seen = network().detect(stores["crop"]["frames"])
    both = [name for name in head.unit_names if name in NAMES]
    mine, theirs = active[:, [head.unit_names.index(x) for x in both]], seen.scores[:, [NAMES.index(x) for x in both]]
    mine, theirs = mine[seen.found], theirs[seen.found]
    lively = np.flatnonzero(theirs.std(0) > MOVES)
    alike = [np.corrcoef(mine[:, k], theirs[:, k])[0, 1] for k in lively]
    skin = head.dense_faces[face[head.dense_faces].all(1)]
    calm, outside = still(fitted), (active < -SLACK) | (active > 1 + SLACK)
    bare, calm = replace(calm, static=torch.zeros_like(calm.static)).vertices(), calm.vertices()
    bounded = [not name.startswith(LIDS) for name in head.unit_names]
    return found | {
        "normals to the estimate, degrees": float(proxy["normal_error"].mean()),
        "D_t about its mean, mm": 1e3 * float((moved - moved.mean(0)).square().sum(-1).mean().sqrt()),
        "acceleration of the face, px": acceleration(fitted.camera.project(vertices[:, face])),
        "acceleration of landmarks, px": acceleration(torch.from_numpy(ours)),
        "the same of those detected, px": acceleration(torch.from_numpy(points)),
        "acceleration of the unposed face, mm": 1e3 * acceleration(unposed[:, face]),
        "units outside 0 to 1, %": 100 * float(outside.mean()),
        "the same without the lids', %": 100 * float(outside[:, bounded].mean()),
        f"correlation with scores ({len(lively)} units)": float(np.mean(alike)),
        f"difference to scores ({len(both)} units)": float(np.abs(mine - theirs).mean()),
        "triangles of the face that D_t turns over": folded(skin, vertices, calm),
        "triangles of the face that D_s turns over": folded(skin, calm, bare),
    }
