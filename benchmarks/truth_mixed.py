"""The truth's second kind of D_t, ``mixed``: a third of its energy is no function of the frame's expression.

People of ``pattern`` have equal offsets for equal faces, in ten patterns. A fit that assumed as much would only invert
the benchmark. Here one sixth of the energy lags behind the expression, on skin of its own, as creases do that fill and
empty slowly; and one sixth goes its own way: wrinkles and bulges at places where no pattern has to be.
"""

import numpy as np
from benchmarks.truth_motion import Motion, drift
from benchmarks.truth_person import activations, around, ground_of, make_person, pattern_fields
from scipy.ndimage import gaussian_filter1d

from expportrait.head import Head

KINDS = {
    "pattern": "D_t of ten patterns, functions of the frame's expression",
    "mixed": "a third of D_t's energy lags behind the expression, or is no function of it",
}
LAG, EASE = 8, 2.0  # frames behind, and of a Gaussian
OWN = 6  # patterns that go their own way
PERIODS = (0.4, 1.2)  # seconds, of these


def dynamic_of(head: Head, seed: tuple[int, int], motion: Motion, kind: str) -> np.ndarray:
    """(T,n_d,3) m: m_d D_t of a person and clip ``seed``, its mean over the clip left in."""
    main = make_person(head, seed[0]).dynamic(activations(motion.units, motion.jaw))
    if kind == "pattern":
        return main
    parts = lagging(head, seed[0], motion), own(head, seed, len(main))
    size = lambda x: np.linalg.norm(x - x.mean(0))  # noqa: E731
    return main + sum(0.5 * size(main) / max(size(part), 1e-9) * part for part in parts)


def lagging(head: Head, person: int, motion: Motion) -> np.ndarray:
    """(T,n_d,3): other patterns of the same kinds, out as the face was ``LAG`` frames before, smoothly."""
    patterns = pattern_fields(ground_of(head), np.random.default_rng([7, person]))
    late = np.maximum(np.arange(len(motion.pose)) - LAG, 0)
    out = gaussian_filter1d(activations(motion.units, motion.jaw)[late], EASE, axis=0, mode="nearest")
    return np.einsum("tp,pnd->tnd", out, patterns).astype(np.float32)


def own(head: Head, seed: tuple[int, int], frames: int) -> np.ndarray:
    """(T,n_d,3): bars and bulges at random places of the face, each out by a curve of its own."""
    g, random = ground_of(head), np.random.default_rng([8, *seed])
    total = np.zeros((frames, *g.points.shape), np.float32)
    for k in range(OWN):
        centre = g.points[random.choice(len(g.points), p=g.dynamic / g.dynamic.sum())]
        way = random.normal(size=3)
        height = around(g.points, centre, random.uniform(0.008, 0.014)) * g.dynamic
        if k % 2:
            height = height * np.cos(2 * np.pi * (g.points - centre) @ way / np.linalg.norm(way) / 0.013)
        field = height[:, None] * g.normals + np.abs(height)[:, None] * 0.25 * random.normal(size=3)
        curve = drift(frames, random.uniform(*PERIODS), random)
        total += (curve[:, None, None] * field / np.linalg.norm(field)).astype(np.float32)
    return total
