"""The side of hair that a portrait does not show."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from expportrait.appearance.carry import carried
from expportrait.appearance.colours import completed
from expportrait.appearance.portrait import portrait
from expportrait.appearance.scalp import hairy, skinlike
from expportrait.head import REGIONS, Head
from expportrait.render import render
from tests.appearance.test_carry import fitted, painted, turned

__all__ = ["fitted"]
HAIR, SKIN = np.float32([40, 60, 20]), np.float32([210, 150, 120])


@pytest.fixture(scope="module")
def head() -> Head:
    return Head.load(subdivisions=0)


def test_ears_and_the_jaws_corners_are_no_hair(head):
    hair, points = hairy(head), head.dense.template.numpy()
    scalp = head.regions.numpy() == REGIONS.index("scalp")
    assert 0.25 < hair[scalp].mean() < 0.6 and not hair[~scalp].any(), "ears have most of the vertices"
    outermost = np.abs(points[:, 0]) > 0.076
    assert (outermost & scalp).sum() > 10 and not hair[outermost].any()
    assert_array_equal(hair[points[:, 1] > 0.18], scalp[points[:, 1] > 0.18])


def test_unseen_scalp_holds_no_colour_of_skin(head):
    hair = hairy(head)
    truth = np.where(hair[:, None], HAIR, SKIN)
    seen = (head.dense.template[:, 2].numpy() > 0.03).astype(np.float32)  # ears too, skin amid the region scalp
    found = completed(np.where(seen[:, None] > 0, truth, 128), seen, head)
    hidden = hair & (seen == 0)
    assert hidden.sum() > 200 and hair[seen > 0].sum() > 50
    assert np.abs(found - HAIR)[hidden].mean() < 4
    assert np.percentile(np.abs(found - HAIR)[hidden].max(1), 95) < 15


def striped(fitted) -> tuple[np.ndarray, np.ndarray]:
    """A plain face under hair with stripes that are some pixels wide."""
    _, mask = painted(fitted)
    hair = hairy(fitted.head)[fitted.head.dense_faces.numpy()].all(1)
    maps = render(fitted.vertices(), fitted.head.dense_faces, fitted.camera, cull=True)
    there = hair[maps.face_id[0].numpy()] & (mask > 0)
    rows = np.mgrid[: len(mask), : len(mask)][0]
    stripes = np.where(rows // 3 % 2 == 0, 1.0, 2.5)[..., None] * HAIR
    image = np.where(mask[..., None] > 0, SKIN, np.float32([60, 90, 230]))
    return np.where(there[..., None], stripes, image).astype(np.uint8), mask


@pytest.mark.parametrize("yaw", [0.7, -0.7])
def test_the_side_that_turns_into_view_has_the_texture_of_the_seen(fitted, yaw):
    image, mask = striped(fitted)
    made = turned(fitted, yaw)
    picture, seen = (one[0] for one in next(carried(portrait(image, mask, fitted), made)))
    maps = render(made.vertices(), made.head.dense_faces, made.camera, cull=True)
    hair = hairy(made.head)[made.head.dense_faces.numpy()].all(1)[maps.face_id[0].numpy()]
    hidden = hair & (maps.coverage[0].numpy() > 0) & (seen < 60)
    hidden[-len(hidden) // 2 :] = False
    assert hidden.sum() > 150
    green = picture[hidden].astype(float)
    assert green[:, 1].std() > 15, "a plain band"
    assert (green[:, 1] > green[:, 0]).mean() > 0.95, "skin"


def test_a_high_forehead_is_no_hair_and_hair_of_skins_colour_is():
    blond = np.float32([215, 165, 120])
    assert_array_equal(skinlike(np.stack([SKIN + 8, HAIR, HAIR + 20]), HAIR[None], SKIN[None]), [True, False, False])
    assert_array_equal(skinlike(np.stack([SKIN + 30, blond]), blond[None], SKIN[None]), [False, False])
    assert not skinlike(SKIN[None], HAIR[:0].reshape(0, 3), SKIN[None]).any()
