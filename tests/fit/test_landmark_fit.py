import torch
from benchmarks.made_heads import Truth, make_truth

from expportrait.fit.evidence.points import interocular, landmark_error
from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.fit.parameters import HeadParameters
from expportrait.head import Head
from expportrait.settings.config import Proxy


def projected(head: Head, p: HeadParameters) -> torch.Tensor:
    posed = head.pose(head.landmarks, p.shape, p.expression, p.matrices(), p.translation())
    return p.camera().project(posed)


def turn(p: HeadParameters) -> torch.Tensor:
    """(T, 3, 3): how the head itself stands, whichever joints carry it."""
    matrices = p.matrices()
    return matrices[:, 0] @ matrices[:, 1] @ matrices[:, 2]


def test_finds_pose_and_expression_again(head: Head, truth: Truth) -> None:
    found = fit_landmarks(head, truth.points, torch.ones(6), 128)
    assert landmark_error(head, projected(head, found), truth.points).max() < 0.01
    between = turn(found) @ turn(truth.parameters).transpose(1, 2)
    degrees = torch.rad2deg(torch.arccos(((between.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)))
    assert degrees.mean() < 4
    assert 0.8 < float((found.log_focal - truth.parameters.log_focal).exp()) < 1.25


def test_frames_without_detection_follow_their_neighbours(head: Head, truth: Truth) -> None:
    confidence = torch.tensor([1.0, 1, 0, 1, 1, 1])
    points = truth.points.clone()
    points[2] += 40  # what a gap's filler says must not matter
    found = fit_landmarks(head, points, confidence, 128, Proxy(landmark_steps=120))
    assert landmark_error(head, projected(head, found), truth.points)[[0, 1, 3, 4, 5]].max() < 0.02
    assert (found.place[2] - (found.place[1] + found.place[3]) / 2).norm() < 0.02


def test_a_long_gap_is_bridged_and_not_left_to_the_priors(head: Head) -> None:
    """Nine frames in which a turned head is not found: it stays turned."""
    truth = make_truth(head, 2, size=128, yaw=0.0)
    turned = truth.parameters.pose()[:1].repeat(15, 1, 1)
    turned[:, 1:3, 1] = 0.25
    p = truth.parameters.copy()
    p.expression, p.place, p.log_scale = (
        x[:1].repeat(15, *[1] * (x.dim() - 1)) for x in (p.expression, p.place, p.log_scale)
    )
    p.set_pose(turned, p.translation())
    points = torch.cat([projected(head, p), torch.zeros(15, 478, 1)], -1)
    confidence = torch.ones(15)
    confidence[3:12] = 0
    found = turn(fit_landmarks(head, points, confidence, 128, Proxy(landmark_steps=120)))
    between = found[3:12] @ found[2].t()
    degrees = torch.rad2deg(torch.arccos(((between.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)))
    assert degrees.max() < 5


def test_one_frame_is_enough(head: Head, truth: Truth) -> None:
    found = fit_landmarks(head, truth.points[:1], torch.ones(1), 128)
    assert landmark_error(head, projected(head, found), truth.points[:1]).max() < 0.01


def test_interocular_distance_survives_a_turn() -> None:
    points = torch.zeros(1, 478, 3)
    points[0, 10], points[0, 152] = torch.tensor([50.0, 0, 0]), torch.tensor([50.0, 120, 0])
    points[0, 33], points[0, 263] = torch.tensor([45.0, 40, 0]), torch.tensor([55.0, 40, 0])
    assert interocular(points)[0] == 60
