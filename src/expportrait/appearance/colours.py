"""Colours of vertices that a portrait does not show: from the other side of the head, and from their neighbours."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg
from scipy.spatial import cKDTree

from expportrait.appearance.scalp import hairy
from expportrait.head import Head

UNKNOWN = {  # colours over the skin's brightness in white light, of surfaces that the portrait shows nothing of
    "teeth": (1.05, 0.97, 0.87),
    "tongue": (0.74, 0.33, 0.32),
    "mouth": (0.52, 0.22, 0.20),
    "eye": (0.86, 0.83, 0.80),
}
HELD = {"tongue": 0.5, "mouth": 0.5}  # how much they keep to these; teeth and eyes follow what was seen nearby
SKIN = (1.0, 0.75, 0.62)  # skin in white light; what the portrait's has else is the light's
APART = 0.1  # how much unseen neighbours of two regions have to be alike, beside those of one
ENDS = 0.01  # the same of hair or hat and the skin where it ends: next to nothing
MIRROR = 0.004  # m: how near the other side of the template has to have a vertex


def completed(colours: np.ndarray, seen: np.ndarray, head: Head) -> np.ndarray:
    """(n_d, 3) float32: ``colours`` (n_d, 3) 0..255 as far as they were ``seen`` (n_d,) 0..1, and a guess elsewhere.

    A head is nearly the same on both sides: what was seen on one side alone goes on as the other side has it, by its
    differences from vertex to vertex, so that no edge stands where the guess begins (Poisson cloning, Pérez et al.
    2003, over the mesh). What was seen on neither side passes smoothly between what was. Surfaces of the mouth and the
    eyes of which the portrait shows nothing get the usual colours in the portrait's light, darker towards the throat.
    """
    n, seen = len(colours), seen.astype(np.float64)
    faces, region = head.dense_faces.cpu().numpy(), head.regions.cpu().numpy()
    template = head.dense.template.cpu().numpy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    first, second = edges.T
    other, own = _mirrored(template, region)
    there = np.where(own, seen[other], 0)
    weight = np.maximum(seen, there)
    here, mirrored = (np.minimum(one[first], one[second])[:, None] for one in (seen, there))
    mirrored = np.minimum(mirrored, 1 - here)
    given = colours[other].astype(np.float64)
    step = here * (colours[first] - colours[second]) + mirrored * (given[first] - given[second])
    hair = hairy(head)
    ends = (hair[first] != hair[second]) & (np.minimum(weight[first], weight[second]) < 0.5)
    apart = (region[first] != region[second]) & (np.maximum(weight[first], weight[second]) < 0.5)
    strength, number = np.where(ends, ENDS, np.where(apart, APART, 1.0)), np.arange(len(edges))
    step *= strength[:, None]
    difference = sparse.csr_matrix(
        (np.r_[strength, -strength], (np.r_[number, number], edges.T.ravel())), (len(edges), n)
    )
    hold, goal = 10 * seen, colours.astype(np.float64)
    skin = colours[(seen > 0.5) & (region == head.REGIONS.index("face"))]
    bright = np.percentile(skin.max(1), 75) if len(skin) else 200.0
    tint = _light(skin) if len(skin) else np.ones(3)
    for name, shade in UNKNOWN.items():
        chosen = (region == head.REGIONS.index(name)) & (weight < 0.05)
        hold[chosen], goal[chosen] = HELD.get(name, 0.02), np.asarray(shade) * tint * bright
    hold = hold + 1e-7
    system, right = difference.T @ difference + sparse.diags(hold), difference.T @ step + hold[:, None] * goal
    start = np.where((seen < there)[:, None], given, goal)
    scale = sparse.diags(1 / system.diagonal())
    out = [cg(system, right[:, c], x0=start[:, c], rtol=1e-6, maxiter=2000, M=scale)[0] for c in range(3)]
    return np.clip(np.stack(out, 1), 0, 255).astype(np.float32)


def _mirrored(template: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each vertex (n, 3) the number of the one on the other side, and whether there is one of its region."""
    distance, other = cKDTree(template).query(template * np.float32([-1, 1, 1]))
    return other, (distance < MIRROR) & (region[other] == region)


def _light(skin: np.ndarray) -> np.ndarray:
    """(3,) colour of the light, its largest 1, by colours of skin (n, 3); half of their redness is the skin's own."""
    light = np.median(skin, 0) / SKIN
    return np.sqrt(np.clip(light / light.max(), 0.6, 1))
