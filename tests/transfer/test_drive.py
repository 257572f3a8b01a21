from dataclasses import replace

import pytest
import torch

from expportrait.head import JOINTS
from expportrait.head.rotation import axis_angle_to_matrix
from expportrait.transfer.drive import driven, facing, still, transferred
from expportrait.transfer.model import Transfer, TransferConfig, vertex_features
from expportrait.transfer.motion import TURNS, interocular, mean_rotation, motion

EYE = JOINTS.index("left_eye")


def faces(fitted):
    return facing(axis_angle_to_matrix(fitted.pose[:, TURNS]))


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("frame", [0, 5])
def test_a_clip_that_drives_itself_comes_out_as_it_is(ann, frame, relative):
    made = driven(ann, frame, motion(ann), ann.dynamic, frame, relative)
    assert torch.allclose(made.vertices(), ann.vertices(), atol=2e-5)


def test_the_target_stands_at_its_own_place_at_the_anchor(ann, bob):
    made = driven(ann, 3, motion(bob), bob.dynamic, 7)
    assert torch.allclose(made.translation[7], ann.translation[3], atol=1e-6)
    assert torch.allclose(faces(made)[7], faces(ann)[3], atol=1e-5)
    assert made.camera == ann.camera
    assert torch.equal(made.expression, bob.expression)
    assert torch.equal(made.pose[:, EYE], bob.pose[:, EYE])


def test_absolute_heads_face_where_the_drivers_do(ann, bob):
    made = driven(ann, 3, motion(bob), None, 7, relative=False)
    assert torch.allclose(faces(made), faces(bob), atol=1e-5)
    torso = driven(ann, 3, motion(bob), None, 7).pose[:, 0]
    assert torch.allclose(made.pose[:, 0], torso, atol=1e-5)
    assert not torch.allclose(faces(driven(ann, 3, motion(bob), None, 7)), faces(bob), atol=1e-2)


def test_mean_anchor_puts_the_mean_pose_on_the_targets(ann, bob):
    made = driven(ann, 3, motion(bob), None, None)
    turns = axis_angle_to_matrix(made.pose[:, TURNS])
    assert torch.allclose(mean_rotation(turns), axis_angle_to_matrix(ann.pose[3, TURNS]), atol=1e-4)
    assert torch.allclose(made.translation[:, :2].mean(0), ann.translation[3, :2], atol=1e-5)


def test_a_person_twice_as_large_and_far_moves_alike_on_the_image(ann):
    double = replace(ann, translation=2 * ann.translation)
    mine, twice = motion(ann), motion(double)
    twice.interocular = 2 * mine.interocular
    moves = [ann.camera.project(driven(ann, 0, m, None).translation) for m in (mine, twice)]
    assert torch.allclose(*moves, atol=1e-3)
    assert interocular(ann) == pytest.approx(0.063, abs=0.015)


def test_mean_rotation_of_one_and_of_opposites():
    rotations = axis_angle_to_matrix(torch.tensor([[0.3, 0, 0], [-0.3, 0, 0]]))
    assert torch.allclose(mean_rotation(rotations), torch.eye(3), atol=1e-6)
    assert torch.allclose(mean_rotation(rotations[:1]), rotations[0], atol=1e-6)


def test_pose_from_another_clip(ann, bob):
    short = replace(bob, pose=bob.pose[:10], translation=bob.translation[:10], expression=bob.expression[:10])
    mixed = motion(ann, pose_from=short)
    assert mixed.frames == 10
    assert torch.equal(mixed.expression, ann.expression[:10])
    assert torch.equal(mixed.turns, bob.pose[:10, TURNS])


def test_plain_drops_both_fields(ann, bob):
    made = driven(ann, 0, motion(bob), None, plain=True)
    assert not made.static.any()
    assert not made.dynamic.any()
    assert ann.static.any()
    assert not still(ann, 2, plain=True).dynamic.any()


def test_still_is_the_frame_itself(ann):
    assert torch.allclose(still(ann, 4).vertices()[0], ann.vertices()[4], atol=1e-6)


def test_zero_expression_gives_zero_dynamic_offsets_on_any_target(head, ann, bob):
    torch.manual_seed(0)
    features = vertex_features(head, ann.neutral(), ann.dynamic_vertices).shape[1]
    model = Transfer(TransferConfig(head.n_expression, features, 16, 8, 16))
    torch.nn.init.normal_(model.vertex[-1].weight)
    jaw = bob.pose.clone()
    jaw[:, JOINTS.index("jaw")] = 0
    neutral = replace(bob, expression=torch.zeros_like(bob.expression), pose=jaw)
    assert not transferred(ann, motion(neutral), model)[:].any()
    moved = transferred(ann, motion(bob), model)[:]
    assert moved.any()
    assert not torch.allclose(moved, transferred(bob, motion(bob), model)[:])
    unmasked = moved.abs().amax((0, 2)) / head.dynamic_mask[ann.dynamic_vertices]
    assert moved.abs().amax((0, 2))[head.dynamic_mask[ann.dynamic_vertices] < 0.01].max() < 0.02 * unmasked.max()
