"""The controls: each does what it says, to that and to nothing else."""

from dataclasses import replace

import pytest
import torch

from expportrait.head import JOINTS
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from expportrait.settings.sections import Drive
from expportrait.transfer.drive import driven, facing_of, steered
from expportrait.transfer.motion import FACE, TURNS, Part, motion

FRAME, ANCHOR = 3, 7


def steer(target, driver, relative=True, anchor=ANCHOR, plain=False, **controls):
    s = Drive(**controls)
    moves = replace(motion(driver), dynamic=driver.dynamic)
    face = Part(moves, anchor, s.expression == "relative")
    return steered(target, FRAME, face, Part(moves, anchor, relative), s, plain)


def degrees(first, second):
    """(...,) between rotations (..., 3, 3)."""
    return torch.rad2deg(matrix_to_axis_angle(first.transpose(-1, -2) @ second).norm(dim=-1))


def at_rest(fitted):
    """The vertices before the head is turned: what the expression moves, jaw and eyes aside."""
    still = {name: torch.zeros_like(getattr(fitted, name)) for name in ("pose", "translation")}
    return replace(fitted, **still).vertices()


def test_without_controls_it_is_what_it_was_to_the_bit(ann, bob):
    before, now = driven(ann, FRAME, motion(bob), bob.dynamic, ANCHOR), steer(ann, bob)
    assert torch.equal(before.vertices(), now.vertices()) and now.weight is None
    ones = {name: 1.0 for name in Drive.model_fields if name.startswith("gain_")}
    assert torch.equal(steer(ann, bob, False, **ones).vertices(), steer(ann, bob, False).vertices())


@pytest.mark.parametrize("relative", [True, False])
def test_a_held_pose_stays_and_the_face_moves(ann, bob, relative):
    made, free = steer(ann, bob, relative, hold=["pose"]), steer(ann, bob, relative)
    assert degrees(facing_of(made), facing_of(ann)[FRAME]).max() < 0.01
    assert torch.equal(made.translation, ann.translation[FRAME].expand(made.frames, 3))
    assert degrees(facing_of(free), facing_of(ann)[FRAME]).max() > 3
    assert torch.equal(made.pose[:, FACE], free.pose[:, FACE]) and torch.equal(at_rest(made), at_rest(free))
    nothing = steer(ann, bob, relative, gain_pose=0)
    assert degrees(facing_of(nothing), facing_of(made)).max() < 0.01
    assert torch.allclose(nothing.translation, made.translation, atol=1e-6)


def test_a_held_expression_stays_and_the_head_moves(ann, bob):
    made, free = steer(ann, bob, hold=["expression"]), steer(ann, bob)
    own = ann.vertices(slice(FRAME, FRAME + 1))
    there = steer(ann, bob, hold=["expression", "pose"]).vertices()
    assert torch.allclose(there, own.expand_as(there), atol=1e-6), "nothing is left that moves"
    assert torch.equal(made.pose[:, TURNS], free.pose[:, TURNS]) and torch.equal(made.translation, free.translation)
    assert torch.equal(made.pose[:, FACE], ann.pose[FRAME, FACE].expand(made.frames, 3, 3))


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_the_gain_of_the_pose_goes_that_share_of_the_way(ann, bob, relative, gain):
    made, free = steer(ann, bob, relative, gain_pose=gain), steer(ann, bob, relative)
    own = facing_of(ann)[FRAME]
    assert torch.allclose(degrees(facing_of(made), own), gain * degrees(facing_of(free), own), atol=0.02)
    here = ann.translation[FRAME]
    assert torch.allclose(made.translation[:, :2] - here[:2], gain * (free.translation[:, :2] - here[:2]), atol=1e-6)
    ratios = [one.translation[:, 2] / here[2] for one in (made, free)]
    assert torch.allclose(ratios[0].log(), gain * ratios[1].log(), atol=1e-5)
    assert torch.equal(made.pose[:, FACE], free.pose[:, FACE]) and torch.equal(at_rest(made), at_rest(free))


def test_jaw_and_eyes_have_gains_of_their_own(ann, bob):
    free = steer(ann, bob).pose
    jaw, gaze = steer(ann, bob, gain_jaw=0.5).pose, steer(ann, bob, gain_gaze=0).pose
    assert torch.allclose(jaw[:, FACE[0]], 0.5 * free[:, FACE[0]], atol=1e-6)
    assert torch.equal(jaw[:, FACE[1:]], free[:, FACE[1:]]) and torch.equal(jaw[:, TURNS], free[:, TURNS])
    assert not gaze[:, FACE[1:]].any() and torch.equal(gaze[:, FACE[0]], free[:, FACE[0]])


