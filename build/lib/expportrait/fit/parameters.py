"""The unknowns of one clip's coarse head: what the optimisers move and the stores keep."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from expportrait.head import JOINTS, Head
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_sixd, sixd_to_matrix
from expportrait.render import Camera

FRAME_JOINTS, CLIP_JOINTS = 6, 4  # global, neck, head, jaw, eyes a frame; collars and shoulders a clip


@dataclass
class HeadParameters:
    """Shape, expression, pose, place and focal length of T frames (method: symbols table).

    ``place`` and ``log_scale`` hold the translation as the neck joint's image position (fractions of the image size
    from its centre) and the log of metres per pixel there, so that a change of focal length keeps the projected size.
    """

    shape: Tensor  # (S,)
    expression: Tensor  # (T, E)
    rotation: Tensor  # (T, 6, 6) 6D
    shoulders: Tensor  # (4, 6) 6D
    place: Tensor  # (T, 2)
    log_scale: Tensor  # (T,)
    log_focal: Tensor  # ()  log px
    size: int  # side of the square image, px

    @classmethod
    def neutral(cls, head: Head, frames: int, size: int, focal: float) -> "HeadParameters":
        """The template, looking at the camera; ``focal`` px of an image of ``size`` px."""
        identity = torch.tensor([1.0, 0, 0, 0, 1, 0], device=head.coarse.template.device)
        new = {"device": identity.device}
        return cls(
            shape=torch.zeros(head.n_shape, **new),
            expression=torch.zeros(frames, head.n_expression, **new),
            rotation=identity.repeat(frames, FRAME_JOINTS, 1),
            shoulders=identity.repeat(CLIP_JOINTS, 1),
            place=torch.zeros(frames, 2, **new),
            log_scale=torch.full((frames,), math.log(0.5 / size), **new),
            log_focal=torch.tensor(math.log(focal), **new),
            size=size,
        )

    @property
    def frames(self) -> int:
        return len(self.place)

    def finite(self) -> bool:
        """Whether all are numbers."""
        return all(bool(torch.isfinite(x).all()) for x in vars(self).values() if isinstance(x, Tensor))

    def matrices(self, frames: Tensor | slice = slice(None)) -> Tensor:
        """(B, 10, 3, 3) joint rotations of the chosen frames, in the order of ``head.JOINTS``."""
        rotation = self.rotation[frames]
        shoulders = self.shoulders.expand(len(rotation), -1, -1)
        return sixd_to_matrix(torch.cat([rotation, shoulders], 1))

    def translation(self, frames: Tensor | slice = slice(None)) -> Tensor:
        """(B, 3) position of the neck joint in camera space, m."""
        return self.place_in_space(*self.place[frames].unbind(-1), self.log_scale[frames], self.log_focal)

    def place_in_space(self, x: Tensor, y: Tensor, log_scale: Tensor, log_focal: Tensor) -> Tensor:
        """(..., 3) m of the neck joint: ``x``, ``y``, ``log_scale`` (...,) and ``log_focal`` as in the fields."""
        focal = log_focal.exp().expand_as(x)
        return log_scale.exp().unsqueeze(-1) * torch.stack([x * self.size, -y * self.size, -focal], -1)

    def camera(self, size: int | None = None) -> Camera:
        """The clip's camera, for the image resampled to ``size`` pixels a side (default: the full one)."""
        size = size or self.size
        focal = self.log_focal.exp() * (size / self.size)
        return Camera(focal, size / 2, size / 2, size, size)

    def pose(self) -> Tensor:
        """(T, 10, 3) axis-angle, rad."""
        return matrix_to_axis_angle(self.matrices())

    def set_pose(self, pose: Tensor, translation: Tensor) -> None:
        """Overwrite rotations by ``pose`` (T, 10, 3) axis-angle and the place by ``translation`` (T, 3) m."""
        sixd = matrix_to_sixd(axis_angle_to_matrix(pose))
        self.rotation, self.shoulders = sixd[:, :FRAME_JOINTS].clone(), sixd[0, FRAME_JOINTS:].clone()
        scale = -translation[:, 2] / self.log_focal.exp()
        self.log_scale = scale.log()
        self.place = torch.stack([translation[:, 0], -translation[:, 1]], -1) / (scale * self.size).unsqueeze(-1)

    def turn_body(self, turns: Tensor) -> None:
        """Turn joints by ``turns`` (10, 3) axis-angle, in their own frames, in every frame; neck and head, whose own
        turns are zero, stay where they are."""
        step = axis_angle_to_matrix(turns)
        matrices = self.matrices() @ step
        neck = JOINTS.index("neck")
        matrices[:, neck] = step[0].t() @ matrices[:, neck]
        sixd = matrix_to_sixd(matrices)
        self.rotation, self.shoulders = sixd[:, :FRAME_JOINTS].clone(), sixd[0, FRAME_JOINTS:].clone()

    def tensors(self) -> dict[str, Tensor]:
        """All fields but the size."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def copy(self) -> "HeadParameters":
        """Values of their own, without gradients."""
        return HeadParameters(**{k: v.detach().clone() for k, v in self.tensors().items()}, size=self.size)

    def to(self, device: torch.device | str) -> "HeadParameters":
        return HeadParameters(**{k: v.to(device) for k, v in self.tensors().items()}, size=self.size)
