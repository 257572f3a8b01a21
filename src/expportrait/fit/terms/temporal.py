"""L_tmp: second differences along the clip, of the coarse unknowns and of D_t."""

from collections.abc import Mapping

import torch
from torch import Tensor

from expportrait.fit.dynamic import DynamicField
from expportrait.fit.parameters import FRAME_JOINTS, HeadParameters
from expportrait.fit.terms.quadratic import MILLI
from expportrait.fit.terms.residuals import Terms, weighted


def evenly(expression: Tensor, rotation: Tensor, place: Tensor, w: Mapping[str, float]) -> Terms:
    """The values (..., k) of single frames whose second differences along the clip are L_tmp's residuals.
    ``expression`` (..., E), ``rotation`` (..., 6, 6) 6D, ``place`` (..., 3) with the log scale last."""
    found = {
        "temporal_expression": (expression, expression.shape[-1]),
        "temporal_pose": (rotation.flatten(-2), 6 * FRAME_JOINTS),
        "temporal_place": (place, 3),
    }
    return weighted(found, w)


def temporal_energies(p: HeadParameters, w: Mapping[str, float]) -> Terms:
    """L_tmp of a clip's expression, rotations and place; zero for fewer than three frames."""
    values = evenly(p.expression, p.rotation, torch.cat([p.place, p.log_scale.unsqueeze(-1)], -1), w)
    return {name: second_differences(x).square().sum() / len(x) for name, x in values.items()}


def second_differences(x: Tensor) -> Tensor:
    """(T, ...) -> (T - 2, ...) about all frames but the first and the last; none for fewer than three."""
    return x[2:] - 2 * x[1:-1] + x[:-2]


def offset_energy(dynamic: DynamicField, frames: Tensor, rows: Tensor, weight: float) -> Tensor:
    """L_tmp of D_t for a mini-batch of a clip of three frames or more: every second difference that it has a part in,
    over its size, so that its derivative is the clip's.

    ``rows`` (B, n_f, 3): D_t of ``frames`` (B,), ascending.
    """
    middle = torch.cat([frames - 1, frames, frames + 1]).clamp(1, len(dynamic) - 2).unique()
    needed = torch.cat([middle - 1, middle, middle + 1]).unique()
    field = dynamic[needed].index_copy(0, torch.searchsorted(needed, frames), rows)
    at = torch.searchsorted(needed, middle)
    change = field[at - 1] - 2 * field[at] + field[at + 1]
    return weight * MILLI**2 * change.square().sum() / rows[..., 0].numel()
