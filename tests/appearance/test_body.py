"""What of the person moves with the head, and what stays where the portrait has it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from expportrait.appearance.body import head_share
from expportrait.appearance.carry import REACH, carried
from expportrait.appearance.portrait import portrait
from expportrait.head import Head
from tests.appearance.test_carry import SIZE, fitted, painted

__all__ = ["fitted"]


@pytest.mark.parametrize("body", [0.0, 0.3, 1.0])
def test_the_head_moves_whole_the_body_by_its_share_and_the_neck_in_between(body):
    head = Head.load(subdivisions=0)
    share, height = head_share(head, body)[:, 0], head.dense.template[:, 1]
    of = {name: share[head.regions == place] for place, name in enumerate(head.REGIONS)}
    assert all(bool((of[name] == 1).all()) for name in ("face", "lips", "scalp", "eye", "teeth", "tongue", "mouth"))
    assert torch.allclose(of["body"], torch.tensor(body))
    neck = head.regions == head.REGIONS.index("neck")
    rising = share[neck][torch.argsort(height[neck])]
    assert bool((rising.diff() >= -1e-6).all()) and float(rising[0]) == pytest.approx(body) and float(rising[-1]) == 1


def test_a_head_that_moves_aside_leaves_the_shoulders_and_what_is_far_from_it(fitted):
    image, mask = painted(fitted)
    moved = replace(fitted, translation=fitted.translation + torch.tensor([0.03, 0.0, 0.0]))
    shown = portrait(image, mask, fitted)
    (still, _), (along, _) = (next(carried(shown, moved, body=body)) for body in (0.0, 1.0))
    change = [np.abs(one[0].astype(int) - image).mean(-1) for one in (still, along)]
    head = fitted.head
    pixels = fitted.camera.project(fitted.vertices())[0].numpy().astype(int)
    low = pixels[(head.regions == head.REGIONS.index("body")).numpy()]
    low = low[((low >= 2) & (low < SIZE - 2)).all(1)]
    assert len(low) > 20
    assert change[0][low[:, 1], low[:, 0]].mean() < 3 < change[1][low[:, 1], low[:, 0]].mean()
    covered = np.argwhere(mask > 0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    away = np.sqrt(np.min([(rows - y) ** 2 + (columns - x) ** 2 for y, x in covered[::7]], 0))
    assert change[0][away > REACH[1] * SIZE / 512 + 12].max() <= 1
