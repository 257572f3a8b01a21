"""Driving: one person's expression and head motion on another's head (paper, section 3.2; docs/drive.md)."""

from dataclasses import replace

import torch
from torch import Tensor

from expportrait.fit.displacement import Offsets
from expportrait.fit.store import FittedHead
from expportrait.head.areas import weight
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from expportrait.settings.sections import Drive
from expportrait.transfer.gaze import EYES, into_camera
from expportrait.transfer.model import JAW, Transfer, motion_of, vertex_features
from expportrait.transfer.motion import FACE, TURNS, Motion, Part, interocular, mean_rotation, scaled_turns

PLAIN = Drive()  # without controls


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


def head_target(target: FittedHead, frame: int, part: Part, gain: float = 1.0) -> tuple[Tensor, Tensor]:
    """The target's turns (T, 3, 3) axis-angle of torso, neck and head, and translation (T, 3) m.

    What turns after the part's anchor turns the target's frame ``frame``; not ``relative``: but the head faces where
    the driver's does. Camera, place and shoulders stay the target's: the neck moves from there, sideways in proportion
    to the faces' sizes, in depth by the driver's ratio, so that the target grows on the image as the driver does.
    ``gain``: times as far from the target's own pose.
    """
    driver, of_start = part.moves, part.start
    turns, depth = axis_angle_to_matrix(driver.turns), driver.place[:, 2]
    first, far = axis_angle_to_matrix(of_start.turns), of_start.place[:, 2]
    if part.anchor is None:
        start, x_y, z = mean_rotation(first), of_start.place[:, :2].mean(0), -(-far).log().mean().exp()
    else:
        start, x_y, z = first[part.anchor], of_start.place[part.anchor, :2], far[part.anchor]
    own, here = axis_angle_to_matrix(target.pose[frame, TURNS]), target.translation[frame]
    made = relative_turns(turns, start, own)
    if not part.relative:
        made = face_towards(made, facing(turns))
    moved = here[:2] + (driver.place[:, :2] - x_y) * interocular(target) / driver.interocular
    place = torch.cat([moved, (here[2] * depth / z)[:, None]], 1)
    if gain != 1:
        goal = scaled_turns(facing(made), facing(own), gain)
        made = face_towards(scaled_turns(made, own, gain), goal)
        aside, far = torch.lerp(here[:2], place[:, :2], gain), here[2] * (place[:, 2:] / here[2]) ** gain
        place = torch.cat([aside, far], 1)
    return matrix_to_axis_angle(made), place


def near(place: Tensor, here: Tensor, most: float) -> Tensor:
    """``place`` (T, 3) m, at most ``most`` m from ``here`` (3,): small ways as they are, long ones shortened."""
    way = place - here
    length = way.norm(dim=1, keepdim=True).clamp_min(1e-9)
    return here + way * (most * torch.tanh(length / most) / length)


def face_target(
    target: FittedHead, frame: int, part: Part, s: Drive, share: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | Offsets, Tensor]:
    """The target's expression (T, E), turns of jaw and eyes (T, 3, 3) axis-angle, dynamic offsets (T, V, 3) m, and the
    expression (E,) from which the gains count: neutral, or where ``relative`` the target's own in ``frame``, on which
    what changes after the part's anchor is put. ``share`` (n_d,): the areas' gains, ``areas.weight``."""
    moves, dynamic = part.moves, part.moves.dynamic
    scale = torch.tensor([s.gain_jaw, s.gain_gaze, s.gain_gaze], device=moves.face.device)[:, None]
    expression, face, start = moves.expression, moves.face, torch.zeros_like(moves.expression[0])
    base = anchor = None
    if part.relative:
        then, turned, anchor = part.start.face_at(part.anchor)
        own = axis_angle_to_matrix(target.pose[frame, FACE])
        start, expression = target.expression[frame], expression - then
        made = relative_turns(axis_angle_to_matrix(face), turned, own)
        face = matrix_to_axis_angle(scaled_turns(made, own, scale))
        base = target.dynamic[slice(frame, frame + 1)][0]
    elif (s.gain_jaw, s.gain_gaze) != (1, 1):
        face = scale * face
    if s.gain_expression != 1:
        expression = s.gain_expression * expression
    if part.relative:
        expression = start + expression
    if dynamic is not None and (part.relative or share is not None or s.gain_expression != 1):
        factor = moves.expression.new_full((1, 1), s.gain_expression)
        if share is not None:
            factor = factor * share[target.dynamic_vertices, None]
        dynamic = _moved(dynamic, moves.frames, factor, anchor, base)
    return expression, face, dynamic, start


def _moved(
    dynamic: Tensor | Offsets, frames: int, factor: Tensor, anchor: Tensor | None, base: Tensor | None
) -> Offsets:
    """``base`` plus ``factor`` times what the offsets are beyond ``anchor``."""

    def some(of: slice | Tensor) -> Tensor:
        found = dynamic[of] if anchor is None else dynamic[of] - anchor
        return factor * found if base is None else base + factor * found

    return Offsets(frames, some)


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
    """The target's head with the driver's motion, all of it and as it is. ``dynamic`` (T, V, 3) m, None for no dynamic
    offsets; ``anchor`` and ``relative`` of the pose, see ``Part``; ``plain``: see ``steered``."""
    moves = replace(driver, dynamic=dynamic)
    return steered(target, frame, Part(moves, anchor, False), Part(moves, anchor, relative), PLAIN, plain)


def steered(
    target: FittedHead, frame: int, face: Part, pose: Part, s: Drive = PLAIN, plain: bool = False
) -> FittedHead:
    """The target's head with the expression of ``face`` and the pose of ``pose``, T frames both, as the controls of
    ``s`` have them: gains, hold and gaze. ``plain``: without D_s too, the body model alone."""
    count, share = pose.moves.frames, None
    made = replace(target, static=torch.zeros_like(target.static) if plain else target.static,
                   pose=target.pose[frame].repeat(count, 1, 1))  # fmt: skip
    none = target.static.new_zeros(1, len(target.dynamic_vertices), 3)
    if "expression" in s.hold:
        own = target.dynamic[slice(frame, frame + 1)] if face.moves.dynamic is not None else none
        made.expression, made.dynamic = target.expression[frame].repeat(count, 1), own.expand(count, -1, -1)
    else:
        share = weight(target.head, {name: getattr(s, f"gain_{name}") for name in ("mouth", "eyes", "lids", "brows")})
        made.expression, made.pose[:, FACE], dynamic, start = face_target(target, frame, face, s, share)
        made.dynamic = none.expand(count, -1, -1) if dynamic is None else dynamic
    if share is not None:
        made.weight, made.start = share, start
    if "pose" in s.hold:
        made.translation = target.translation[frame].repeat(count, 1)
    else:
        made.pose[:, TURNS], place = head_target(target, frame, pose, s.gain_pose)
        made.translation = place if s.max_move is None else near(place, target.translation[frame], s.max_move)
    if s.gaze == "camera":
        made.pose[:, EYES] = into_camera(made)
    return made


def still(target: FittedHead, frame: int, plain: bool = False) -> FittedHead:
    """The target's head as it is in one frame, T = 1."""
    one = slice(frame, frame + 1)
    static, dynamic = target.static, target.dynamic[one]
    if plain:
        static, dynamic = torch.zeros_like(static), torch.zeros_like(dynamic)
    return replace(target, expression=target.expression[one], pose=target.pose[one],
                   translation=target.translation[one], static=static, dynamic=dynamic)  # fmt: skip
