"""Focal length and depth's shift from normals held against depth, on a surface that can be computed."""

import math

import pytest
import torch

from expportrait.fit.evidence.perspective import depth_shift, focal_length
from expportrait.fit.evidence.targets import TargetFile, Targets

SIZE, DISTANCE = 256, 1.1


def wavy(focal: float, disparity: bool = False, tilt: float = 0.0) -> tuple[Targets, float, float]:
    """A bulging, wavy disc seen by a camera of ``focal`` px, and its depth's scale and shift: d = scale z + shift.
    ``tilt``: rad, by which its normals are wrong, another way in every part of the picture."""
    axis = torch.arange(SIZE) + 0.5 - SIZE / 2
    u, v = axis.expand(SIZE, SIZE), -axis[:, None].expand(SIZE, SIZE)

    def depth(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return DISTANCE + 0.9e-5 * (u**2 + 0.7 * v**2) + 0.006 * torch.sin(u / 17) * torch.cos(v / 23)

    u, v = u.double().requires_grad_(), v.double().requires_grad_()
    z = depth(u, v)
    z_u, z_v = torch.autograd.grad(z.sum(), (u, v))
    u, v, z = u.detach(), v.detach(), z.detach()
    # Of points (u z / f, v z / f, -z): the normal is the cross product of their derivatives.
    along = torch.stack([(z + u * z_u) / focal, v * z_u / focal, -z_u], -1)
    up = torch.stack([u * z_v / focal, (z + v * z_v) / focal, -z_v], -1)
    normal = torch.cross(along, up, dim=-1)
    normal = normal + normal.norm(dim=-1, keepdim=True) * tilt * torch.stack(
        [torch.sin(u / 40 + 1), torch.cos(v / 35), 0 * u], -1
    )
    normal = torch.nn.functional.normalize(normal, dim=-1)
    mask = (u**2 + v**2 < (0.42 * SIZE) ** 2).float()
    value = 1 / z if disparity else z
    scale, shift = 1.7, -0.8
    maps = normal * mask[..., None], (scale * value + shift) * mask, mask, mask
    return Targets(*(x.float()[None] for x in maps), disparity), scale, shift


def file_of(targets: Targets) -> TargetFile:
    file = TargetFile(1, SIZE, targets.disparity)
    file[slice(0, 1)] = targets
    return file


@pytest.mark.parametrize("disparity", [False, True])
@pytest.mark.parametrize("true", [2.2, 4.0])
def test_maps_that_agree_tell_the_focal_length(true: float, disparity: bool):
    file = file_of(wavy(true * SIZE, disparity)[0])
    found = focal_length(file, torch.tensor([0]), 3.0 * SIZE) / SIZE
    assert abs(math.log(found / true)) < 0.5 * abs(math.log(3.0 / true))


def test_maps_that_disagree_leave_it_near_where_it_was():
    file = file_of(wavy(2.2 * SIZE, tilt=0.15)[0])
    assert focal_length(file, torch.tensor([0]), 3.0 * SIZE) / SIZE == pytest.approx(3.0, rel=0.2)


@pytest.mark.parametrize("disparity", [False, True])
def test_the_shift_is_taken_off(disparity: bool):
    targets, _, shift = wavy(3.0 * SIZE, disparity)
    # d + c is proportional to depth (or disparity) where c = -shift.
    relief = targets.depth[targets.mask > 0]
    assert depth_shift(targets, 3.0 * SIZE) == pytest.approx(-shift, abs=0.05 * float((relief - shift).mean()))


def test_nothing_to_see_says_nothing():
    targets, _, _ = wavy(3.0 * SIZE)
    empty = Targets(targets.normals * 0, targets.depth, targets.mask * 0, targets.confidence)
    assert depth_shift(empty, 3.0 * SIZE) is None
    assert focal_length(file_of(empty), torch.tensor([0]), 700.0) == 700.0
