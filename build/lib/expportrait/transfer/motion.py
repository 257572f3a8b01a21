"""How a head moves: what is taken of a fitted clip, and what stands for the target's reference frame."""

from dataclasses import dataclass

from torch import Tensor

from expportrait.fit.displacement import Offsets
from expportrait.fit.store import BLOCK, FittedHead
from expportrait.head import JOINTS
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle, nearest_rotation

FACE = [JOINTS.index(name) for name in ("jaw", "left_eye", "right_eye")]
TURNS = [JOINTS.index(name) for name in ("global", "neck", "head")]


@dataclass
class Motion:
    """How a head moves over T frames: face (T, 3, 3) jaw and eyes, turns (T, 3, 3) global, neck and head, both
    axis-angle; place (T, 3) of the neck joint, m; ``interocular``, m, the moving person's own measure; ``dynamic``
    (T, V, 3) m, None without dynamic offsets."""

    expression: Tensor
    face: Tensor
    turns: Tensor
    place: Tensor
    interocular: float
    dynamic: Tensor | Offsets | None = None

    @property
    def frames(self) -> int:
        return len(self.expression)

    def face_at(self, frame: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Expression (E,), matrices of jaw and eyes (3, 3, 3), dynamic offsets (V, 3): of one frame, or their mean."""
        face, dynamic = axis_angle_to_matrix(self.face), self.dynamic
        if frame is not None:
            offsets = None if dynamic is None else dynamic[slice(frame, frame + 1)][0]
            return self.expression[frame], face[frame], offsets
        if dynamic is not None:
            starts = range(0, self.frames, BLOCK)
            dynamic = sum(dynamic[slice(first, first + BLOCK)].sum(0) for first in starts) / self.frames
        return self.expression.mean(0), mean_rotation(face), dynamic


@dataclass
class Part:
    """A part of what moves the target, ``moves`` over T frames. The frame ``anchor`` of ``source`` (None: its mean)
    stands for the target's reference frame: the same motion at its own times, None where those are the T frames.
    ``relative``: what changes from there on counts, not what it is."""

    moves: Motion
    anchor: int | None = 0
    relative: bool = True
    source: Motion | None = None

    @property
    def start(self) -> Motion:
        """In which the anchor is a frame."""
        return self.source or self.moves


def motion(fitted: FittedHead, pose_from: FittedHead | None = None) -> Motion:
    """A fitted clip's motion; ``pose_from``: another clip that gives turns and place. The shorter one counts."""
    other = pose_from or fitted
    length = min(fitted.frames, other.frames)
    return Motion(fitted.expression[:length], fitted.pose[:length, FACE], other.pose[:length, TURNS],
                  other.translation[:length], interocular(other))  # fmt: skip


def interocular(fitted: FittedHead) -> float:
    """Distance of the eye joints, m: the size of a person's face."""
    rest = fitted.expression.new_zeros(1, fitted.head.n_expression)
    joints = fitted.head.joints(fitted.shape, rest)[0]
    return float((joints[JOINTS.index("left_eye")] - joints[JOINTS.index("right_eye")]).norm())


def mean_rotation(matrices: Tensor) -> Tensor:
    """(T, ..., 3, 3) -> (..., 3, 3): the rotation nearest to their mean."""
    return nearest_rotation(matrices.mean(0))


def scaled_turns(turns: Tensor, onto: Tensor, gain: Tensor | float) -> Tensor:
    """Rotations (..., 3, 3) ``gain`` times as far from ``onto``, on the way that leads from there to them."""
    return onto @ axis_angle_to_matrix(gain * matrix_to_axis_angle(onto.transpose(-1, -2) @ turns))
