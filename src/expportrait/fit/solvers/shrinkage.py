"""What the frames of a clip say of D_t together, once each is solved by itself: noise is averaged and taken back.

Wrinkles are strong, few, and last for some frames. What a frame's estimates get wrong is new in the next frame, and
everywhere. Both are told from the clip itself, so that exact estimates are hardly touched.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from expportrait.fit.dynamic import DynamicField

WIDTH = 2.5  # frames, of the Gaussian over time where all that D_t holds is noise
REACH = 3  # of its standard deviations
STILL = 0.7  # share of the vertices that hold no wrinkle
NOISY = 0.12  # share of D_t's energy that is noise from which on it is taken back in full


def rows(dynamic: DynamicField) -> Iterator[tuple[Tensor, Tensor]]:
    """Each frame's number (1,) and D_t (n, 3)."""
    return ((one, dynamic[one][0]) for one in torch.arange(len(dynamic)).split(1))


def energy(dynamic: DynamicField) -> Tensor:
    """(n,) m^2: mean squared length of D_t less its mean over the clip."""
    mean = dynamic.mean()
    return sum((row - mean).square().sum(1) for _, row in rows(dynamic)) / len(dynamic)


def noise_share(dynamic: DynamicField) -> float:
    """0..1: how much of D_t's energy is new in every frame, as its second differences tell, of which such noise has
    six times its own energy."""
    before: list[Tensor] = []
    total = dynamic.shift.new_zeros(())
    for _, row in rows(dynamic):
        before = [*before[-2:], row]
        if len(before) == 3:
            total += (before[2] - 2 * before[1] + before[0]).square().sum()
    noise = float(total) / 6 / (len(dynamic) - 2)
    return min(noise / max(float(energy(dynamic).sum()), 1e-30), 1.0)


def average_over_time(dynamic: DynamicField, trust: Tensor, noise: float) -> None:
    """A Gaussian mean of each frame and its neighbours, as wide as D_t is noisy (``noise``: its share), weighted by the
    frames' ``trust`` (T,)."""
    width = WIDTH * noise
    reach = min(int(REACH * width + 0.5), len(dynamic) - 1)
    if not reach:
        return
    trust = trust.cpu()
    known: dict[int, Tensor] = {}  # as they were
    for t in range(len(dynamic)):
        for s in range(max(t - reach, 0), min(t + reach + 1, len(dynamic))):
            if s not in known:
                known[s] = dynamic[torch.tensor([s])][0]
        known.pop(t - reach - 1, None)
        at = torch.tensor(sorted(known))
        weight = trust[at] * torch.exp(-0.5 * ((at - t) / width).square())
        weight = (weight / weight.sum()).to(dynamic.device)
        mean = torch.einsum("s,snk->nk", weight, torch.stack([known[s] for s in at.tolist()]))
        dynamic.move(torch.tensor([t]), (mean - known[t])[None])


def take_back(dynamic: DynamicField, noise: float) -> None:
    """Scale D_t about its mean by e^2 / (e^2 + e_0^2) at every vertex, e its energy there over all frames and e_0 the
    one that ``STILL`` of the vertices keep below, or a part of it where less than ``NOISY`` of D_t is ``noise``: a step
    of reweighting of a sparse prior, one norm a vertex."""
    found, mean = energy(dynamic), dynamic.mean()
    share = found / (min(noise / NOISY, 1.0) * torch.quantile(found, STILL)).clamp_min(1e-30)
    loss = 1 / (1 + share.square())[:, None]
    for one, row in rows(dynamic):
        dynamic.move(one, (loss * (mean - row))[None])


@torch.no_grad()
def shrink(dynamic: DynamicField, trust: Tensor) -> None:
    """Both, where a clip has three frames or more; ``trust`` (T,) 0..1 of the frames' estimates."""
    if len(dynamic) > 2:
        noise = noise_share(dynamic)
        average_over_time(dynamic, trust, noise)
        take_back(dynamic, noise)
