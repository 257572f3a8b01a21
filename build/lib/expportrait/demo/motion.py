"""The known motion of each demo clip: smooth channels over time, a seamless loop of two seconds from rest to rest."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

FPS = 25
LOOP = 2.0  # s
GAZE = 0.0055  # m an iris moves at gaze 1
FULL_TURN = 15.0  # degrees at which the keys below are drawn; the setting demo.yaw scales the head turn

# Face units of the open head (ARKit names) that each channel drives, and how much of the channel they take.
UNITS = {
    "smile": {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
    "brow": {"browInnerUp": 0.8, "browOuterUpLeft": 1.0, "browOuterUpRight": 1.0},
    "round": {"mouthFunnel": 0.6, "mouthPucker": 0.6},
}
UNIT_NAMES = tuple(name for units in UNITS.values() for name in units)


@dataclass
class Motion:
    """What moves, a row a frame: angles in rad about the portrait's own pose, units 0..1 on top of its own expression.

    The head turns by R = R_y(yaw) R_x(pitch) R_z(roll) in camera space: yaw > 0 to the subject's left, pitch > 0 down,
    roll > 0 towards the subject's right shoulder. ``blink`` closes both eyes at 1; ``gaze`` is in iris shifts, x to the
    subject's left, y up, of ``GAZE`` metres each.
    """

    yaw: np.ndarray  # (T,)
    pitch: np.ndarray  # (T,)
    roll: np.ndarray  # (T,)
    jaw: np.ndarray  # (T,)
    units: np.ndarray  # (T, len(UNIT_NAMES))
    blink: np.ndarray  # (T,)
    gaze: np.ndarray  # (T, 2)


@dataclass(frozen=True)
class Clip:
    """A portrait and the keys (seconds, value) of its channels; angles in degrees."""

    portrait: str
    keys: dict[str, list[tuple[float, float]]]
    blinks: tuple[float, ...] = ()  # s, when the eyes are closed


CLIPS = {
    "astronaut-turn": Clip(
        "astronaut",
        {
            "yaw": [(0, 0), (0.55, 15), (0.7, 15), (1.35, -15), (1.5, -15)],
            "pitch": [(0, 0), (0.4, 6), (0.95, -8), (1.45, 6)],
            "roll": [(0, 0), (0.6, -3), (1.4, 3)],
            "jaw": [(0, 0), (0.7, 0), (1.0, 3.5), (1.3, 0)],
            "smile": [(0, 0), (0.6, -0.35), (0.9, -0.3), (1.4, 0)],
            "brow": [(0, 0), (0.9, 0), (1.15, 0.5), (1.5, 0)],
            "gaze_x": [(0, 0), (0.3, 0.5), (0.6, 0.1), (1.0, -0.5), (1.4, -0.1)],
        },
        (0.85, 1.72),
    ),
    "astronaut-smile": Clip(
        "astronaut",
        {
            "yaw": [(0, 0), (0.45, -7), (1.1, 9), (1.6, 2)],
            "pitch": [(0, 0), (0.35, 7), (0.85, -7), (1.4, 6)],
            "roll": [(0, 0), (0.5, 2), (1.2, -3.5)],
            "jaw": [(0, 0), (0.25, 0), (0.55, 5.5), (0.85, 1), (1.15, 7), (1.5, 0)],
            "smile": [(0, 0), (0.4, -0.55), (0.7, -0.55), (1.2, -0.1), (1.5, 0)],
            "brow": [(0, 0), (0.2, 0), (0.55, 0.8), (0.9, 0.1), (1.2, 0.6), (1.55, 0)],
            "gaze_x": [(0, 0), (0.4, 0.4), (0.8, 0), (1.1, -0.3), (1.6, 0)],
            "gaze_y": [(0, 0), (0.5, -0.2), (1.0, 0.1), (1.5, 0)],
        },
        (0.3, 1.4),
    ),
    "hopper-talk": Clip(
        "hopper",
        {
            "yaw": [(0, 0), (0.5, -11), (0.65, -11), (1.3, 12), (1.45, 12)],
            "pitch": [(0, 0), (0.4, -6), (0.95, 7), (1.45, -5)],
            "roll": [(0, 0), (0.55, 3), (1.35, -3.5)],
            "jaw": [(0, 0), (0.2, 5), (0.35, 1), (0.55, 6), (0.75, 2), (0.95, 7), (1.15, 0), (1.35, 5), (1.6, 0)],
            "smile": [(0, 0), (0.4, 0), (0.9, 0.25), (1.3, 0.55), (1.6, 0.4), (1.9, 0.05)],
            "round": [(0, 0), (0.25, 0), (0.4, 0.3), (0.6, 0), (0.8, 0.25), (1.0, 0)],
            "brow": [(0, 0), (0.35, 0), (0.6, 0.7), (1.0, 0.1), (1.3, 0.5), (1.6, 0)],
            "gaze_x": [(0, 0), (0.3, -0.4), (0.6, 0), (1.1, 0.4), (1.5, 0)],
        },
        (0.78, 1.7),
    ),
}


def channel(keys: list[tuple[float, float]], times: np.ndarray) -> np.ndarray:
    """Values at ``times`` (T,) s of a loop through ``keys``: monotone between keys, so never beyond them."""
    knots, values = np.array(keys, float).T
    knots = np.concatenate([knots - LOOP, knots, knots + LOOP, [2 * LOOP]])
    return PchipInterpolator(knots, np.concatenate([np.tile(values, 3), values[:1]]))(times % LOOP)


def eyelids(closed: tuple[float, ...], times: np.ndarray) -> np.ndarray:
    """(T,) 0 open .. 1 closed: a blink closes in 0.10 s, stays shut for one frame, opens in 0.18 s."""
    blink = np.zeros(len(times))
    for moment in closed:
        away = times % LOOP - moment
        x = np.clip(np.where(away < 0, -away / 0.10, (away - 0.04) / 0.18), 0, 1)
        blink = np.maximum(blink, 1 - x * x * (3 - 2 * x))
    return blink


def motion_of(clip: str, times: np.ndarray, yaw: float = FULL_TURN) -> Motion:
    """The motion of a demo clip at ``times`` (T,) s, with its largest head turn scaled by ``yaw`` / 15 degrees."""
    spec, times = CLIPS[clip], np.asarray(times, float)
    value = {name: channel(keys, times) for name, keys in spec.keys.items()}
    rest = np.zeros(len(times))
    units = [share * value.get(name, rest) for name, members in UNITS.items() for share in members.values()]
    return Motion(
        yaw=np.deg2rad(value["yaw"]) * yaw / FULL_TURN,
        pitch=np.deg2rad(value["pitch"]),
        roll=np.deg2rad(value["roll"]),
        jaw=np.deg2rad(value["jaw"]),
        units=np.stack(units, 1),
        blink=eyelids(spec.blinks, times),
        gaze=np.stack([value.get("gaze_x", rest), value.get("gaze_y", rest)], 1),
    )


def turn(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3,3) head turn R_y(yaw) R_x(pitch) R_z(roll), angles in rad as in `Motion`."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z
