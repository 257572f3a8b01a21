"""The priors of eq. (7), which say what a head is like before it is seen, each once.

A term is a list of residuals. Its energy, weight included, is the sum of their squares, as a mean over the frames. Adam
follows the gradient of the energies (landmark_fit); Gauss-Newton takes the residuals and their derivatives as rows
(newton). Terms without a weight are left out.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from expportrait.fit.parameters import HeadParameters
from expportrait.fit.terms.residuals import Terms, energies, weighted
from expportrait.head.rotation import sixd_to_matrix

CLOSED = 20  # times the jaw's term: the lower teeth would pass the upper


def chordal(matrices: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 9), whose squares sum to 3 - trace: of a small rotation the squared angle, rad^2."""
    eye = torch.eye(3, dtype=matrices.dtype, device=matrices.device)
    return ((matrices - eye) / math.sqrt(2)).flatten(-2)


def outside(activation: Tensor) -> Tensor:
    """(..., U) -> (..., 2 U): by how much activations of face units lie below 0 and above 1. Muscles pull, they do not
    push: a unit below 0 takes what belongs to the neutral face, D_s, or to wrinkles, D_t."""
    return torch.cat([torch.relu(-activation), torch.relu(activation - 1)], -1)


def of_frame(
    expression: Tensor,
    matrices: Tensor,
    mean_torso: Tensor,
    w: Mapping[str, float],
    units: Tensor | None = None,
    expected: Tensor | None = None,
) -> Terms:
    """Residuals (..., k) of single frames: ``expression`` (..., E), ``matrices`` (..., 6, 3, 3) of the frame's joints;
    ``mean_torso`` (3, 3): the root's rotation, averaged over the clip; ``units``: the head's ``bounded_units``;
    ``expected`` (..., E): the expression that a network sees, NaN where it sees none."""
    root, neck, head, jaw, left, right = chordal(matrices).unbind(-2)
    opening = matrices[..., 3, 2, 1]  # the sine of the jaw's angle
    found = {
        "expression": (expression, expression.shape[-1]),
        "neck": (torch.cat([neck, head], -1), 1),
        "torso": (root, 1),
        "torso_motion": ((matrices[..., 0, :, :] - mean_torso).flatten(-2), 1),
        "jaw": (torch.cat([jaw, math.sqrt(CLOSED) * torch.relu(-opening)[..., None]], -1), 1),
        "eyes": (torch.cat([left, right, left - right], -1), 1),
    }
    if units is not None:
        found["activation"] = outside(expression @ units), units.shape[1]
    if expected is not None:
        found["blendshapes"] = (expression - expected).nan_to_num(), expression.shape[-1]
    return weighted(found, w)


def of_clip(shape: Tensor, shoulders: Tensor, log_focal: Tensor, w: Mapping[str, float]) -> Terms:
    """Residuals (k,) of what all frames share: ``shape`` (S,), ``shoulders`` (4, 3, 3), and ``log_focal`` (), the
    focal length's logarithm less the one expected."""
    found = {
        "shape": (shape, len(shape)),
        "shoulders": (chordal(shoulders).flatten(), 1),
        "focal": (log_focal[None], 1),
    }
    return weighted(found, w)


def of_bias(turn: Tensor, w: Mapping[str, float]) -> Terms:
    """Residuals (k,) of the bias of the normals (..., ) rad."""
    return weighted({"normal_bias": (turn.flatten(), turn.numel())}, w)


def prior_energies(
    p: HeadParameters,
    log_focal: float,
    w: Mapping[str, float],
    units: Tensor | None = None,
    expected: Tensor | None = None,
) -> Terms:
    """Every prior of a clip whose focal length is expected to be ``exp(log_focal)`` px; ``units`` and ``expected``
    (T, E) as in ``of_frame``."""
    matrices, shoulders = sixd_to_matrix(p.rotation), sixd_to_matrix(p.shoulders)
    frames = of_frame(p.expression, matrices, matrices[:, 0].mean(0), w, units, expected)
    return energies(frames | of_clip(p.shape, shoulders, p.log_focal - log_focal, w))
