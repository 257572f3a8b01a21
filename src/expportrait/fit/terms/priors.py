"""What is expected of a head before it is seen: the priors of eq. (7) and L_tmp of the coarse unknowns, each once.

A term is a list of residuals. Its energy, weight included, is the sum of their squares, as a mean over the frames. Adam
follows the gradient of the energies (landmarks.py); Gauss-Newton takes the residuals and their derivatives as rows
(newton.py). A term has the name of its weight in the settings, without the ``w_``.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from expportrait.fit.parameters import FRAME_JOINTS, HeadParameters
from expportrait.head.rotation import sixd_to_matrix
from expportrait.settings.config import Proxy

Terms = dict[str, Tensor]

CLOSED = 20  # times w_jaw: the lower teeth would pass the upper


def chordal(matrices: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 9), whose squares sum to 3 - trace: of a small rotation the squared angle, rad^2."""
    eye = torch.eye(3, dtype=matrices.dtype, device=matrices.device)
    return ((matrices - eye) / math.sqrt(2)).flatten(-2)


def of_frame(expression: Tensor, matrices: Tensor, mean_torso: Tensor, s: Proxy) -> Terms:
    """Residuals (..., k) of single frames: ``expression`` (..., E), ``matrices`` (..., 6, 3, 3) of the frame's joints;
    ``mean_torso`` (3, 3): the root's rotation, averaged over the clip."""
    root, neck, head, jaw, left, right = chordal(matrices).unbind(-2)
    opening = matrices[..., 3, 2, 1]  # the sine of the jaw's angle
    return {
        "expression": math.sqrt(s.w_expression / expression.shape[-1]) * expression,
        "neck": math.sqrt(s.w_neck) * torch.cat([neck, head], -1),
        "torso": math.sqrt(s.w_torso) * root,
        "torso_motion": math.sqrt(s.w_torso_motion) * (matrices[..., 0, :, :] - mean_torso).flatten(-2),
        "jaw": math.sqrt(s.w_jaw) * torch.cat([jaw, math.sqrt(CLOSED) * torch.relu(-opening)[..., None]], -1),
        "eyes": math.sqrt(s.w_eyes) * torch.cat([left, right, left - right], -1),
    }


def of_clip(shape: Tensor, shoulders: Tensor, log_focal: Tensor, w_focal: float, s: Proxy) -> Terms:
    """Residuals (k,) of what all frames share: ``shape`` (S,), ``shoulders`` (4, 3, 3), and ``log_focal`` (), the
    focal length's logarithm less the one expected."""
    return {
        "shape": math.sqrt(s.w_shape / len(shape)) * shape,
        "shoulders": math.sqrt(s.w_shoulders) * chordal(shoulders).flatten(),
        "focal": math.sqrt(w_focal) * log_focal[None],
    }


def of_bias(turn: Tensor, s: Proxy) -> Terms:
    """Residuals (k,) of the bias of the normals (..., ) rad."""
    return {"normal_bias": math.sqrt(s.w_normal_bias / turn.numel()) * turn.flatten()}


def evenly(expression: Tensor, rotation: Tensor, place: Tensor, s: Proxy) -> Terms:
    """What of single frames should move evenly, (..., k): its second differences along the clip are L_tmp's residuals.
    ``expression`` (..., E), ``rotation`` (..., 6, 6) 6D, ``place`` (..., 3) with the log scale last."""
    return {
        "temporal_expression": math.sqrt(s.w_temporal_expression / expression.shape[-1]) * expression,
        "temporal_pose": math.sqrt(s.w_temporal_pose / (6 * FRAME_JOINTS)) * rotation.flatten(-2),
        "temporal_place": math.sqrt(s.w_temporal_place / 3) * place,
    }


def energies(residuals: Terms) -> Terms:
    """The sum of the squares of the residuals (..., k), as a mean over the frames."""
    return {name: value.square().sum(-1).mean() for name, value in residuals.items()}


def numbers(terms: Terms) -> dict[str, float]:
    """The values of terms (), read from the device at once."""
    return dict(zip(terms, torch.stack([x.detach() for x in terms.values()]).tolist(), strict=True))


def rows_of(residuals: Callable[..., Terms], unknowns: int, *frames: Tensor) -> tuple[Tensor, dict[str, int]]:
    """Gauss-Newton's rows (B, k, unknowns + 1): derivatives of the residuals by a step from where they are, and last
    the residuals; half the squares of these are the energies. And the terms in order, with the rows that each has.

    ``residuals``: of a step (unknowns,) and of what ``frames`` (B, ...) each hold for one frame.
    """
    sizes: dict[str, int] = {}

    def flat(step: Tensor, *frame: Tensor) -> tuple[Tensor, Tensor]:
        terms = residuals(step, *frame)
        sizes.update({name: len(value) for name, value in terms.items()})
        values = math.sqrt(2) * torch.cat(list(terms.values()))
        return values, values

    derive = torch.func.vmap(torch.func.jacfwd(flat, has_aux=True), (None, *(0 for _ in frames)))
    change, values = derive(frames[0].new_zeros(unknowns), *frames)
    return torch.cat([change, values[..., None]], -1), sizes


def prior_energies(p: HeadParameters, log_focal: float, s: Proxy) -> Terms:
    """Every prior of a clip whose focal length is expected to be ``exp(log_focal)`` px."""
    matrices, shoulders = sixd_to_matrix(p.rotation), sixd_to_matrix(p.shoulders)
    frames = of_frame(p.expression, matrices, matrices[:, 0].mean(0), s)
    return energies(frames | of_clip(p.shape, shoulders, p.log_focal - log_focal, s.w_focal, s))


def temporal_energies(p: HeadParameters, s: Proxy) -> Terms:
    """L_tmp of a clip's expression, rotations and place; zero for fewer than three frames."""
    values = evenly(p.expression, p.rotation, torch.cat([p.place, p.log_scale.unsqueeze(-1)], -1), s)
    return {name: second_differences(x).square().sum() / len(x) for name, x in values.items()}


def second_differences(x: Tensor) -> Tensor:
    """(T, ...) -> (T - 2, ...) about all frames but the first and the last; none for fewer than three."""
    return x[2:] - 2 * x[1:-1] + x[:-2]
