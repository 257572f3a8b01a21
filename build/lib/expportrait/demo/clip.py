"""One demo clip from its name: the portrait, its fitted head, the motion, the frames and the truth."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from expportrait.demo.animate import Animator, expression_shifts
from expportrait.demo.layers import Scene, build_scene
from expportrait.demo.motion import CLIPS, FPS, FULL_TURN, GAZE, UNIT_NAMES, Motion, motion_of
from expportrait.demo.portrait import load_portrait
from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.head import Head

CONVENTIONS = (
    "One row a frame. Angles in rad about the portrait's own pose: the head turns by R_y(yaw) R_x(pitch) R_z(roll) "
    "about pivot; x to the subject's left, y up, z to the viewer. jaw (rad) and units (0..1, unit_names) come on top "
    "of the portrait's own expression. blink: 0 open, 1 closed. gaze: shifts of the irises by gaze_unit metres, x to "
    "the subject's left, y up. points: MediaPipe's 478 landmarks in px, x right, y down, pixel centres at "
    "half-integers. rest_points: the same at the portrait's pose, in metres; the camera of focal px stands at the "
    "origin and looks along -z, its principal point in the middle of the frame."
)


@dataclass
class DemoClip:
    """A clip ready to be drawn."""

    name: str
    motion: Motion
    shifts: np.ndarray  # (T,478,3) m, see `expression_shifts`
    animator: Animator

    @property
    def scene(self) -> Scene:
        return self.animator.scene

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frame (S,S,3) u8 RGB and its 478 true landmarks (478,2) px, one after the other."""
        m = self.motion
        for t, shift in enumerate(self.shifts):
            yield self.animator.draw(shift, (m.yaw[t], m.pitch[t], m.roll[t]), float(m.blink[t]), m.gaze[t])


def prepare(name: str, times: np.ndarray, size: int = 512, yaw: float = FULL_TURN) -> DemoClip:
    """The demo clip ``name`` at ``times`` (T,) s, ``size`` px a side, its head turn scaled by ``yaw`` / 15 degrees.

    The head that moves the portrait is always the open one: only its face units have names.
    """
    portrait, head = load_portrait(CLIPS[name].portrait, size), Head.load(subdivisions=0)
    fit = fit_landmarks(head, torch.from_numpy(portrait.points)[None], torch.ones(1), size)
    with torch.no_grad():
        rest = head.pose(head.landmarks, fit.shape, fit.expression, fit.matrices(), fit.translation())[0]
    scene = build_scene(portrait, rest.double().numpy(), float(fit.log_focal.exp()))
    motion = motion_of(name, times, yaw)
    return DemoClip(name, motion, expression_shifts(head, fit, motion), Animator.of(scene))


def save_truth(file: Path, clip: DemoClip, points: np.ndarray) -> None:
    """Write the known motion and the true landmarks ``points`` (T,478,2) px beside the video."""
    motion = {name: value.astype(np.float32) for name, value in vars(clip.motion).items()}
    scene = clip.scene
    np.savez(
        file, **motion, points=points.astype(np.float32), unit_names=np.array(UNIT_NAMES), rest_points=scene.points,
        focal=scene.focal, pivot=scene.pivot, gaze_unit=GAZE, fps=FPS, conventions=np.array(CONVENTIONS),
    )  # fmt: skip


def draw(clip: DemoClip, progress: Callable = iter) -> tuple[np.ndarray, np.ndarray]:
    """All frames (T,S,S,3) u8 and true landmarks (T,478,2) px of a clip."""
    frames, points = zip(*progress(clip.frames()), strict=True)
    return np.stack(frames), np.stack(points)
