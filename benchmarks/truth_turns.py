"""Rendered heads that turn far to a side, up or down, and what the real detector makes of their films."""

from dataclasses import replace

import numpy as np
import torch
from benchmarks.truth_clips import Clip, make_clip
from benchmarks.truth_motion import make_motion
from scipy.spatial.transform import Rotation

from expportrait.estimators.geometry.base import Geometry
from expportrait.estimators.geometry.embedded.estimator import EmbeddedEstimator
from expportrait.estimators.landmarks.gaps import fill, same_face
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.fit.evidence.targets import Targets
from expportrait.head import JOINTS, Head
from expportrait.settings.config import Landmarks
from expportrait.store import decode_normals, encode_normals

SHARES = (("global", 0.2), ("neck", 0.35), ("head", 0.45))  # of a turn


def turned_clip(head: Head, person: int, yaw: np.ndarray, pitch: np.ndarray, number: int = 0) -> Clip:
    """One person whose head turns by ``yaw`` (T,) degrees to the subject's left and ``pitch`` (T,) down."""
    motion = make_motion((person, number), len(yaw))
    turn = np.radians(np.stack([pitch, yaw, np.zeros(len(yaw))], -1))
    pose = motion.pose.copy()
    for joint, share in SHARES:
        pose[:, JOINTS.index(joint)] = share * turn
    return make_clip(head, person, number, len(yaw), motion=replace(motion, pose=pose))


def there_and_back(angle: float, frames: int) -> np.ndarray:
    """(T,) degrees: from 0 to ``angle`` and back, resting at both, as a head moves."""
    return angle * (1 - np.cos(2 * np.pi * np.arange(frames) / (frames - 1))) / 2


def detected(pictures: np.ndarray, detector: LandmarkDetector) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the stage landmarks stores of a film (T,H,W,3): points (T,478,3), confidence (T,478), interpolated (T,)."""
    points, found, confidence = detector.detect(pictures)
    seen = same_face(points, found)
    points, confidence = fill(points, confidence, seen, Landmarks().max_gap)
    return points, confidence, ~seen


def embedded(
    head: Head, pictures: np.ndarray, points: np.ndarray, confidence: np.ndarray, missing: np.ndarray
) -> Targets:
    """What the stage geometry stores of a film with the embedded estimator."""
    return as_targets(EmbeddedEstimator(head).estimate(pictures, points, missing, confidence))


def as_targets(maps: Geometry) -> Targets:
    """Maps as the fit reads them."""
    normals, *rest = decode_normals(encode_normals(maps.normals)), maps.depth, maps.mask, maps.confidence
    return Targets(*(torch.from_numpy(np.asarray(x, np.float32)) for x in (normals, *rest)))


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(T,3,3) rotations that turn the points a (T,n,3) onto b (Kabsch)."""
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    return np.stack([Rotation.align_vectors(y, x)[0].as_matrix() for x, y in zip(a, b, strict=True)])


def pose_error(fitted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(T,) degrees by which the heads' points (T,n,3) are turned against each other."""
    return np.degrees(Rotation.from_matrix(between(fitted, truth)).magnitude())
