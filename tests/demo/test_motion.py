import numpy as np
import pytest

from expportrait.demo.motion import CLIPS, FPS, LOOP, eyelids, motion_of, turn
from tests.demo.angles import turn_angles

FRAMES = np.arange(round(LOOP * FPS)) / FPS


@pytest.mark.parametrize("clip", CLIPS)
def test_starts_at_the_portraits_own_pose(clip):
    for name, values in vars(motion_of(clip, np.zeros(1))).items():
        np.testing.assert_allclose(values, 0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("clip", CLIPS)
def test_keeps_within_what_the_warp_can_show(clip):
    motion = motion_of(clip, FRAMES)
    assert np.rad2deg(np.abs(motion.yaw).max()) <= 15 + 1e-9
    assert np.rad2deg(np.abs(motion.pitch).max()) <= 8 + 1e-9
    assert np.rad2deg(np.abs(motion.roll).max()) <= 4 + 1e-9
    assert motion.jaw.min() >= 0 and motion.jaw.max() <= 0.15
    assert np.abs(motion.units).max() <= 1 and np.abs(motion.gaze).max() <= 1
    assert motion.blink.min() == 0 and motion.blink.max() > 0.9


@pytest.mark.parametrize("clip", CLIPS)
def test_is_a_smooth_loop(clip):
    motion, later = motion_of(clip, np.append(FRAMES, LOOP)), motion_of(clip, FRAMES + LOOP)
    for name, values in vars(motion).items():
        np.testing.assert_allclose(vars(later)[name], values[:-1], atol=1e-9)
        second = np.abs(np.diff(values, 2, axis=0)).max()
        reach = max(np.abs(values).max(), 1e-9)
        assert second < (0.8 if name == "blink" else 0.5) * reach, f"{name} jerks"


def test_clips_of_one_person_move_differently():
    one, other = (motion_of(clip, FRAMES) for clip in ("astronaut-turn", "astronaut-smile"))
    assert np.corrcoef(one.yaw, other.yaw)[0, 1] < 0.5
    assert np.abs(one.jaw - other.jaw).max() > 0.05


def test_the_setting_scales_the_head_turn_alone():
    full, half = motion_of("hopper-talk", FRAMES, 15), motion_of("hopper-talk", FRAMES, 7.5)
    np.testing.assert_allclose(half.yaw, full.yaw / 2)
    np.testing.assert_array_equal(half.pitch, full.pitch)


def test_a_blink_lasts_a_third_of_a_second():
    blink = eyelids((0.5,), np.arange(0, 1, 0.01))
    assert blink[50] == 1 and blink[38] == 0 and blink[75] == 0
    assert 0.15 < (blink > 0.5).mean() < 0.25


def test_turns_go_where_the_conventions_say():
    nose, top = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    assert (turn(0.2, 0, 0) @ nose)[0] > 0.1  # to the subject's left
    assert (turn(0, 0.2, 0) @ nose)[1] < -0.1  # down
    assert (turn(0, 0, 0.2) @ top)[0] < -0.1  # towards the subject's right shoulder


def test_angles_are_found_again():
    for angles in ((0.26, -0.14, 0.07), (-0.2, 0.1, -0.06), (0, 0, 0)):
        np.testing.assert_allclose(turn_angles(turn(*angles)), angles, atol=1e-12)
