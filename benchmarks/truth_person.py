"""Random people with known offset fields on the open head: hair, clothes, features, and wrinkles that go with faces.

Of the project only the head and its mesh are used: nothing here knows how the fit smooths, grows or masks. Lengths of
detail keep to at least three edges of the dense mesh (2 mm on the face, 8 mm in the hair, 10 mm on the clothes):
what is finer no fit of this mesh can show, and would only add the same error to every method.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from expportrait.head import Head
from expportrait.points478 import EARS, FOREHEAD

HAIR_RMS = (0.011, 0.0185)  # m, by person; 15 mm over all
FACE_RMS = 0.002  # m
PEAKS = (
    np.array([2.8, 2.8, 2.3, 5.2, 2.3, 5.2, 4.5, 2.6, 4.5, 2.3]) * 1e-3
)  # m, of the patterns fully out: about 1 mm rms
# over where and when they are out by 0.3 mm or more
SHAPE_SD = 0.8
EAR = np.array([[0.116, 0.042], [0.034, 0.026]])  # m, y and z of the template's ears: middle, half their size
FEATURES = {  # MediaPipe's landmarks, reach in m: bumps and dents of one sign on both sides
    "bridge": ((6, 197, 195), 0.009),
    "tip": ((4,), 0.009),
    "wings": ((48, 278), 0.008),
    "brows": ((105, 52, 334, 282), 0.009),
    "forehead": ((151, 109, 338), 0.022),
    "chin": ((175, 152), 0.013),
    "jaw": ((172, 397), 0.016),
    "cheekbones": ((117, 346), 0.014),
    "cheeks": ((205, 425), 0.015),
    "lips": ((0, 17), 0.008),
}


@dataclass
class Person:
    """shape (S,); static (n_d,3) m, m_s applied; patterns (P,n_d,3) m fully out, m_d applied; hair (n_d,) 0..1."""

    shape: np.ndarray
    static: np.ndarray
    patterns: np.ndarray
    hair: np.ndarray

    def dynamic(self, activation: np.ndarray) -> np.ndarray:
        """Activations (T,P) of :func:`activations` -> (T,n_d,3) m, zero for the neutral face."""
        flat = activation @ self.patterns.reshape(len(self.patterns), -1)
        return flat.reshape(len(activation), *self.patterns.shape[1:]).astype(np.float32)


@dataclass
class Ground:
    """What all people share: the template, its smoothed normals, and soft masks (n_d,)."""

    points: np.ndarray
    normals: np.ndarray
    landmarks: np.ndarray
    scalp: np.ndarray
    face: np.ndarray
    clothes: np.ndarray
    free: np.ndarray
    dynamic: np.ndarray


GROUNDS: dict[tuple[str, int], Ground] = {}


def ground_of(head: Head) -> Ground:
    """The head's ground, found once."""
    key = head.sha256, len(head.dense.template)
    if key not in GROUNDS:
        GROUNDS[key] = find_ground(head)
    return GROUNDS[key]


def find_ground(head: Head) -> Ground:
    points, faces = head.dense.template.numpy().astype(np.float64), head.dense_faces.numpy()
    corner = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    n = len(points)
    links = sparse.coo_matrix((np.ones(len(corner)), corner.T), (n, n)).tocsr()
    links = ((links + links.T) > 0).astype(float)
    mean = sparse.diags(1 / np.maximum(np.asarray(links.sum(1)).ravel(), 1)) @ links

    def blur(x: np.ndarray, rounds: int) -> np.ndarray:
        for _ in range(rounds):
            x = 0.5 * x + 0.5 * (mean @ x)
        return x

    region = np.array(head.REGIONS)[head.regions.numpy()]
    beside = np.linalg.norm((points[:, 1:] - EAR[0]) / EAR[1], axis=1)
    ear = (1 - step(1, 1.5, beside)) * step(0.045, 0.06, np.abs(points[:, 0]))
    normals = blur(_normals(blur(points, 25), faces), 10)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    scalp = blur((region == "scalp").astype(float), 1) * (1 - ear)
    return Ground(
        points,
        normals,
        head.landmarks.template.numpy().astype(np.float64),
        scalp,
        head.facial.numpy().astype(np.float64),
        blur((region == "body").astype(float), 16),
        head.free.numpy().astype(np.float64),
        head.dynamic_mask.numpy().astype(np.float64),
    )


