"""Frames of a demo clip: the portrait's mesh posed by the known motion, drawn over eyes, mouth and background."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from expportrait.demo.interior import Canvas, Eye, Mouth, build_eyes, build_mouth
from expportrait.demo.layers import Scene, project
from expportrait.demo.motion import GAZE, UNIT_NAMES, Motion, turn
from expportrait.demo.topology import LIDS, LOWER_RED, UPPER_RED
from expportrait.fit.parameters import HeadParameters
from expportrait.head import JOINTS, Head
from expportrait.head.rotation import axis_angle_to_matrix
from expportrait.points478 import FACE_OVAL, LEFT_IRIS, LOWER_LIP_INNER, RIGHT_IRIS, SKIN_POINTS, UPPER_LIP_INNER
from expportrait.render import face_ids

SUPERSAMPLING = 2
UPPER_LID, CREASE, LOWER_LID = 0.97, 0.45, 0.03  # shares of the eye's opening that a blink moves them by
LASHES = 0.7  # how much darker the rim of a closed lid is


@torch.no_grad()
def expression_shifts(head: Head, fit: HeadParameters, motion: Motion) -> np.ndarray:
    """(T,478,3) m: what units and jaw move the landmarks by, in camera space at the portrait's head pose.

    ``fit``: the head fitted to the portrait (one frame).
    """
    frames = len(motion.jaw)
    units = [dict(zip(UNIT_NAMES, map(float, row), strict=True)) for row in motion.units]
    expression = fit.expression + torch.stack([head.expression_of(row) for row in units])
    opening = torch.zeros(frames, 3)
    opening[:, 0] = torch.from_numpy(motion.jaw)
    jaw, pose = JOINTS.index("jaw"), fit.matrices().expand(frames, -1, -1, -1).clone()
    pose[:, jaw] = pose[:, jaw] @ axis_angle_to_matrix(opening)
    place = fit.translation().expand(frames, -1)
    moved = head.pose(head.landmarks, fit.shape, expression, pose, place)
    rest = head.pose(head.landmarks, fit.shape, fit.expression, fit.matrices(), fit.translation())
    shifts = (moved - rest).double().numpy()
    # On a closed mouth the inner edges of both lips are one line, and a landmark may sit on the head's other lip.
    for edge, red in ((UPPER_LIP_INNER, UPPER_RED), (LOWER_LIP_INNER, LOWER_RED)):
        shifts[:, edge] = shifts[:, red]
    return shifts


def close_lids(points: np.ndarray, rest: np.ndarray, blink: float) -> None:
    """Move lids and crease of ``points`` (478,3), in place, by a share ``blink`` of the eye's opening at ``rest``."""
    for upper, lower, crease in LIDS:
        opening = (rest[list(lower)] - rest[list(upper)]) * blink
        points[list(upper[1:-1])] += UPPER_LID * opening[1:-1]
        points[list(crease)] += CREASE * opening[1:-1]
        points[list(lower[1:-1])] -= LOWER_LID * opening[1:-1]


def part_lips(points: np.ndarray) -> None:
    """Where the lower lip's inner edge lies above the upper one's, let both meet half way; in place, (478,3)."""
    upper, lower = list(UPPER_LIP_INNER[1:-1]), list(LOWER_LIP_INNER[1:-1])
    crossed = (points[upper, 1] < points[lower, 1])[:, None]
    middle = (points[upper] + points[lower]) / 2
    points[upper] = np.where(crossed, middle, points[upper])
    points[lower] = np.where(crossed, middle, points[lower])


