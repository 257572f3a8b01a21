import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector

from expportrait.video.shots import ShotFinder

from . import make


def shots(frames, threshold=15.0):
    finder = ShotFinder(threshold)
    for frame in frames:
        finder.add(frame)
    return finder.shots()


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
    assert shots(frames) == [(0, 40)]
    content = ContentDetector(min_scene_len=1, threshold=15.0)
    found = [cut for n, f in enumerate(frames) for cut in content.process_frame(FrameTimecode(n, 25.0), f.copy())]
    assert len(found) == 39  # all above the threshold, so the frames around decide


def test_repeated_frames_make_no_cuts():
    assert shots([frame for frame in pan(20, 25, 1) for _ in range(2)]) == [(0, 40)]


def test_a_repeated_frame_now_and_then_makes_no_cut():
    frames = [
        frame for n, frame in enumerate(pan(48, 8, 1)) for _ in range(2 if n % 4 == 3 else 1)
    ]  # 24 to 30 a second
    assert shots(frames) == [(0, 60)]
    assert shots(frames + pan(20, 1, 2)) == [(0, 60), (60, 80)]


def test_stills_are_shots():
    assert shots(pan(1, 1, 1) * 20 + pan(1, 1, 2) * 15 + pan(1, 1, 3) * 9) == [(0, 20), (20, 35), (35, 44)]


def test_a_flash_is_no_cut():
    frames = pan(40, 1, 1)
    for n in (20, 21):
        frames[n] = np.minimum(frames[n].astype(int) + 90, 255).astype(np.uint8)
    assert shots(frames) == [(0, 40)]


def test_the_threshold_switches_cuts_off():
    assert shots(pan(20, 1, 1) + pan(20, 1, 2), threshold=255) == [(0, 40)]


def test_short_shots_are_found():
    frames = pan(20, 1, 1) + pan(6, 1, 2) + pan(5, 1, 3) + pan(20, 1, 4)
    assert shots(frames) == [(0, 20), (20, 26), (26, 31), (31, 51)]


def test_a_fade_through_black_is_cut_off():
    first, second, steps = pan(30, 1, 1), pan(30, 1, 2), np.linspace(1, 0, 12)
    down = [np.uint8(first[-1] * s) for s in steps]
    up = [np.uint8(second[0] * s) for s in steps[::-1]]
    parts = shots(first + down + [np.zeros_like(first[0])] * 6 + up + second)
    assert len(parts) > 1 and all(30 <= start <= 72 for start, _ in parts[1:])


def test_few_frames_are_one_shot():
    assert shots([]) == []
    assert shots(pan(1, 1, 1)) == [(0, 1)]
    assert shots(pan(3, 1, 1)) == [(0, 3)]
