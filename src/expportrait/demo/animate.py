"""Frames of a demo clip: the portrait's mesh posed by the known motion, drawn over eyes, mouth and background."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from expportrait.demo.interior import Eye, Mouth, build_eyes, build_mouth
from expportrait.demo.layers import Scene, project
from expportrait.demo.motion import GAZE, UNIT_NAMES, Motion, turn
from expportrait.demo.topology import IRISES, LIDS, LOWER_LIP, LOWER_RED, MESH_POINTS, UPPER_LIP, UPPER_RED, oval
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.rotation import axis_angle_to_matrix
from expportrait.head import Head
from expportrait.render import face_ids

SUPERSAMPLING = 2
JAW = 3  # of head.JOINTS
UPPER_LID, CREASE, LOWER_LID = 0.97, 0.45, 0.03  # shares of the eye's opening that a blink moves them by
LASHES = 0.7  # how much darker the rim of a closed lid is


@torch.no_grad()
def expression_shifts(head: Head, fit: HeadParameters, motion: Motion) -> np.ndarray:
    """(T,478,3) m: what units and jaw move the landmarks by, in camera space at the portrait's head pose.

    ``fit``: the head fitted to the portrait (one frame).
    """
    frames = len(motion.jaw)
    expression = torch.stack(
        [head.expression_of(dict(zip(UNIT_NAMES, map(float, row), strict=True))) for row in motion.units]
    )
    matrices = fit.matrices().expand(frames, -1, -1, -1).clone()
    opening = torch.zeros(frames, 3)
    opening[:, 0] = torch.from_numpy(motion.jaw).float()
    matrices[:, JAW] = matrices[:, JAW] @ axis_angle_to_matrix(opening)
    place = fit.translation().expand(frames, -1)
    moved = head.pose(head.landmarks, fit.shape, fit.expression + expression, matrices, place)
    rest = head.pose(head.landmarks, fit.shape, fit.expression, fit.matrices(), fit.translation())
    shifts = (moved - rest).double().numpy()
    # On a closed mouth the inner edges of both lips are one line, and a landmark may sit on the wrong lip of the head.
    for edge, red in ((UPPER_LIP, UPPER_RED), (LOWER_LIP, LOWER_RED)):
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
    """Where the lower lip's inner edge came to lie above the upper one's, let both meet half way; in place, (478,3)."""
    upper, lower = list(UPPER_LIP[1:-1]), list(LOWER_LIP[1:-1])
    crossed = points[upper, 1] < points[lower, 1]
    middle = (points[upper] + points[lower]) / 2
    points[upper] = np.where(crossed[:, None], middle, points[upper])
    points[lower] = np.where(crossed[:, None], middle, points[lower])


@dataclass
class Animator:
    """Draws frames of one scene: ``draw(shift, angles, blink, gaze)``."""

    scene: Scene
    eyes: list[Eye]
    mouth: Mouth

    @classmethod
    def of(cls, scene: Scene) -> "Animator":
        pixels = project(scene.points, scene.focal, len(scene.image))
        return cls(scene, build_eyes(scene, pixels), build_mouth(scene, pixels))

    def place(self, points: np.ndarray, shift: np.ndarray, angles: tuple[float, float, float]) -> np.ndarray:
        """All vertices (V,3) m after expression ((478,3) moved landmarks) and head turn, which fades out down the neck."""
        scene = self.scene
        face = points[:MESH_POINTS]
        sheet = scene.vertices[MESH_POINTS:] + scene.oval_share @ shift[oval()]
        vertices = np.concatenate([face, sheet]) - scene.pivot
        axis, _ = cv2.Rodrigues(turn(*angles))
        rotation = axis_angle_to_matrix(torch.from_numpy(scene.head_share[:, None] * axis[:, 0])).numpy()
        return (rotation @ vertices[:, :, None])[:, :, 0] + scene.pivot

    def draw(
        self, shift: np.ndarray, angles: tuple[float, float, float], blink: float, gaze: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """One frame (S,S,3) u8 and its 478 true landmarks (478,2) px.

        shift (478,3) m from `expression_shifts`; angles yaw, pitch, roll; see `Motion` for the rest.
        """
        scene, size = self.scene, len(self.scene.image)
        points = scene.points + shift
        close_lids(points, scene.points, blink)
        part_lips(points)
        for iris in IRISES:
            points[list(iris)] = scene.points[list(iris)] + GAZE * np.array([gaze[0], gaze[1], 0.0])
        head = (turn(*angles) @ (points - scene.pivot).T).T + scene.pivot
        truth = project(head, scene.focal, size)
        skull = project((turn(*angles) @ (scene.points - scene.pivot).T).T + scene.pivot, scene.focal, size)

        vertices = self.place(points, points - scene.points, angles)
        pixels = project(vertices, scene.focal, size)
        drawn = np.unique(scene.faces)
        low = np.clip(np.floor(pixels[drawn].min(0)).astype(int), 0, size)
        high = np.clip(np.ceil(pixels[drawn].max(0)).astype(int), 0, size)
        box = slice(low[1], high[1]), slice(low[0], high[0])
        canvas = np.repeat(np.repeat(scene.background[box], SUPERSAMPLING, 0), SUPERSAMPLING, 1)
        for eye in self.eyes:
            eye.paint(canvas, skull, truth, gaze * GAZE, low, SUPERSAMPLING)
        self.mouth.paint(canvas, skull, truth, low, SUPERSAMPLING)
        texture = cv2.addWeighted(scene.closed, bare, scene.texture, 1 - bare, 0) if (bare := min(2 * blink, 1)) else scene.texture
        picture = self.warp(texture, pixels, -vertices[:, 2], low, canvas.shape[:2])
        canvas = canvas * (1 - picture[..., 3:] / np.float32(255)) + picture[..., :3]
        if blink > 0:
            rims = np.zeros(canvas.shape[:2], np.uint8)
            lines = [np.round(((truth[list(lids[0][:-1])] - low) * SUPERSAMPLING - 0.5) * 16).astype(np.int32) for lids in LIDS]
            cv2.polylines(rims, lines, False, 255, round(0.006 * scene.face_height * SUPERSAMPLING), cv2.LINE_AA, 4)
            canvas *= 1 - cv2.GaussianBlur(rims, (0, 0), 0.9)[..., None] * np.float32(LASHES * blink / 255)
        frame = scene.background.copy()
        fine = cv2.resize(canvas, (high - low).tolist(), interpolation=cv2.INTER_AREA)
        frame[box] = np.round(np.clip(fine, 0, 255)).astype(np.uint8)
        return frame, truth

    def warp(self, texture: np.ndarray, pixels: np.ndarray, depth: np.ndarray, low: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """The ``texture`` (S,S,4) u8 drawn with the vertices at ``pixels`` (V,2), nearest surface first: (h,w,4) u8."""
        scene = self.scene
        fine = (pixels - low) * SUPERSAMPLING
        nearness = np.interp(depth, (depth.min(), depth.max()), (-0.9, 0.9))
        clip = np.column_stack([fine * (2, -2) / shape[::-1] - (1, -1), nearness, np.ones(len(fine))]).astype(np.float32)
        ids = face_ids(torch.from_numpy(clip)[None], torch.from_numpy(scene.faces), shape, backend="torch")[0].flip(0).numpy()
        hit = np.flatnonzero(ids >= 0)
        # Inside a face, the texture's px are affine in the canvas's px: three coefficients each for x and y.
        corners = np.concatenate([fine[scene.faces], np.ones((len(scene.faces), 3, 1))], 2)
        flat = np.abs(np.linalg.det(corners)) < 1e-3  # seen edge on, so never hit
        corners[flat] = np.eye(3)
        maps = np.linalg.solve(corners, scene.texture_points[scene.faces] - 0.5).astype(np.float32)
        y, x = np.divmod(hit, shape[1])
        x, y = (x + 0.5).astype(np.float32), (y + 0.5).astype(np.float32)
        at = np.full((2, shape[0] * shape[1]), -10, np.float32)  # beyond the texture's border: transparent
        for axis in range(2):
            by_x, by_y, constant = maps[:, :, axis].T[:, ids.ravel()[hit]]
            at[axis, hit] = by_x * x + by_y * y + constant
        return cv2.remap(texture, *at.reshape(2, *shape), cv2.INTER_CUBIC)
