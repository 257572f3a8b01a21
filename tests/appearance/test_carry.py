"""A painted head whose picture is known in every pose: what is carried over, and what is called unseen."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from benchmarks import made_people as make
from expportrait.appearance import carry
from expportrait.appearance.carry import carried
from expportrait.appearance.portrait import portrait
from expportrait.fit.store import FittedHead, load_proxy
from expportrait.head import REGIONS, Head
from expportrait.render import render, vertex_normals
from expportrait.store import Store
from expportrait.transfer.drive import still

SIZE = 160


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> FittedHead:
    """A person in one frame, at ``SIZE`` px, who looks straight ahead."""
    results, head = tmp_path_factory.mktemp("results"), Head.load(subdivisions=0)
    make.proxy_store(results, head, "ann-1", frames=1)
    one = still(load_proxy(Store(results / "proxy" / "ann-1.zarr"), head), 0)
    camera = one.camera.resized(SIZE, SIZE)
    return replace(one, pose=torch.zeros_like(one.pose), camera=camera)


def turned(fitted: FittedHead, yaw: float, jaw: float = 0.0) -> FittedHead:
    """The same head turned, and with its mouth open, rad."""
    pose = fitted.pose.clone()
    pose[:, 2, 1], pose[:, 3, 0] = yaw, jaw
    return replace(fitted, pose=pose)


def clip(fitted: FittedHead, yaws: list[float]) -> FittedHead:
    """The same head in several frames, turned in each."""
    return replace(
        fitted,
        pose=torch.cat([turned(fitted, yaw).pose for yaw in yaws]),
        expression=fitted.expression.expand(len(yaws), -1),
        translation=fitted.translation.expand(len(yaws), -1),
        dynamic=fitted.dynamic.expand(len(yaws), -1, -1),
    )


def painted(fitted: FittedHead) -> tuple[np.ndarray, np.ndarray]:
    """(SIZE, SIZE, 3) u8 of the head, coloured by where a vertex lies at rest, before waves; and its coverage, u8."""
    template = fitted.head.dense.template
    colours = 128 + 90 * torch.sin(60 * template)
    maps = render(fitted.vertices(), fitted.head.dense_faces, fitted.camera, {"paint": colours}, cull=True)
    waves = np.sin(np.mgrid[:SIZE, :SIZE].sum(0) / 9)
    behind = np.stack([60 + 20 * waves, 90 - 10 * waves, 120 + 0 * waves], -1)
    covered = maps.coverage[0, ..., None].numpy()
    image = covered * maps.attributes["paint"][0].numpy() + (1 - covered) * behind
    return image.round().astype(np.uint8), (255 * covered[..., 0]).astype(np.uint8)


def moved(fitted: FittedHead, made: FittedHead) -> tuple[np.ndarray, np.ndarray]:
    (pictures, seen), *rest = carried(portrait(*painted(fitted), fitted), made)
    assert not rest
    return pictures[0].astype(int), seen[0]


def test_in_its_own_pose_the_portrait_is_itself(fitted):
    picture, seen = moved(fitted, fitted)
    own, mask = painted(fitted)
    error = np.abs(picture - own)
    assert error.mean() < 1 and np.percentile(error, 99) < 16, "resampled at the rim"
    assert_array_equal(picture[mask == 0][:50], own[mask == 0][:50], "far from the head nothing is touched")
    assert (seen[mask == 0] > 250).mean() > 0.97 and (seen[mask > 0] > 128).mean() > 0.9


@pytest.mark.parametrize("yaw", [0.25, -0.25])
def test_what_was_seen_is_where_the_turned_head_has_it(fitted, yaw):
    made = turned(fitted, yaw)
    picture, seen = moved(fitted, made)
    truth, mask = painted(made)
    inside = (mask > 0) & (seen > 230)
    held = np.abs(painted(fitted)[0].astype(int) - truth)[inside].mean()
    assert inside.sum() > 0.6 * (mask > 0).sum()
    assert np.abs(picture - truth)[inside].mean() < 0.35 * held


def test_what_turns_into_view_is_unseen(fitted):
    """A turn of 0.7 rad shows a cheek and an ear that the portrait saw edge on or not at all."""
    made = turned(fitted, 0.7)
    seen, face = moved(fitted, made)[1], painted(made)[1] > 0
    here, before = (head.vertices()[0] for head in (made, fitted))
    from_front, now = (facing(points, made.head) for points in (before, here))
    shows = np.zeros_like(face)
    at = made.camera.project(here).round().long().clamp(0, SIZE - 1)
    depth = render(here[None], made.head.dense_faces, made.camera, cull=True).depth[0]
    front = (made.camera.clip(here[None])[0, :, 3] - depth[at[:, 1], at[:, 0]]).abs() < 0.004
    chosen = front & (now > 0.6) & (from_front < 0)
    assert chosen.sum() > 5
    shows[at[chosen, 1], at[chosen, 0]] = True
    assert seen[shows].mean() < 60


def facing(points: torch.Tensor, head: Head) -> torch.Tensor:
    """(n,) cosine of a vertex's normal and the view, for points (n, 3)."""
    normals = vertex_normals(points[None], head.dense_faces)[0]
    return -(normals * torch.nn.functional.normalize(points, dim=1)).sum(1)


def test_the_inside_of_a_mouth_that_was_shut_is_unseen_and_no_hole(fitted):
    made = turned(fitted, 0.0, jaw=0.35)
    picture, seen = moved(fitted, made)
    head = made.head
    maps = render(made.vertices(), head.dense_faces, made.camera, cull=True)
    region = head.regions[head.dense_faces[maps.face_id[0].clamp_min(0), 0]].numpy()
    inside = (maps.coverage[0].numpy() > 0) & np.isin(region, [REGIONS.index(n) for n in ("teeth", "tongue", "mouth")])
    assert inside.sum() > 20
    assert seen[inside].mean() < 80
    assert (picture[inside].max(-1) > 10).all(), "no black holes"


def test_the_background_does_not_swim(fitted):
    frames = clip(fitted, [0.1, 0.2, 0.3])
    pictures = np.concatenate([picture for picture, _ in carried(portrait(*painted(fitted), fitted), frames)])
    far = ~np.any([painted(turned(fitted, yaw))[1] > 0 for yaw in (0, 0.1, 0.2, 0.3)], 0)
    far[:, :] &= np.hypot(*(np.mgrid[:SIZE, :SIZE] - SIZE / 2)) > 0.45 * SIZE
    assert far.sum() > 500 and np.ptp(pictures[:, far].astype(int), axis=0).max() <= 4, "soft rims"


def test_frames_are_made_in_blocks(fitted):
    frames = clip(fitted, [0.0] * 6)
    lengths = [len(picture) for picture, _ in carried(portrait(*painted(fitted), fitted), frames)]
    assert lengths == [carry.BLOCK, 6 - carry.BLOCK]


def test_where_the_person_stood_the_background_holds_no_colour_of_the_person(fitted):
    """Neither of it nor of what the matte leaves out beside it."""
    mask = painted(fitted)[1]
    person = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0
    rows = np.mgrid[:SIZE, :SIZE][0]
    away = cv2.distanceTransform(np.uint8(~person), cv2.DIST_L2, 5)
    beside = (away > 4) & (away < 9) & (rows % 40 < 12)
    image = np.where((person | beside)[..., None], np.uint8([200, 30, 30]), np.uint8([30, 60, 200]))
    background = portrait(image, mask, fitted).background
    assert background[person, 0].max() < 60 and background[person, 2].min() > 170
