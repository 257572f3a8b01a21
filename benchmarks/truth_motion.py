"""How the people of the truth move: head, gaze, faces, talk and blinks, smooth, at 25 frames a second."""

from dataclasses import dataclass

import numpy as np

from expportrait.head import JOINTS, Head

FPS = 25
YAW = (15, 30)  # degrees, farthest turn of a clip
BASE = ("eyeSquint", "mouthSmile", "noseSneer", "browDown", "mouthPress", "mouthFrown", "eyeBlink", "cheekSquint",
        "mouthStretch", "eyeWide", "browOuterUp", "mouthLowerDown")  # fmt: skip
UNITS = tuple(f"{name}{side}" for name in BASE for side in ("Left", "Right"))
UNITS += ("browInnerUp", "mouthPucker", "mouthFunnel", "mouthShrugLower")
FACES = (
    {"mouthSmile": 0.85, "cheekSquint": 0.5, "eyeSquint": 0.4},
    {"browInnerUp": 0.9, "browOuterUp": 0.8, "eyeWide": 0.5, "jaw": 0.12},
    {"browDown": 0.9, "noseSneer": 0.6, "mouthPress": 0.5, "eyeSquint": 0.4},
    {"browInnerUp": 0.6, "mouthFrown": 0.7, "mouthShrugLower": 0.6},
    {"mouthPucker": 0.8, "browDown": 0.2},
    {"mouthSmile": 0.5, "browInnerUp": 0.6, "jaw": 0.1},
    {},
)


@dataclass
class Motion:
    """units: ARKit activations (T,) by name; pose (T,10,3) axis-angle, rad; sway (T,3) m."""

    units: dict[str, np.ndarray]
    pose: np.ndarray
    sway: np.ndarray

    @property
    def jaw(self) -> np.ndarray:
        return self.pose[:, JOINTS.index("jaw"), 0]

    def expression(self, head: Head) -> np.ndarray:
        """(T,E) coefficients."""
        names = list(head.unit_names)
        activation = np.zeros((len(self.pose), len(names)), np.float32)
        for name, value in self.units.items():
            activation[:, names.index(name)] = value
        return activation @ head.unit_matrix.numpy()


def drift(count: int, period: float, random: np.random.Generator) -> np.ndarray:
    """(T,) smooth, about unit amplitude: three sines of periods near ``period`` seconds."""
    t = np.arange(count) / FPS
    parts = [np.sin(2 * np.pi * t / (period * p) + random.uniform(0, 2 * np.pi)) for p in (1, 0.62, 1.7)]
    return np.array([0.6, 0.2, 0.35]) @ np.stack(parts)


def eased(count: int, knots: np.ndarray, values: np.ndarray, ease: int) -> np.ndarray:
    """(T, ...) that holds values[i] from frame knots[i] on, changing over ``ease`` frames by a smooth step."""
    t = np.arange(count)
    out = np.repeat(values[:1], count, axis=0).astype(float)
    for knot, before, after in zip(knots[1:], values[:-1], values[1:], strict=True):
        share = np.clip((t - knot) / ease + 0.5, 0, 1)
        out += (share**2 * (3 - 2 * share)).reshape(-1, *[1] * (values.ndim - 1)) * (after - before)
    return out


def make_motion(seed: tuple[int, int], frames: int, yaw: tuple[float, float] = YAW) -> Motion:
    """One clip's motion; seed: person, clip. Every other clip talks, the rest makes faces. ``yaw``: degrees, between
    which the farthest turn lies."""
    random = np.random.default_rng([2, *seed])
    talks = seed[1] % 2 == 0
    length = int(random.integers(12, 17))
    knots = np.arange(-length // 2, frames, length)
    names = [*UNITS, "jaw"]
    values = np.zeros((len(knots), len(names)))
    for row in values:
        face, strength, lean = FACES[random.integers(len(FACES))], random.uniform(0.5, 1), random.uniform(-0.2, 0.2)
        for i, name in enumerate(names):
            side = 1 + lean * (name.endswith("Left") - name.endswith("Right"))
            row[i] = face.get(name.removesuffix("Left").removesuffix("Right"), 0) * strength * side
    curve = eased(frames, knots, values * (0.8 if talks else 1), 9).T
    units = {
        name: np.clip(value + 0.03 * drift(frames, 1, random), 0, 1) for name, value in zip(names, curve, strict=True)
    }
    jaw = units.pop("jaw")
    if talks:
        beat = np.sin(2 * np.pi * np.cumsum(random.uniform(2.6, 4) + drift(frames, 0.8, random)) / FPS)
        voice = step01(drift(frames, 1.5, random) + 0.6)
        jaw = jaw + 0.13 * voice * (0.55 + 0.45 * beat)
        vowel = step01(drift(frames, 0.5, random))
        units["mouthFunnel"] = units["mouthFunnel"] + 0.45 * voice * vowel
        for side in ("Left", "Right"):
            units[f"mouthStretch{side}"] = units[f"mouthStretch{side}"] + 0.3 * voice * (1 - vowel)
            units[f"mouthLowerDown{side}"] = units[f"mouthLowerDown{side}"] + 0.35 * voice * (0.5 + 0.5 * beat)
    blink = np.zeros(frames)
    at = random.uniform(2, 20)
    while at < frames:  # down in two frames, up in four
        t = np.arange(frames) - at
        blink = np.maximum(blink, np.where(t < 0, np.exp(-((t / 1.2) ** 2)), np.exp(-((t / 2.2) ** 2))))
        at += random.uniform(25, 60)
    for side in ("Left", "Right"):
        units[f"eyeBlink{side}"] = np.clip(0.95 * blink, 0, 1)
    return Motion(
        units,
        _pose(frames, np.clip(jaw, 0, 0.3), yaw, random),
        0.008 * np.stack([drift(frames, 2.5, random) for _ in range(3)], -1),
    )


def step01(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-4 * x))


def _pose(frames: int, jaw: np.ndarray, yaw: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    pose = np.zeros((frames, len(JOINTS), 3))
    sway = drift(frames, random.uniform(1.8, 3), random)
    aside = np.radians(random.uniform(*yaw)) * sway / np.abs(sway).max()
    nod = np.radians(7) * drift(frames, 1.6, random) + np.radians(random.uniform(-5, 5))
    roll = np.radians(5) * drift(frames, 2.2, random)
    turn = np.stack([nod, aside, roll], -1)
    for joint, share in (("global", 0.1), ("neck", 0.4), ("head", 0.5)):
        pose[:, JOINTS.index(joint)] = share * turn
    pose[:, JOINTS.index("global"), 1] += np.radians(random.uniform(-6, 6))
    pose[:, JOINTS.index("jaw"), 0] = jaw
    knots = np.arange(-5, frames, int(random.integers(10, 18)))  # fixations, and saccades of about three frames
    look = np.radians(random.uniform([-7, -16, 0], [7, 16, 0], (len(knots), 3)))
    for joint in ("left_eye", "right_eye"):
        pose[:, JOINTS.index(joint)] = eased(frames, knots, look, 3)
    drop = random.uniform(-0.1, 0.1)  # shoulders, still over a clip
    pose[:, JOINTS.index("left_shoulder"), 2], pose[:, JOINTS.index("right_shoulder"), 2] = drop, -drop
    return pose
