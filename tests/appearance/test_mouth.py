"""The inside of a mouth: teeth, tongue and throat where the portrait shows none, and a smile's own teeth."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from expportrait.appearance import mouth
from expportrait.appearance.carry import carried
from expportrait.appearance.portrait import portrait
from expportrait.head import REGIONS, Head
from expportrait.render import at_pixels, render
from tests.appearance.test_carry import fitted, turned

__all__ = ["fitted"]
LARGE = 400  # px: a tooth is some pixels wide


@pytest.fixture(scope="module")
def head() -> Head:
    return Head.load(subdivisions=0)


@pytest.fixture(scope="module")
def places(head) -> np.ndarray:
    return mouth.places(head).numpy()


@pytest.fixture(scope="module")
def near(fitted):
    """The head with its mouth shut, its face filling the picture."""
    camera = fitted.camera.resized(LARGE, LARGE)
    return replace(fitted, camera=replace(camera, focal=1.6 * camera.focal))


def opened(fitted, image, mask, jaw=0.3):
    """The picture of that head with its jaw down, (H, W, 3), and what its pixels show, (H, W), 3 a tongue."""
    made = turned(fitted, 0.0, jaw)
    picture = next(carried(portrait(image, mask, fitted), made))[0][0].astype(float)
    maps = render(made.vertices(), made.head.dense_faces, made.camera, cull=True)
    faces = torch.from_numpy(mouth.inside(made.head))[made.head.dense_faces.long()].all(1)
    inside = faces[maps.face_id.clamp_min(0)] & (maps.face_id >= 0)
    values = at_pixels(
        made.vertices(), made.head.dense_faces, made.camera, mouth.places(made.head), maps.face_id, inside
    )
    at = np.full((*inside.shape[1:], 4), np.nan)
    at[inside[0].numpy()] = values.numpy()
    return picture, at


def plain(fitted, skin=(205, 150, 122)):
    covered = render(fitted.vertices(), fitted.head.dense_faces, fitted.camera, cull=True).coverage[0].numpy()
    mask = np.uint8(255 * covered)
    return np.where(mask[..., None] > 0, np.uint8(skin), np.uint8([60, 90, 120])), mask


def test_arches_are_measured_from_the_middle_as_far_as_teeth_go(places, head):
    x = head.dense.template[:, 0].numpy()
    for kind in (1, 2):
        arch = places[:, 3] == kind
        along, above = places[arch, 0], places[arch, 1]
        assert arch.sum() > 50 and np.abs(np.sign(along) - np.sign(x[arch]))[np.abs(x[arch]) > 0.001].max() == 0
        assert 45 < along.max() < 75 and along.min() == pytest.approx(-along.max(), abs=3)
        assert above.min() == 0 and 12 < above.max() < 25
    assert set(np.unique(places[head.regions.numpy() == REGIONS.index("tongue"), 3])) == {3}


def test_eye_sockets_are_no_mouth(head):
    inside = mouth.inside(head)
    assert inside.sum() > 300
    assert head.dense.template[inside, 1].max() < head.dense.template[head.regions == REGIONS.index("eye"), 1].min()


def test_teeth_are_lighter_than_the_tongue_and_the_tongue_than_the_throat(near):
    picture, at = opened(near, *plain(near))
    bright, (_, above, behind, kind) = picture.mean(-1), at.transpose(2, 0, 1)
    teeth = bright[np.isin(np.rint(kind), (1, 2)) & (above < 8) & (behind < 25)]
    tongue, throat = bright[(np.rint(kind) == 3) & (behind < 40)], bright[(np.rint(kind) == 0) & (behind > 50)]
    assert min(map(len, (teeth, tongue, throat))) > 20
    assert np.median(teeth) > 1.5 * np.median(tongue) and np.median(tongue) > 1.3 * np.median(throat)
    assert np.median(throat) < 50 and bright[np.isfinite(kind)].min() > 0
    red = picture[(np.rint(kind) == 3)]
    assert (red[:, 0] > 1.4 * red[:, 2]).mean() > 0.9


def along_the_arch(step):
    """mm from the middle on, each ``step``, of upper teeth, and how bright they are under pixels as wide."""
    along = np.arange(-25, 25, step, dtype=np.float32)
    at = np.stack([along, np.full_like(along, 4), np.full_like(along, 14), np.ones_like(along)], 1)
    open_mouth = np.zeros((round(16 / step), len(along)), bool)
    open_mouth[round(5 / step)] = True
    return along, mouth.shading(at, open_mouth, step, np.ones_like(along)).mean(1)


def test_single_teeth_are_hinted():
    """Along an arch, darker gaps lie where teeth meet, and nowhere else."""
    along, bright = along_the_arch(0.25)
    inner = bright[1:-1]
    dark = along[1:-1][(inner < bright[:-2]) & (inner <= bright[2:]) & (inner < 0.8 * bright.max())]
    ends = np.cumsum(mouth.WIDTHS[0])[:3]
    assert dark == pytest.approx([*-ends[::-1], 0, *ends], abs=0.3)


def test_a_gap_narrower_than_a_pixel_is_no_black_line():
    (_, fine), (_, coarse) = along_the_arch(0.25), along_the_arch(2.0)
    assert coarse.min() / coarse.max() > fine.min() / fine.max() + 0.1


def test_gums_lie_above_teeth_and_are_redder():
    at = np.float32([[4.2, height, 14, 1] for height in (4, 6, 13, 15)])
    open_mouth = np.zeros((40, 40), bool)
    open_mouth[18:20, 18:20] = True
    tooth, _, _, gum = mouth.shading(at, open_mouth, 0.5, np.ones(4))
    assert gum[1] / gum[0] < 0.75 * tooth[1] / tooth[0]


def test_light_comes_in_the_farther_the_wider_a_mouth_is_open():
    at = np.float32([[0, 0, 40, 3]] * 200)
    shades = []
    for rows in (4, 20):
        open_mouth = np.zeros((80, 80), bool)
        open_mouth[30 : 30 + rows, 20:60] = True
        shades.append(mouth.shading(np.repeat(at[:1], 40 * rows, 0), open_mouth, 0.5, np.ones(40 * rows)).max())
    assert shades[0] < 0.8 * shades[1]


def smiling(near):
    """A plain face with a bright band where the fit has its mouth's inside, open by a few mm."""
    at_rest = turned(near, 0.0, 0.12)
    image, mask = plain(at_rest)
    _, at = opened(near, *plain(near), jaw=0.12)
    band = np.isfinite(at[..., 3])
    image[band] = (235, 228, 215)
    return at_rest, image, mask, band


