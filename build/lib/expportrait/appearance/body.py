"""The body below the neck, whose motion a crop of the face shows next to nothing of."""

import torch
from torch import Tensor

from expportrait.head import Head
from expportrait.head.regions import smoothstep

FOLLOWS = (16.0, 48.0)  # px of 512 that a body is moved by: from noise of the fit to somebody who leans or walks
COLLAR, JAW = 0.1, 0.95  # of the neck's height: from here down a body, from here up a head


def drift(head: Head, pixels: Tensor, before: Tensor, regions: tuple[str, ...]) -> Tensor:
    """(B,) px: how far these regions lie from where they were, in the mean of their vertices. ``pixels`` (B, n_d, 2)
    and ``before`` (n_d, 2) px of the dense vertices."""
    chosen = torch.isin(
        head.regions, torch.tensor([head.REGIONS.index(name) for name in regions], device=pixels.device)
    )
    return (pixels[:, chosen] - before[chosen]).mean(1).norm(dim=1)


def head_share(head: Head) -> Tensor:
    """(n_d, 1): 1 on the head, 0 below the neck, with a smooth passage over the neck's height."""
    height, neck = head.dense.template[:, 1], head.regions == head.REGIONS.index("neck")
    ends = torch.quantile(height[neck], torch.tensor([COLLAR, JAW], device=height.device))
    passage = smoothstep(float(ends[0]), float(ends[1]), height)
    below = torch.where(head.regions == head.REGIONS.index("body"), torch.zeros_like(height), torch.ones_like(height))
    return torch.where(neck, passage, below)[:, None]
