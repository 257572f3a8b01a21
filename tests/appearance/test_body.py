"""What of the person moves with the head, and what stays where the portrait has it."""

from dataclasses import replace

import numpy as np
import torch

from expportrait.appearance.body import head_share
from expportrait.appearance.carry import REACH, carried
from expportrait.appearance.portrait import portrait
from expportrait.head import Head
from tests.appearance.test_carry import SIZE, fitted, painted

__all__ = ["fitted"]


def test_the_head_moves_whole_the_body_not_and_the_neck_in_between():
    head = Head.load(subdivisions=0)
    share, height = head_share(head)[:, 0], head.dense.template[:, 1]
    of = {name: share[head.regions == place] for place, name in enumerate(head.REGIONS)}
    assert all(bool((of[name] == 1).all()) for name in ("face", "lips", "scalp", "eye", "teeth", "tongue", "mouth"))
    assert bool((of["body"] == 0).all())
    neck = head.regions == head.REGIONS.index("neck")
    rising = share[neck][torch.argsort(height[neck])]
    assert bool((rising.diff() >= -1e-6).all()) and float(rising[0]) == 0 and float(rising[-1]) == 1


def moved_by(fitted, metres, body=0.0, **options):
    """The picture of the painted head, moved aside and carried along; the portrait, its mask, and the mask after."""
    image, mask = painted(fitted)
    moved = replace(fitted, translation=fitted.translation + torch.tensor([metres, 0.0, 0.0]))
    pictures, _ = next(carried(portrait(image, mask, fitted), moved, body=body, **options))
    return pictures[0].astype(int), image.astype(int), mask, painted(moved)[1]


def test_a_head_that_moves_a_little_leaves_the_shoulders_and_what_is_far_from_it(fitted):
    (still, image, mask, _), (along, *_) = (moved_by(fitted, 0.008, body) for body in (0.0, 1.0))
    change = [np.abs(one - image).mean(-1) for one in (still, along)]
    head = fitted.head
    pixels = fitted.camera.project(fitted.vertices())[0].numpy().astype(int)
    low = pixels[(head.regions == head.REGIONS.index("body")).numpy()]
    low = low[((low >= 2) & (low < SIZE - 2)).all(1)]
    assert len(low) > 20
    assert change[0][low[:, 1], low[:, 0]].mean() < 2 < change[1][low[:, 1], low[:, 0]].mean()
    covered = np.argwhere(mask > 0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    away = np.sqrt(np.min([(rows - y) ** 2 + (columns - x) ** 2 for y, x in covered[::7]], 0))
    assert change[0][away > REACH[1] * SIZE / 512 + 12].max() <= 1


def test_somebody_who_moves_far_is_not_seen_twice(fitted):
    picture, _, mask, after = moved_by(fitted, -0.14)
    left = (mask > 0) & (after == 0)
    left &= np.hypot(*np.gradient(after.astype(float))) == 0
    left[2 * SIZE // 3 :] = False  # of shoulders the picture's edge had cut some off
    assert left.sum() > 1000
    behind = np.abs(picture - [60, 90, 120]).max(-1) < 60  # the background's colours, waves and all
    assert behind[left].mean() > 0.9


def test_a_body_that_may_not_follow_stays_however_far_the_head_goes(fitted):
    picture, image, *_ = moved_by(fitted, -0.14, body_follows=False)
    followed, *_ = moved_by(fitted, -0.14)
    low = np.s_[-SIZE // 12 :]
    assert np.abs(picture[low] - image[low]).mean() < 2 < np.abs(followed[low] - image[low]).mean()
