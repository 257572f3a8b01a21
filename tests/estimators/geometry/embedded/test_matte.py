"""The mask's clean-up on pictures made for it."""

import cv2
import numpy as np

from expportrait.estimators.geometry.embedded.matte import one_person, refine, steady


def blob(x: int, y: int, radius: int, size: int = 128) -> np.ndarray:
    return cv2.circle(np.zeros((size, size), np.float32), (x, y), radius, 1.0, -1)


def test_outline_moves_to_the_pictures_edge():
    truth = blob(64, 64, 40)
    frame = np.where(truth[..., None] > 0, (200, 80, 60), (40, 90, 160)).astype(np.uint8)
    rough = cv2.GaussianBlur(np.roll(truth, 2, axis=1), (0, 0), 2)

    def wrong(mask):
        return ((mask > 0.5) != (truth > 0.5)).mean()

    refined = refine(rough, frame)
    assert refined.shape == truth.shape and refined.min() >= 0 and refined.max() <= 1
    assert wrong(refined) < 0.5 * wrong(rough)


def test_stripes_on_clothes_do_not_become_holes():
    frame = np.zeros((128, 128, 3), np.uint8)
    frame[::8] = frame[1::8] = 255
    score = blob(64, 64, 50)
    assert refine(score, frame)[40:88, 40:88].min() == 1


def test_the_part_with_the_face_is_kept():
    small, large = blob(30, 30, 14), blob(90, 90, 30)
    np.testing.assert_array_equal(one_person(small + large, None), large)
    face = blob(30, 30, 8) > 0
    np.testing.assert_array_equal(one_person(small + large, face), small)


def test_face_is_inside_even_where_the_segmenter_lost_it():
    body, face = blob(64, 100, 30), blob(64, 60, 15) > 0
    assert one_person(body, face)[face].min() == 1


def test_small_holes_are_closed_and_large_ones_stay():
    person = blob(64, 64, 50)
    person[40:43, 40:43] = 0
    person[60:84, 60:84] = 0
    out = one_person(person, None)
    assert out[40:43, 40:43].min() == 1
    assert out[60:84, 60:84].max() == 0


def test_flicker_goes_and_motion_stays():
    still = np.stack([blob(64, 64, 40)] * 5)
    flicker = still.copy()
    flicker[2, 60:70, 60:70] = 0
    np.testing.assert_array_equal(steady(flicker), still)
    moving = np.stack([np.arange(128) < 40 + 4 * t for t in range(6)])[:, None].repeat(4, 1).astype(np.float32)
    np.testing.assert_array_equal(steady(moving), moving)


def test_short_clips_pass_through():
    for t in (1, 2):
        masks = np.stack([blob(30 + 9 * k, 64, 20) for k in range(t)])
        np.testing.assert_array_equal(steady(masks), masks)
