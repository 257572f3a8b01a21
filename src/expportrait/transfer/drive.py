"""Driving: one person's expression and head motion on another's head (paper, section 3.2; docs/drive.md)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expportrait.fit.displacement import Offsets
from expportrait.fit.store import FittedHead
from expportrait.head import JOINTS
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from expportrait.transfer.model import JAW, Transfer, motion_of, vertex_features

FACE = [JOINTS.index(name) for name in ("jaw", "left_eye", "right_eye")]
TURNS = [JOINTS.index(name) for name in ("global", "neck", "head")]


@dataclass
class Motion:
    """How a head moves over T frames: face (T, 3, 3) jaw and eyes, turns (T, 3, 3) global, neck and head, both
    axis-angle; place (T, 3) of the neck joint, m; ``interocular``, m, the moving person's own measure."""

    expression: Tensor
    face: Tensor
    turns: Tensor
    place: Tensor
    interocular: float

    @property
    def frames(self) -> int:
        return len(self.expression)


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
    u, _, v = torch.linalg.svd(matrices.mean(0))
    sign = torch.linalg.det(u @ v)
    return torch.cat([u[..., :2], u[..., 2:] * sign[..., None, None]], -1) @ v


def relative_turns(turns: Tensor, anchor: Tensor, onto: Tensor) -> Tensor:
    """Turns (T, 3, 3, 3) from ``anchor`` (3, 3, 3) on, on top of ``onto`` (3, 3, 3), each about the axes of the part
    that turns: a nod stays a nod, whichever way the head faces."""
    return onto @ anchor.transpose(-1, -2) @ turns


def facing(turns: Tensor) -> Tensor:
    """(..., 3, 3, 3) global, neck and head -> (..., 3, 3): where the head faces in camera space."""
    return turns[..., 0, :, :] @ turns[..., 1, :, :] @ turns[..., 2, :, :]


def facing_of(fitted: FittedHead) -> Tensor:
    """(T, 3, 3): where a fitted clip's head faces."""
    return facing(axis_angle_to_matrix(fitted.pose[:, TURNS]))


def face_towards(turns: Tensor, goal: Tensor) -> Tensor:
    """Turns (T, 3, 3, 3) with the head facing ``goal`` (T, 3, 3): the neck bends half of the way, the torso stays."""
    torso, neck = turns[:, 0], turns[:, 1]
    missing = matrix_to_axis_angle(facing(turns).transpose(-1, -2) @ goal)
    neck = neck @ axis_angle_to_matrix(missing / 2)
    return torch.stack([torso, neck, (torso @ neck).transpose(-1, -2) @ goal], 1)


def pose_target(
    target: FittedHead, frame: int, driver: Motion, anchor: int | None, relative: bool
) -> tuple[Tensor, Tensor]:
    """The target's pose (T, 10, 3) axis-angle and translation (T, 3) m.

    ``anchor``: the driver's frame that stands for the target's ``frame``; None: the driver's mean. What turns after it
    turns the target; not ``relative``: but the head faces where the driver's does. Camera, place and shoulders stay the
    target's: the neck moves from there, sideways in proportion to the faces' sizes, in depth by the driver's ratio, so
    that the target grows on the image as the driver does.
    """
    turns = axis_angle_to_matrix(driver.turns)
    depth = driver.place[:, 2]
    if anchor is None:
        start, x_y, z = mean_rotation(turns), driver.place[:, :2].mean(0), -(-depth).log().mean().exp()
    else:
        start, x_y, z = turns[anchor], driver.place[anchor, :2], depth[anchor]
    made = relative_turns(turns, start, axis_angle_to_matrix(target.pose[frame, TURNS]))
    if not relative:
        made = face_towards(made, facing(turns))
    pose = target.pose[frame].repeat(driver.frames, 1, 1)
    pose[:, FACE] = driver.face
    pose[:, TURNS] = matrix_to_axis_angle(made)
    here = target.translation[frame]
    moved = here[:2] + (driver.place[:, :2] - x_y) * interocular(target) / driver.interocular
    return pose, torch.cat([moved, (here[2] * depth / z)[:, None]], 1)


@torch.no_grad()
def transferred(target: FittedHead, driver: Motion, model: Transfer) -> Offsets:
    """(T, V, 3) m: m_d times the module's offsets on the target's head, eq. (9)."""
    rows = target.dynamic_vertices
    matrices = model.matrices(vertex_features(target.head, target.neutral(), rows))
    codes = model.encode(motion_of(driver.expression, driver.face[:, FACE.index(JAW)])[None])[0]
    mask = target.head.dynamic_mask[rows].unsqueeze(-1)

    @torch.no_grad()
    def some(frames: slice | Tensor) -> Tensor:
        return mask * model.decode(codes[frames][None], matrices[None])[0]

    return Offsets(driver.frames, some)


def driven(
    target: FittedHead, frame: int, driver: Motion, dynamic: Tensor | Offsets | None,
    anchor: int | None = 0, relative: bool = True, plain: bool = False,
) -> FittedHead:  # fmt: skip
    """The target's head with the driver's motion. ``dynamic`` (T, V, 3) m, None for no dynamic offsets; ``plain``:
    without D_s too, the body model alone. The rest: see ``pose_target``."""
    pose, translation = pose_target(target, frame, driver, anchor, relative)
    if dynamic is None:
        dynamic = target.static.new_zeros(1, len(target.dynamic_vertices), 3).expand(driver.frames, -1, -1)
    static = torch.zeros_like(target.static) if plain else target.static
    return replace(
        target, expression=driver.expression, pose=pose, translation=translation, static=static, dynamic=dynamic
    )


def still(target: FittedHead, frame: int, plain: bool = False) -> FittedHead:
    """The target's head as it is in one frame, T = 1."""
    one = slice(frame, frame + 1)
    static, dynamic = target.static, target.dynamic[one]
    if plain:
        static, dynamic = torch.zeros_like(static), torch.zeros_like(dynamic)
    return replace(target, expression=target.expression[one], pose=target.pose[one],
                   translation=target.translation[one], static=static, dynamic=dynamic)  # fmt: skip