def test_a_smiles_own_teeth_stay_what_they_are(near):
    at_rest, image, mask, band = smiling(near)
    shown = portrait(image, mask, at_rest)
    assert shown.smile is not None and shown.smile[band].mean() > 0.7
    picture = next(carried(shown, at_rest))[0][0].astype(int)
    assert np.abs(picture - image)[cv2.erode(np.uint8(band), np.ones((3, 3))) > 0].mean() < 3


def test_a_smiles_teeth_do_not_follow_the_jaw(near):
    """Whatever surface the fit has them on."""
    at_rest, image, mask, band = smiling(near)
    made = turned(near, 0.0, 0.4)
    picture, seen = (one[0] for one in next(carried(portrait(image, mask, at_rest), made)))
    rows, columns = np.nonzero(band)
    bright = picture[..., 2] > 180
    middle = slice(int(np.median(columns)) - 15, int(np.median(columns)) + 15)
    assert np.nonzero(bright[rows.min() :, middle])[0].min() < 8
    assert bright[rows.max() + 8 : rows.max() + 40, middle].mean() < 0.3
    assert seen[(rows.min() + rows.max()) // 2, middle].mean() > 150


def test_shut_and_wide_open_mouths_are_no_smiles(near):
    image, mask = plain(near)
    assert portrait(image, mask, near).smile is None
    wide = turned(near, 0.0, 0.5)
    image, mask = plain(wide)
    image[np.isfinite(opened(near, *plain(near), jaw=0.5)[1][..., 3])] = (235, 228, 215)
    assert portrait(image, mask, wide).smile is None


def test_teeth_as_red_as_the_skin_leave_no_gap_among_the_others():
    skin = np.tile(np.uint8([150, 115, 105]), (200, 1)).astype(np.float32)
    picture, mouth_ = np.full((60, 120, 3), (150, 115, 105), np.uint8), np.zeros((60, 120), bool)
    mouth_[20:36, 20:100] = True
    picture[mouth_] = (160, 150, 140)
    picture[21:35, 42:60] = (150, 108, 100)  # one of them in a light of its own
    picture[20:36, 78:100] = (40, 25, 25)  # the corner is dark
    teeth = mouth.smile(picture, mouth_, skin, 0.7)
    assert teeth is not None and teeth[23:33, 26:72].min() > 0.9
    assert teeth[25:31, 84:94].max() < 0.2
