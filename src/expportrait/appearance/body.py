"""The body below the neck, whose motion a crop of the face shows next to nothing of."""

import torch
from torch import Tensor

from expportrait.head import Head
from expportrait.head.regions import smoothstep

COLLAR, JAW = 0.1, 0.95  # of the neck's height: from here down a body, from here up a head


def head_share(head: Head, body: float) -> Tensor:
    """(n_d, 1): how much of its fitted motion each dense vertex takes, 1 on the head and ``body`` below the neck, with
    a smooth passage over the neck's height."""
    height, neck = head.dense.template[:, 1], head.regions == head.REGIONS.index("neck")
    ends = torch.quantile(height[neck], torch.tensor([COLLAR, JAW], device=height.device))
    passage = smoothstep(float(ends[0]), float(ends[1]), height)
    below = torch.where(head.regions == head.REGIONS.index("body"), torch.zeros_like(height), torch.ones_like(height))
    share = torch.where(neck, passage, below)
    return (body + (1 - body) * share)[:, None]