def _normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (points[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    out = np.zeros_like(points)
    for k in range(3):
        np.add.at(out, faces[:, k], cross)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-20)


def waves(points: np.ndarray, length: float, random: np.random.Generator, count: int = 48) -> np.ndarray:
    """(n,) smooth random field of unit variance at points (n,d): bumps about 2 ``length`` wide."""
    turn = random.normal(size=(count, points.shape[1])) / length
    phase, height = random.uniform(0, 2 * np.pi, count), random.normal(size=count)
    angle = (points @ turn.T + phase).astype(np.float32)  # in half the time, to 1e-5
    return np.sqrt(2 / count) * np.cos(angle).astype(np.float64) @ height


def around(points: np.ndarray, centre: np.ndarray, reach: float) -> np.ndarray:
    """(n,) Gaussian about one point or the nearest of several (k,3)."""
    gap = ((points[:, None] - np.atleast_2d(centre)) ** 2).sum(-1).min(1)
    return np.exp(-0.5 * gap / reach**2)


def step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def rms(field: np.ndarray, weight: np.ndarray) -> float:
    """Root mean square length of (n,3) vectors under weights (n,)."""
    return float(np.sqrt((weight * (field**2).sum(-1)).sum() / weight.sum()))


def hair_field(g: Ground, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hair (n,3) m and how much of a vertex is hair (n,): volume by style, locks some 40 mm apart, a parting."""
    p, forehead, ear = g.points, g.landmarks[FOREHEAD], g.landmarks[EARS[1]]
    back = (forehead[2] - p[:, 2]) / (forehead[2] - ear[2])  # 0 at the forehead, 1 at the ears, 2 to 3 at the nape
    line = forehead[1] + random.uniform(-0.006, 0.008) - np.interp(back, [0, 0.5, 1, 2.4], [0, 0.012, 0.075, 0.12])
    grown = g.scalp * step(0, random.uniform(0.018, 0.03), p[:, 1] - line)
    up = np.clip(g.normals[:, 1], 0, 1) ** 2
    top, side = random.uniform(0.6, 1.6), random.uniform(0.35, 1.1)
    volume = side + (top - side) * up + 0.22 * waves(p, 0.035, random)
    stretch = np.array([1, 1, 0.3]) if random.random() < 0.5 else np.array([1, 0.3, 1])  # swept back, or hanging
    locks = waves(p * stretch + 0.004 * waves(p, 0.03, random)[:, None], 0.010, random)
    at = random.choice([-1, 1]) * random.uniform(0, 0.035)
    parting = np.exp(-0.5 * ((p[:, 0] - at) / 0.007) ** 2) * up * random.uniform(0, 0.5)
    thick = grown * np.maximum(volume * (1 - parting) + 0.17 * locks, 0.08)
    field = thick[:, None] * g.normals
    return field * random.uniform(*HAIR_RMS) / rms(field, grown > 0.5), grown


def clothes_field(g: Ground, random: np.random.Generator) -> np.ndarray:
    """Clothes (n,3) m: 5 to 12 mm thick, folds some 60 to 90 mm apart, a collar."""
    p = g.points
    folds = waves(p * [1, 0.6, 1], 0.02, random)
    collar = np.exp(-0.5 * ((g.clothes - 0.45) / 0.25) ** 2) * random.uniform(0, 0.005)
    return ((g.clothes * (random.uniform(0.005, 0.012) + 0.0025 * folds)) + collar)[:, None] * g.normals


def face_field(g: Ground, random: np.random.Generator) -> np.ndarray:
    """Features (n,3) m beside the blendshapes: nose, brows, chin, cheeks, and relief of 2 to 3 cm; 2 mm rms."""
    p = g.points
    field = 0.4 * waves(p, 0.009, random)[:, None] * g.normals
    for marks, reach in FEATURES.values():
        push = random.normal() * g.normals + 0.35 * random.normal(size=3) * [0.3, 1, 1]
        field = field + 1.3 * around(p, g.landmarks[list(marks)], reach)[:, None] * push
    field *= g.face[:, None] * g.free[:, None]
    return field * FACE_RMS / rms(field, g.face * g.free > 0.5)


def pattern_fields(g: Ground, random: np.random.Generator) -> np.ndarray:
    """(P,n,3) m: where the skin wrinkles and bulges, in the order of :func:`activations`."""
    p, mark = g.points, g.landmarks
    x, y = p[:, 0], p[:, 1]
    vary = lambda: float(np.exp(0.3 * random.normal()))  # noqa: E731

    def bars(along: np.ndarray, length: float) -> np.ndarray:
        return np.cos(2 * np.pi * along / (length * random.uniform(0.9, 1.2)) + random.uniform(-0.8, 0.8))

    def fold(a: int, b: int) -> np.ndarray:  # a groove from landmark a to b with a ridge on its outer side
        start, way = mark[a], mark[b] - mark[a]
        share = np.clip((p - start) @ way / (way @ way), 0, 1)
        away = p - start - share[:, None] * way
        outward = np.sign(start[0]) * away[:, 0]
        near = np.linalg.norm(away, axis=1)
        return 0.8 * np.exp(-0.5 * ((outward - 0.009) / 0.006) ** 2 - 0.5 * (near / 0.014) ** 2) - np.exp(
            -0.5 * (near / 0.004) ** 2
        )

    brow = (mark[9] + mark[151]) / 2
    forehead = around(p * [0.45, 1, 0.6], brow * [0.45, 1, 0.6], 0.014)
    out = [forehead * bars(y - 2 * x**2, 0.013), around(p, mark[9], 0.010) * bars(np.abs(x), 0.012)]
    for corner, cheek, wing, mouth in ((33, 50, 129, 61), (263, 280, 358, 291)):
        side = np.sign(mark[corner, 0])
        away = p - mark[corner]
        fan = np.arctan2(away[:, 1], side * away[:, 0])
        feet = around(p, mark[corner] + [side * 0.011, 0, -0.006], 0.007) * np.cos(
            5.5 * fan + random.uniform(-0.6, 0.6)
        )
        out += [feet, around(p, mark[cheek], 0.012) + 0.9 * vary() * fold(wing, mouth)]
    out += [
        around(p, mark[[0, 17]], 0.008) * 1.2,
        around(p, mark[175], 0.011) * waves(p, 0.0045, random),
        -around(p, mark[[205, 425]], 0.013),
        around(p, mark[168], 0.009) * bars(y, 0.011),
    ]
    heights = np.stack([each * g.dynamic for each in out])
    heights *= (PEAKS * [vary() for _ in PEAKS] / np.abs(heights).max(1))[:, None]
    return heights[..., None] * g.normals + np.abs(heights)[..., None] * 0.25 * random.normal(size=(len(out), 1, 3))


def activations(units: dict[str, np.ndarray], jaw: np.ndarray) -> np.ndarray:
    """Face units (T,) each and the jaw's angle (T,) rad -> (T,P): how far each pattern is out. Not linear, so that no
    blendshape can stand in for it."""
    squint = lambda side: np.clip(units[f"eyeSquint{side}"] + 0.6 * units[f"mouthSmile{side}"], 0, 1.4)  # noqa: E731
    smile = lambda side: units[f"mouthSmile{side}"] ** 1.5 + 0.3 * units[f"noseSneer{side}"]  # noqa: E731
    open_ = np.clip(jaw / 0.25, 0, 1)
    return np.stack(
        [
            units["browInnerUp"] ** 1.5,
            (units["browDownLeft"] + units["browDownRight"]) / 2,
            squint("Right") ** 2,
            smile("Right"),
            squint("Left") ** 2,
            smile("Left"),
            units["mouthPucker"] - 0.6 * units["mouthPressLeft"],
            units["mouthShrugLower"] + 0.5 * units["mouthFrownLeft"],
            open_ * (1 - 0.5 * units["mouthSmileLeft"]),
            units["noseSneerLeft"] ** 1.5,
        ],
        axis=-1,
    )


def make_person(head: Head, seed: int) -> Person:
    """One person: the same for the same seed."""
    g, random = ground_of(head), np.random.default_rng([1, seed])
    shape = SHAPE_SD * random.normal(size=100)[: head.n_shape]  # the same person whatever the head holds
    hair, grown = hair_field(g, random)
    static = (hair + clothes_field(g, random) + face_field(g, random)) * g.free[:, None]
    patterns = pattern_fields(g, random)
    return Person(*(x.astype(np.float32) for x in (shape, static, patterns, grown)))


def mean_static(head: Head, seeds: range) -> np.ndarray:
    """(n_d,3) m: hair and clothes of many people, averaged."""
    g, total = ground_of(head), 0.0
    for seed in seeds:
        random = np.random.default_rng([1, seed])
        random.normal(size=100)
        total = total + hair_field(g, random)[0] + clothes_field(g, random)
    return total * g.free[:, None] / len(seeds)


def neutral(head: Head, person: Person, mean_dynamic: np.ndarray) -> np.ndarray:
    """(n_d,3) m: template + B_S + m_s D_s in the gauge of a clip, whose mean D_t (n_d,3) counts as static."""
    shape = torch.from_numpy(person.shape)
    surface = head.dense.canonical(shape, torch.zeros(1, head.n_expression))[0].numpy()
    return surface + person.static + mean_dynamic
