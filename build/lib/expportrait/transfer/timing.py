"""A motion over time: smoothed, and as it is at other times than those of its own frames."""

from collections.abc import Callable

import torch
from torch import Tensor

from expportrait.fit.displacement import Offsets
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle, nearest_rotation
from expportrait.transfer.motion import Motion

REACH = 3.0  # sigmas at which the Gaussian ends
NEAR = 1e-3  # of a frame: times that near are one time, as clocks are rounded
BLOCK = 512  # frames smoothed at once


def smoothed(moves: Motion, times: Tensor, sigma: float) -> Motion:
    """The motion under a Gaussian of ``sigma`` s, each frame by its own time: ``times`` (T,) s, ascending. Towards the
    ends the frames that are there count for all."""

    def mixed(values: Tensor) -> Tensor:
        blocks = (_around(times, torch.arange(first, min(first + BLOCK, len(times))), sigma)
                  for first in range(0, len(times), BLOCK))  # fmt: skip
        return torch.cat([_sum(shares, values[span]) for shares, span in blocks])

    def turned(turns: Tensor) -> Tensor:
        return matrix_to_axis_angle(nearest_rotation(mixed(axis_angle_to_matrix(turns))))

    def some(frames: slice | Tensor) -> Tensor:
        shares, span = _around(times, torch.arange(len(times))[_plain(frames)], sigma)
        return _sum(shares, moves.dynamic[span])

    dynamic = None if moves.dynamic is None else Offsets(moves.frames, some)
    return Motion(mixed(moves.expression), turned(moves.face), turned(moves.turns), mixed(moves.place),
                  moves.interocular, dynamic)  # fmt: skip


def resampled(moves: Motion, times: Tensor, wanted: Tensor) -> Motion:
    """The motion at the times ``wanted`` (T',) s of another clip, ``times`` (T,) s being its own; both count from their
    first frames. Between two frames it is on the straight way from the one to the other; after its last it rests."""
    times, wanted = times - times[0], wanted - wanted[0]
    after = torch.searchsorted(times, wanted).clamp(max=len(times) - 1)
    before = (after - 1).clamp_min(0)
    gap = (times[after] - times[before]).clamp_min(1e-9)
    share = ((wanted - times[before]) / gap).clamp(0, 1)
    share = torch.where(share < NEAR, 0, torch.where(share > 1 - NEAR, 1, share)).float()

    def between(frames: slice | Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
        first, second, part = before[_plain(frames)], after[_plain(frames)], share[_plain(frames)]
        start, end = read(first), read(second)
        return torch.lerp(start, end, part.to(start.device).reshape(-1, *[1] * (start.ndim - 1)))

    def turned(turns: Tensor) -> Tensor:
        start, end = turns[before], turns[after]
        part = share.to(turns.device).reshape(-1, 1, 1)
        first = axis_angle_to_matrix(start)
        way = matrix_to_axis_angle(first.transpose(-1, -2) @ axis_angle_to_matrix(end))
        made = matrix_to_axis_angle(first @ axis_angle_to_matrix(part * way))
        return torch.where(part == 0, start, torch.where(part == 1, end, made))

    def of(values: Tensor) -> Tensor:
        return between(slice(None), lambda frames: values[frames])

    dynamic = moves.dynamic
    if dynamic is not None:
        dynamic = Offsets(len(wanted), lambda frames: between(frames, lambda some: moves.dynamic[some]))
    return Motion(
        of(moves.expression), turned(moves.face), turned(moves.turns), of(moves.place), moves.interocular, dynamic
    )


def _plain(frames: slice | Tensor) -> slice | Tensor:
    return frames if isinstance(frames, slice) else frames.cpu()


def _around(times: Tensor, frames: Tensor, sigma: float) -> tuple[Tensor, slice]:
    """What each frame of a span has of these ``frames`` (B,): shares (B, n), and the span."""
    at = times[frames]
    first = int(torch.searchsorted(times, at.min() - REACH * sigma))
    last = int(torch.searchsorted(times, at.max() + REACH * sigma, right=True))
    away = (at[:, None] - times[first:last]) / sigma
    shares = torch.where(away.abs() <= REACH, torch.exp(-(away**2) / 2), 0)
    return (shares / shares.sum(1, keepdim=True)).float(), slice(first, last)


def _sum(shares: Tensor, values: Tensor) -> Tensor:
    """(B, n) shares of values (n, ...) -> (B, ...)."""
    return (shares.to(values.device) @ values.flatten(1)).reshape(len(shares), *values.shape[1:])
