"""Colours of what a portrait does not show."""

import numpy as np
import pytest

from expportrait.appearance.colours import UNKNOWN, completed
from expportrait.head import REGIONS, Head


@pytest.fixture(scope="module")
def head() -> Head:
    return Head.load(subdivisions=0)


@pytest.fixture(scope="module")
def template(head) -> np.ndarray:
    return head.dense.template.numpy()


def painted(template: np.ndarray) -> np.ndarray:
    """Colours that both sides of a head share, with detail."""
    x, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]
    return np.stack([150 + 40 * np.sin(200 * y), 110 + 40 * np.sin(150 * x), 90 + 30 * np.sin(120 * z)], 1)


def test_what_one_side_shows_goes_on_on_the_other(head, template):
    truth, skin = painted(template), np.isin(head.regions.numpy(), [REGIONS.index(n) for n in ("face", "scalp")])
    seen = (template[:, 0] > -0.004).astype(np.float32)
    given = np.where(seen[:, None] > 0, truth, 0)
    found = completed(given, seen, head)
    hidden = skin & (seen == 0)
    smooth = np.abs(truth[hidden] - truth[skin & (seen > 0)].mean(0)).mean()
    assert np.abs(found - truth)[hidden].mean() < 0.3 * smooth
    assert np.abs(found - truth)[skin & (seen > 0)].mean() < 4


def test_no_edge_where_the_light_differs_between_the_sides(head, template):
    """The seen side is bright, a strip of the other side that was seen too is dark: the guess starts from the strip."""
    seen = (template[:, 0] > -0.02).astype(np.float32)
    light = np.clip(150 + 2000 * template[:, :1], 90, 210)
    found = completed(np.where(seen[:, None] > 0, np.repeat(light, 3, 1), 0), seen, head)
    near = (template[:, 0] < -0.02) & (template[:, 0] > -0.03) & (head.regions.numpy() == REGIONS.index("face"))
    assert near.sum() > 20 and found[near].mean() < 150


def test_teeth_are_lit_as_the_skin_is(head, template):
    """In the light of a lamp, teeth of a neutral grey look blue."""
    region = head.regions.numpy()
    teeth, inside = region == REGIONS.index("teeth"), np.isin(region, [REGIONS.index(n) for n in UNKNOWN])
    seen = (~inside).astype(np.float32)
    for skin, warmth in (((200, 150, 124), 1.2), ((200, 120, 70), 1.8)):
        colours = np.where(seen[:, None] > 0, np.float32(skin), 0)
        found = completed(colours, seen, head)[teeth]
        assert np.median(found[:, 0] / found[:, 2]) == pytest.approx(warmth, rel=0.25)
        assert found.max(1).min() > 60