def test_the_gain_of_the_expression_scales_what_moves_the_face(ann, bob):
    neutral, free = steer(ann, bob, gain_expression=0), steer(ann, bob)
    half = at_rest(steer(ann, bob, gain_expression=0.5))
    assert torch.allclose(half, (at_rest(neutral) + at_rest(free)) / 2, atol=2e-5)
    assert torch.allclose(at_rest(neutral)[0], at_rest(neutral)[-1], atol=1e-6)


def test_a_relative_expression_is_the_portraits_own_at_the_anchor(ann, bob):
    made = steer(ann, bob, expression="relative")
    own = at_rest(ann)[FRAME]
    assert torch.allclose(at_rest(made)[ANCHOR], own, atol=2e-5)
    assert torch.allclose(axis_angle_to_matrix(made.pose[ANCHOR, FACE]), axis_angle_to_matrix(ann.pose[FRAME, FACE]),
                          atol=1e-5)  # fmt: skip
    change = bob.expression - bob.expression[ANCHOR]
    assert torch.allclose(made.expression, ann.expression[FRAME] + change, atol=1e-6)
    still = steer(ann, bob, expression="relative", gain_expression=0, gain_jaw=0, gain_gaze=0)
    assert torch.allclose(at_rest(still), own.expand_as(at_rest(still)), atol=2e-5)
    less = steer(ann, bob, expression="relative", gain_mouth=0.5, gain_lids=0)
    assert torch.allclose(at_rest(less)[ANCHOR], own, atol=2e-5), "gains count from where the expression starts"


def test_a_mean_anchor_puts_the_mean_expression_on_the_portraits(ann, bob):
    made = steer(ann, bob, expression="relative", anchor=None)
    assert torch.allclose(at_rest(made).mean(0), at_rest(ann)[FRAME], atol=3e-4)


def test_eyes_keep_to_the_camera_while_the_head_turns(ann, bob):
    for turn in (0.2, 0.4):
        turned = replace(bob, pose=bob.pose.clone())
        turned.pose[:, JOINTS.index("head"), 1] += torch.linspace(-turn, turn, bob.frames)
        made = steer(ann, turned, False, gaze="camera")
        assert misses(made).max() < 0.05 and misses(steer(ann, turned, False)).max() > 5
    turned.pose[:, JOINTS.index("head"), 1] += 1.2
    made = steer(ann, turned, False, gaze="camera")
    assert misses(made).max() > 10, "eyes turn no farther than eyes can"
    assert torch.rad2deg(made.pose[:, FACE[1:]].norm(dim=-1)).max() < 52


def misses(made):
    """(T, 2) degrees between where the eyes look and the camera."""
    head, eyes = made.head, [JOINTS.index("left_eye"), JOINTS.index("right_eye")]
    bones = head.transforms(made.shape, made.expression, axis_angle_to_matrix(made.pose), made.translation)[:, eyes]
    joint = head.joints(made.shape, made.expression)[:, eyes]
    centre = (bones[..., :3] @ joint[..., None] + bones[..., 3:])[..., 0]
    looks = bones[..., 2]  # at rest eyes look along z
    across, along = torch.linalg.cross(looks, -centre).norm(dim=-1), (looks * -centre).sum(-1)
    return torch.rad2deg(torch.atan2(across, along))


def test_a_held_expression_may_still_look_into_the_camera(ann, bob):
    made = steer(ann, bob, False, hold=["expression"], gaze="camera")
    assert misses(made).max() < 0.05 and torch.equal(made.expression[0], ann.expression[FRAME])


def test_a_neck_that_may_move_little_moves_that_little_the_same_way(ann, bob):
    far = replace(bob, translation=bob.translation + torch.linspace(0, 0.2, bob.frames)[:, None])
    free, near = steer(ann, far).translation, steer(ann, far, max_move=0.02).translation
    here = ann.translation[FRAME]
    way, less = free - here, near - here
    assert way.norm(dim=1).max() > 0.05 and less.norm(dim=1).max() < 0.02001
    assert torch.nn.functional.cosine_similarity(way, less, dim=1)[way.norm(dim=1) > 1e-4].min() > 0.999
    assert torch.allclose(steer(ann, far, max_move=100).translation, free, atol=1e-4)
    assert degrees(facing_of(steer(ann, far, max_move=0.02)), facing_of(steer(ann, far))).max() < 0.01
