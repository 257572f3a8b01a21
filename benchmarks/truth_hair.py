"""Hair to the shoulders for people of the truth: a thick sheet that lies on the skull, covers ears and cheek rims and
hangs from there past the neck.

It is a mesh of its own and no part of the head: it hides the head in pictures, normals, depth and mask, and the head
below it stays what the fit is measured against.
"""

from dataclasses import dataclass

import numpy as np
import torch
from benchmarks.truth_person import Person, ground_of, step, waves
from scipy.ndimage import gaussian_filter

from expportrait.head import JOINTS, Head

AXIS = 0.035  # m, z of the upright axis about which angles are counted, 0 at the front
TOP, NECK, SHOULDER = (
    0.215,
    0.02,
    -0.09,
)  # m of the template: where the sheet leaves the skull, the neck's, its lower end
ROUND, DOWN = 90, 56  # vertices around and down
NEAR = (np.radians(6), 0.009)  # rad, m: what of the head a point of the sheet lies on
COLOURS = 0.35  # of the brightness, rms of strands


@dataclass
class Sheet:
    """points (k,3) m, canonical; faces (f,3); weights (k,10) of JOINTS."""

    points: np.ndarray
    faces: np.ndarray
    weights: np.ndarray

    def posed(self, transforms: torch.Tensor) -> torch.Tensor:
        """(T,k,3) m under the joints' transforms (T,10,3,4)."""
        blended = torch.einsum("kj,tjab->tkab", torch.from_numpy(self.weights), transforms)
        points = torch.from_numpy(self.points)
        return (blended[..., :3] @ points[..., None])[..., 0] + blended[..., 3]


def radius(head: Head, surface: np.ndarray, angle: np.ndarray, height: np.ndarray) -> np.ndarray:
    """(DOWN,ROUND) m from the axis: how far the head (n_d,3) reaches at angles (DOWN,ROUND) and heights (DOWN,)."""
    skin = np.isin(head.regions.numpy(), [head.REGIONS.index(name) for name in ("face", "scalp", "neck")])
    x, y, z = surface[skin].T
    of, far = np.arctan2(x, z - AXIS), np.hypot(x, z - AXIS)
    out = np.zeros(angle.shape)
    for row, at in enumerate(height):
        level = np.abs(y - at) < NEAR[1]
        apart = np.abs(np.angle(np.exp(1j * (of[level][None] - angle[row][:, None]))))
        out[row] = np.where(apart < NEAR[0], far[level][None], 0).max(1, initial=0)
    return out


def make_sheet(head: Head, person: Person, seed: int) -> Sheet:
    """One person's hair: the same for the same seed."""
    random = np.random.default_rng([7, seed])
    surface = head.dense.canonical(torch.from_numpy(person.shape), torch.zeros(1, head.n_expression))[0].numpy()
    surface = surface + person.static
    tall = surface[ground_of(head).scalp > 0.5, 1].max() / ground_of(head).points[:, 1].max()
    low = SHOULDER + random.uniform(-0.02, 0.03)
    height = np.linspace(TOP * tall, low, DOWN)
    # Its edges run from above the ears to the temples, down before the ears, and a little forward over the shoulders.
    front = np.radians(random.uniform(44, 56, 2))
    start = front + step(0.14, TOP * tall, height)[:, None] * (np.pi / 2 - front)
    share = np.linspace(0, 1, ROUND)
    angle = start[:, :1] + share * (2 * np.pi - start.sum(1, keepdims=True))
    lies = np.maximum.accumulate(radius(head, surface, angle, height), 0)  # it hangs from the widest place above
    lies = gaussian_filter(lies, 1.5, mode="nearest")
    fall = 1 - step(0.1, TOP * tall - 0.01, height)[:, None]  # 0 on the skull, 1 from the ears down
    loose = random.uniform(0.010, 0.018) * fall - 0.006 * (1 - step(0, 0.25, fall))
    wide = random.uniform(0, 0.03) * step(0.12, -0.06, height)[:, None]
    round_ = np.stack([np.sin(angle), np.cos(angle), np.broadcast_to(4 * height[:, None], angle.shape)], -1)
    round_ = 0.1 * round_.reshape(-1, 3)
    locks = waves(round_, 0.02, random) + 0.4 * waves(round_ * [1, 1, 0.3], 0.007, random)
    outer = lies + loose + wide + 0.003 * fall * locks.reshape(angle.shape)
    middle = np.minimum(step(0, 0.12, share), step(0, 0.12, 1 - share))
    thick = random.uniform(0.016, 0.026)
    outer -= 0.4 * thick * (1 - middle)
    inner = outer - thick * (0.2 + 0.8 * middle)
    points = np.concatenate([shell(angle, height, outer), shell(angle, height, inner)]).astype(np.float32)
    return Sheet(points, sheet_faces(), sheet_weights(points[:, 1]))


def shell(angle: np.ndarray, height: np.ndarray, far: np.ndarray) -> np.ndarray:
    """(DOWN * ROUND, 3) m."""
    flat = [far * np.sin(angle), np.broadcast_to(height[:, None], far.shape), AXIS + far * np.cos(angle)]
    return np.stack(flat, -1).reshape(-1, 3)


def sheet_faces() -> np.ndarray:
    """(f,3) of a closed sheet: the outer side's vertices, row by row from the top, then the inner side's."""
    number = np.arange(ROUND * DOWN).reshape(DOWN, ROUND)

    def strip(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # between two polylines of as many vertices
        return np.concatenate([np.stack([a[:-1], b[:-1], a[1:]], 1), np.stack([a[1:], b[:-1], b[1:]], 1)])

    outer = np.concatenate([strip(number[i], number[i + 1]) for i in range(DOWN - 1)])
    inner = outer[:, ::-1] + ROUND * DOWN
    loop = np.concatenate([number[0, ::-1], number[1:, 0], number[-1, 1:], number[-2:0:-1, -1], number[:1, -1]])
    return np.concatenate([outer, inner, strip(loop, loop + ROUND * DOWN)[:, ::-1]])


def sheet_weights(y: np.ndarray) -> np.ndarray:
    """(k,10): the head's above its neck, the torso's on the shoulders."""
    out = np.zeros((len(y), len(JOINTS)), np.float32)
    of_head, above = step(NECK, 0.1, y), step(SHOULDER, NECK, y)
    out[:, JOINTS.index("head")] = of_head
    out[:, JOINTS.index("neck")] = (1 - of_head) * above
    out[:, JOINTS.index("global")] = (1 - of_head) * (1 - above)
    return out


def strands(sheet_points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(k,) brightness about 1 of a sheet's vertices."""
    return 1 + COLOURS * waves(sheet_points * [1, 0.15, 1], 0.004, random)
