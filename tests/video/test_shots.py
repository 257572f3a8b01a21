import numpy as np

from expportrait.video.shots import split_shots, thumbnail

from . import make


def shots(frames, threshold=4.0):
    return split_shots(np.array([thumbnail(frame) for frame in frames]), threshold)


def pan(count, step, seed, first=0):
    """A camera that follows somebody."""
    wall = make.wall(180, 1600, seed)
    return [wall[:, first + n * step :][:, :320] for n in range(count)]


def test_a_change_of_scene_is_a_cut():
    assert shots(pan(20, 1, 1) + pan(30, 1, 2) + pan(12, 1, 3)) == [(0, 20), (20, 50), (50, 62)]


def test_a_jump_within_the_same_scene_is_a_cut():
    assert shots(pan(20, 1, 1) + pan(20, 1, 1, first=60)) == [(0, 20), (20, 40)]


def test_fast_motion_is_no_cut():
    frames = pan(40, 25, 1)
    change = np.abs(np.diff([thumbnail(frame).astype(float) for frame in frames], axis=0)).mean((1, 2, 3))
    assert change.min() > 4  # above the threshold, so the frames around decide
    assert shots(frames) == [(0, 40)]


def test_repeated_frames_make_no_cuts():
    assert shots([frame for frame in pan(20, 25, 1) for _ in range(2)]) == [(0, 40)]


def test_a_flash_is_no_cut():
    frames = pan(40, 1, 1)
    for n in (20, 21):
        frames[n] = np.minimum(frames[n].astype(int) + 90, 255).astype(np.uint8)
    assert shots(frames) == [(0, 40)]


def test_the_threshold_switches_cuts_off():
    assert shots(pan(20, 1, 1) + pan(20, 1, 2), threshold=255) == [(0, 40)]


def test_a_single_frame_is_a_shot():
    assert shots(pan(1, 1, 1)) == [(0, 1)]
    assert shots(pan(1, 1, 1) + pan(1, 1, 2)) == [(0, 1), (1, 2)]
