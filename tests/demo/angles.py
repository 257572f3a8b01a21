"""The angles of a head turn, read back from its rotation."""

import numpy as np


def turn_angles(rotation: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch, roll in rad of a rotation (3,3): the inverse of `demo.motion.turn`."""
    yaw = np.arctan2(rotation[0, 2], rotation[2, 2])
    pitch = np.arcsin(np.clip(-rotation[1, 2], -1, 1))
    return float(yaw), float(pitch), float(np.arctan2(rotation[1, 0], rotation[1, 1]))
