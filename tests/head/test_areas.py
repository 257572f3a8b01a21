"""Areas of the face, on the open head and on a file of the real SMPL-X's sizes, whose coefficients have no names."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.store import FittedHead
from expportrait.head import Head
from expportrait.head.areas import areas, weight
from expportrait.points478 import BROWS, EYELIDS, LIPS, OUTER_LIPS
from expportrait.render import Camera
from expportrait.settings.config import HeadSettings
from expportrait.settings.sections import Drive
from expportrait.transfer.drive import steered
from expportrait.transfer.motion import Part, motion

PLACES = {"lids": EYELIDS, "brows": BROWS, "mouth": LIPS}


@pytest.fixture(params=["open", "user's"])
def any_head(request, monkeypatch):
    if request.param == "open":
        return Head.load(subdivisions=0)
    monkeypatch.setenv("EXPPORTRAIT_CACHE", str(request.getfixturevalue("users_cache")))
    return load_head(HeadSettings(file=request.getfixturevalue("real_shape_file"), subdivisions=0))


def moved(head: Head, **controls) -> torch.Tensor:
    """(n,3) m by which an expression of many coefficients moves the vertices, under these controls."""
    frames, made = 2, []
    some = torch.randn(head.n_expression, generator=torch.Generator().manual_seed(3))
    for expression in (some, torch.zeros_like(some)):
        person = FittedHead(
            head, torch.zeros(head.n_shape), expression.expand(frames, -1), torch.zeros(frames, 10, 3),
            torch.tensor([[0, -0.1, -1.2]]).expand(frames, 3), torch.zeros(len(head.dense.template), 3),
            torch.zeros(frames, 1, 3), torch.zeros(1, dtype=torch.long), Camera(300.0, 48, 48, 96, 96),
        )  # fmt: skip
        part = Part(motion(person), 0, False)
        made.append(steered(replace(person), 0, part, replace(part, relative=True), Drive(**controls)).vertices()[0])
    return made[0] - made[1]


def near(head: Head, marks: tuple[int, ...]) -> torch.Tensor:
    """The vertices that carry these landmarks."""
    return head.faces[head.landmark_faces[list(marks)]].unique()


@pytest.mark.parametrize("place", PLACES)
def test_a_gain_moves_its_own_area_and_no_other(any_head, place):
    free, made = moved(any_head), moved(any_head, **{f"gain_{place}": 0})
    for name, marks in PLACES.items():
        chosen = near(any_head, marks)
        share = (made[chosen] - free[chosen]).norm() / free[chosen].norm()
        assert share > 0.97 if name == place else share < 0.03, (place, name, share)
    half = moved(any_head, **{f"gain_{place}": 0.5})
    assert torch.allclose(half, (free + made) / 2, atol=1e-6)


def test_the_whole_expression_scales_alike(any_head):
    free = moved(any_head)
    assert torch.allclose(moved(any_head, gain_expression=0.3), 0.3 * free, atol=1e-5 + 0.02 * float(free.abs().max()))
    both = moved(any_head, gain_expression=0.5, gain_mouth=2)
    lips = near(any_head, OUTER_LIPS)
    assert torch.allclose(both[lips], free[lips], atol=1e-5 + 0.02 * float(free.abs().max()))


def test_areas_share_the_face_and_leave_the_rest(any_head):
    masks = areas(any_head)
    assert all(float(mask.min()) >= 0 and float(mask.max()) == 1 for mask in masks.values())
    assert float((masks["mouth"] + masks["eyes"] + masks["brows"]).max()) < 1.001
    assert (masks["lids"] <= masks["eyes"] + 1e-6)[any_head.regions != any_head.REGIONS.index("eye")].all()
    region = np.array(any_head.REGIONS)[any_head.regions.numpy()]
    for name in ("body", "scalp"):
        assert max(float(mask[region == name].mean()) for mask in masks.values()) < 0.02
    eyes = region == "eye"
    assert (masks["eyes"][eyes] == 1).all() and not masks["lids"][eyes].any(), "eyeballs move as one"
    assert weight(any_head, dict.fromkeys(masks, 1.0)) is None


def test_lids_without_gain_keep_the_eyes_as_open_as_they_are():
    head = Head.load(subdivisions=0)
    upper, lower = near(head, (159, 386)), near(head, (145, 374))

    def opening(**gains):
        blink = head.expression_of({"eyeBlink": 1.0, "mouthSmile": 1.0})
        share = weight(head, {"lids": 1.0} | gains)
        shift = head.dense.expression_basis @ blink
        points = head.dense.template + (shift if share is None else share[:, None] * shift)
        return float(points[upper, 1].mean() - points[lower, 1].mean())

    still = float(head.dense.template[upper, 1].mean() - head.dense.template[lower, 1].mean())
    assert opening(lids=0.0) == pytest.approx(still, abs=1e-4) and opening() < 0.3 * still
    assert opening(lids=0.5) == pytest.approx((still + opening()) / 2, abs=1e-4)
    assert opening(mouth=0.0) == opening()
