"""Sapiens' key points in MediaPipe's places, by a network whose heat maps can be computed."""

import numpy as np
import pytest
import torch

from benchmarks import stand_in_networks as networks
from expportrait.errors import UserError
from expportrait.estimators.landmarks.sapiens_points import (
    CURVES,
    GIVEN,
    KEYPOINTS,
    SINGLE,
    SapiensLandmarks,
    along,
    in_places,
    peaks,
)
from expportrait.head import Head
from expportrait.settings.config import Landmarks
from expportrait.settings.weights import points_file

SIZE = 256


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """MediaPipe's points (478,3) px of the head's template, from the front."""
    at = Head.load(subdivisions=0).landmarks.template.numpy()
    middle, scale = (at.min(0) + at.max(0)) / 2, 0.5 * SIZE / np.ptp(at[:, 1])
    return ((at - middle) * scale * [1, -1, -1] + [SIZE / 2, SIZE / 2, 0]).astype(np.float32)


@pytest.fixture(scope="module")
def places(face) -> np.ndarray:
    """(308,2) px: where Sapiens' points of that face lie, evenly along the curves and 2 px to the right of them."""
    out = np.full((KEYPOINTS, 2), SIZE / 2, np.float64)
    for ids, first, last, between in CURVES:
        curve = face[list(ids), :2]
        order = [first, *between, last]
        share = np.linspace(0, 1, len(order))
        out[order] = np.stack([np.interp(share, along(curve), curve[:, k]) for k in (0, 1)], -1)
    for mine, theirs in SINGLE.items():
        out[theirs] = face[mine, :2]
    for middle, centre, first in ((468, 281, 282), (473, 272, 273)):
        radius = np.linalg.norm(face[middle + 1 : middle + 5, :2] - face[middle, :2], axis=1).mean()
        angle = np.arange(8) * np.pi / 4
        out[centre], out[first : first + 8] = face[middle, :2], face[middle, :2]
        out[first : first + 8] += radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    return out + np.array([2, 0])


@pytest.fixture(scope="module")
def network(tmp_path_factory, places) -> SapiensLandmarks:
    return SapiensLandmarks(networks.sapiens_points(tmp_path_factory.mktemp("net") / "p.pt2", places / SIZE))


def ramp() -> np.ndarray:
    """(S,S,3) u8: red is x, green is y."""
    at = np.rint((np.arange(SIZE) + 0.5) / SIZE * 255).astype(np.uint8)
    return np.stack(np.broadcast_arrays(at[None], at[:, None], np.uint8(0)), -1)


def test_points_go_where_the_heat_maps_are(network, face):
    frames = np.stack([ramp()] * 3)
    points = np.stack([face, face + np.float32([9, -5, 0]), face])  # the second is MediaPipe's error
    out, confidence = network.refine(frames, points, np.array([True, True, False]))
    for t in (0, 1):  # wherever it was told to look
        off = np.linalg.norm(out[t, GIVEN, :2] - face[GIVEN, :2] - [2, 0], axis=1)
        assert off.mean() < 0.6 and off.max() < 2.5, GIVEN[off.argmax()]
    others = np.setdiff1d(np.arange(478), GIVEN)
    assert (out[:, others] == points[:, others]).all() and (out[..., 2] == points[..., 2]).all()
    assert (confidence[:2][:, GIVEN] > 0.8).all() and not confidence[:, others].any() and not confidence[2].any()
    assert (out[2] == points[2]).all()


def test_every_place_is_one_of_the_478_and_two_sides_are_given_alike(face):
    assert len(GIVEN) == len(set(GIVEN)) and max(GIVEN) < 478
    right, left = (sum(1 for k in GIVEN if side * (face[k, 0] - SIZE / 2) > 2) for side in (-1, 1))
    assert right == left
    for ids, *_ in CURVES:  # no point out of order
        assert (np.linalg.norm(np.diff(face[list(ids), :2], axis=0), axis=1) < 0.12 * SIZE).all()


@pytest.mark.parametrize("at", [(90.3, 120.8), (1.2, 2.4), (190.6, 254.0)])
def test_peaks_lie_between_cells(at):
    y, x = np.mgrid[:256, :192]
    heat = 0.7 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 6**2))
    found, score = peaks(torch.from_numpy(heat[None, None].astype(np.float32)))
    assert np.abs(found[0, 0].numpy() - at).max() < 0.02 and abs(float(score) - 0.7) < 0.01


def test_flat_heat_maps_have_no_confidence():
    found, score = peaks(torch.zeros(1, 2, 256, 192))
    assert torch.isfinite(found).all() and not score.any()


def test_the_score_of_the_heat_map_is_the_confidence(face, places):
    score = np.full(KEYPOINTS, 0.9)
    score[77] = 0.1  # chin
    _, confidence = in_places(face[:, :2], places, score)
    assert confidence[152] == pytest.approx(0.1) and confidence[13] == pytest.approx(0.9)


def test_files_that_are_not_it_are_refused(tmp_path, network, face):
    with pytest.raises(UserError, match=r"landmarks.model is empty: take sapiens_.*CC BY-NC"):
        points_file(Landmarks(detector="sapiens"))
    (tmp_path / "text.pt2").write_text("no network")
    with pytest.raises(UserError, match=r"landmarks.model: .*text.pt2 is not a TorchScript file"):
        SapiensLandmarks(tmp_path / "text.pt2")
    other = SapiensLandmarks(networks.sapiens_points(tmp_path / "133.pt2", np.zeros((133, 2))))
    with pytest.raises(UserError, match=r"gives \(1, 133, 256, 192\), not \(N, 308, 256, 192\)"):
        other.refine(ramp()[None], face[None], np.ones(1, bool))
    normals = SapiensLandmarks(networks.sapiens(tmp_path)["normals"])
    with pytest.raises(UserError, match="so it is not Sapiens' for 308 key points"):
        normals.refine(ramp()[None], face[None], np.ones(1, bool))
