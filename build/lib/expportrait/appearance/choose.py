"""Which of a clip's reference portraits a training window is made from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from expportrait.rng import random_generator

GOLDEN = (5**0.5 - 1) / 2  # its multiples, whole parts left out, fill 0..1 evenly from the first few on


def spread(
    facing: Tensor, starts: Sequence[int], window: int, references: Sequence[int], portraits: int, clip: str
) -> list[list[int]]:
    """Of each window ``portraits`` indices into ``references``, at distances of pose that are spread evenly.

    ``facing`` (T, 3, 3): where the head faces in each frame of the clip; ``starts``, ``references``: first frames of
    its windows, frames of its reference portraits. A window's references are ordered by the angle to the window's
    middle frame. One is taken from each of ``portraits`` equal parts of that order, at a place in it that moves on by
    the golden section from window to window; where it starts is drawn for each ``clip``, so that clips of a single
    window are spread too.
    """
    portraits = min(portraits, len(references))
    first = float(torch.rand((), generator=random_generator(0, "carry", clip)))
    chosen = []
    for number, start in enumerate(starts):
        turns = facing[list(references)].transpose(1, 2) @ facing[min(start + window // 2, len(facing) - 1)]
        # the angle's cosine falls as the angle grows; equal ones, as of a head that is still, keep the clip's order
        order = torch.argsort(-turns.diagonal(dim1=1, dim2=2).sum(1), stable=True).tolist()
        place = (first + number * GOLDEN) % 1
        chosen.append([order[int((k + place) / portraits * len(order))] for k in range(portraits)])
    return chosen
