"""Rotations in the three forms the fit uses: axis-angle in stores, matrices in the head, 6D in optimisers."""

import torch
from torch import Tensor


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula. (..., 3) rad -> (..., 3, 3); differentiable at zero."""
    square = (axis_angle * axis_angle).sum(-1, keepdim=True).unsqueeze(-1)
    angle = square.clamp_min(1e-16).sqrt()
    small = square < 1e-8
    sinc = torch.where(small, 1 - square / 6, torch.sin(angle) / angle)
    cosc = torch.where(small, 0.5 - square / 24, (1 - torch.cos(angle)) / square.clamp_min(1e-16))
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.eye(3, dtype=skew.dtype, device=skew.device) + sinc * skew + cosc * (skew @ skew)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 3) rad, through the quaternion whose largest component is computed first (stable at pi)."""
    m = matrix
    diagonal = torch.stack(
        [
            1 + m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2],
            1 + m[..., 0, 0] - m[..., 1, 1] - m[..., 2, 2],
            1 - m[..., 0, 0] + m[..., 1, 1] - m[..., 2, 2],
            1 - m[..., 0, 0] - m[..., 1, 1] + m[..., 2, 2],
        ],
        -1,
    )
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    w, x, y, z = diagonal.unbind(-1)
    candidates = torch.stack(
        [torch.stack(row, -1) for row in ([w, a, b, c], [a, x, d, e], [b, d, y, f], [c, e, f, z])], -2
    )
    best = diagonal.argmax(-1)[..., None, None].expand(*diagonal.shape[:-1], 1, 4)
    quaternion = torch.nn.functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = quaternion[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    return quaternion[..., 1:] * torch.where(sine < 1e-7, torch.full_like(sine, 2.0), angle / sine.clamp_min(1e-12))


def nearest_rotation(matrix: Tensor) -> Tensor:
    """(..., 3, 3) any matrix, such as a mean of rotations -> the rotation nearest to it."""
    u, _, v = torch.linalg.svd(matrix)
    sign = torch.linalg.det(u @ v)
    return torch.cat([u[..., :2], u[..., 2:] * sign[..., None, None]], -1) @ v


def sixd_to_matrix(sixd: Tensor) -> Tensor:
    """Gram-Schmidt on the first two columns (Zhou et al. 2019). (..., 6) -> (..., 3, 3)."""
    first = torch.nn.functional.normalize(sixd[..., :3], dim=-1)
    second = sixd[..., 3:] - (first * sixd[..., 3:]).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def matrix_to_sixd(matrix: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 6): the first two columns."""
    return torch.cat([matrix[..., 0], matrix[..., 1]], -1)