@dataclass
class Animator:
    """Draws frames of one scene."""

    scene: Scene
    eyes: list[Eye]
    mouth: Mouth

    @classmethod
    def of(cls, scene: Scene) -> "Animator":
        pixels = project(scene.points, scene.focal, len(scene.image))
        return cls(scene, build_eyes(scene, pixels), build_mouth(scene, pixels))

    def draw(
        self, shift: np.ndarray, angles: tuple[float, float, float], blink: float, gaze: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """One frame (S,S,3) u8 and its 478 true landmarks (478,2) px.

        shift (478,3) m from `expression_shifts`; angles yaw, pitch, roll in rad; blink and gaze as in `Motion`.
        """
        scene, size = self.scene, len(self.scene.image)
        points = scene.points + shift
        close_lids(points, scene.points, blink)
        part_lips(points)
        for iris in (RIGHT_IRIS, LEFT_IRIS):
            points[list(iris)] = scene.points[list(iris)] + GAZE * np.array([*gaze, 0.0])
        rotation = turn(*angles)
        truth, skull = (
            project((x - scene.pivot) @ rotation.T + scene.pivot, scene.focal, size) for x in (points, scene.points)
        )
        vertices = self._turned(points, rotation)
        pixels = project(vertices, scene.focal, size)
        drawn = pixels[np.unique(scene.faces)]
        low = np.floor(drawn.min(0)).astype(int).clip(0, size)
        high = np.ceil(drawn.max(0)).astype(int).clip(0, size)
        box = slice(low[1], high[1]), slice(low[0], high[0])

        enlarged = scene.background[box].repeat(SUPERSAMPLING, 0).repeat(SUPERSAMPLING, 1)
        canvas = Canvas(enlarged, low, SUPERSAMPLING)
        for eye in self.eyes:
            eye.paint(canvas, skull, truth, gaze * GAZE)
        self.mouth.paint(canvas, skull, truth)
        bare = min(2 * blink, 1)
        texture = cv2.addWeighted(scene.closed, bare, scene.texture, 1 - bare, 0) if bare else scene.texture
        person = self._warp(texture, (pixels - low) * SUPERSAMPLING, -vertices[:, 2], enlarged.shape[:2])
        picture = enlarged * (1 - person[..., 3:] / np.float32(255)) + person[..., :3]
        if blink > 0:
            rims = [(truth[list(upper[:-1])] - low) * SUPERSAMPLING for upper, _, _ in LIDS]
            picture *= 1 - self._lashes(rims, picture.shape[:2]) * np.float32(LASHES * blink)
        frame = scene.background.copy()
        fine = cv2.resize(picture, (high - low).tolist(), interpolation=cv2.INTER_AREA)
        frame[box] = np.round(np.clip(fine, 0, 255)).astype(np.uint8)
        return frame, truth

    def _turned(self, points: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """All vertices (V,3) m for moved landmarks (478,3) and a head turn (3,3), which fades out down the neck."""
        scene, ring = self.scene, list(FACE_OVAL)
        sheet = scene.vertices[SKIN_POINTS:] + scene.oval_share @ (points[ring] - scene.points[ring])
        vertices = np.concatenate([points[:SKIN_POINTS], sheet]) - scene.pivot
        axis, _ = cv2.Rodrigues(rotation)
        turns = axis_angle_to_matrix(torch.from_numpy(scene.head_share[:, None] * axis[:, 0])).numpy()
        return (turns @ vertices[:, :, None])[:, :, 0] + scene.pivot

    def _warp(self, texture: np.ndarray, fine: np.ndarray, depth: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """The ``texture`` (S,S,4) u8 drawn with its vertices at (V,2) px of the canvas, nearest first: (h,w,4) u8."""
        scene = self.scene
        nearness = np.interp(depth, (depth.min(), depth.max()), (-0.9, 0.9))
        clip = np.column_stack([fine * (2, -2) / shape[::-1] - (1, -1), nearness, np.ones(len(fine))])
        clip, faces = torch.from_numpy(clip.astype(np.float32))[None], torch.from_numpy(scene.faces)
        ids = face_ids(clip, faces, shape, backend="torch")[0].flip(0).numpy()
        # Inside a face, px of the texture are affine in px of the canvas: three coefficients each for x and y.
        corners = np.concatenate([fine[scene.faces], np.ones((len(scene.faces), 3, 1))], 2)
        corners[np.abs(np.linalg.det(corners)) < 1e-3] = np.eye(3)  # faces seen edge on, which no pixel shows
        maps = np.linalg.solve(corners, scene.texture_points[scene.faces] - 0.5).astype(np.float32)
        hit = np.flatnonzero(ids >= 0)
        y, x = (part.astype(np.float32) + 0.5 for part in np.divmod(hit, shape[1]))
        at = np.full((2, shape[0] * shape[1]), -10, np.float32)  # beyond the texture's border: transparent
        for axis in range(2):
            by_x, by_y, constant = maps[:, :, axis].T[:, ids.ravel()[hit]]
            at[axis, hit] = by_x * x + by_y * y + constant
        return cv2.remap(texture, *at.reshape(2, *shape), cv2.INTER_CUBIC)

    def _lashes(self, rims: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """(h,w,1) f32, 1 along the rims of the upper lids, lists of points (n,2) px of the canvas."""
        drawn, width = np.zeros(shape, np.uint8), round(0.006 * self.scene.face_height * SUPERSAMPLING)
        lines = [np.round((rim - 0.5) * 16).astype(np.int32) for rim in rims]
        cv2.polylines(drawn, lines, False, 255, max(width, 1), cv2.LINE_AA, 4)
        return cv2.GaussianBlur(drawn, (0, 0), 0.9)[..., None] / np.float32(255)
