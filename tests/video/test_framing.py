import cv2
import numpy as np
import pytest

from expportrait.video.framing import cut_out, face_box, given_box, outside

from . import make

HEIGHT, WIDTH = 720, 1280


def boxes(*corners, side=100.0):
    return np.array([[x, y, x + side, y + side] for x, y in corners])


def box_of(faces, scale=2.3, lift=0.06, min_scale=1.5, height=HEIGHT, width=WIDTH):
    return face_box(faces, scale, lift, min_scale, height, width)


def test_the_box_is_a_square_around_the_face():
    x0, y0, x1, y1 = box_of(boxes((600, 300)))
    assert (x1 - x0, y1 - y0) == (230, 230)
    assert (x0 + x1) / 2 == pytest.approx(650, abs=1)
    assert (y0 + y1) / 2 == pytest.approx(350 - 0.06 * 230, abs=1)


def test_a_face_that_moves_stays_inside_with_room_for_hair():
    faces = boxes(*((400 + 5 * n, 300 + n) for n in range(60)))
    x0, y0, x1, y1 = box_of(faces)
    assert x1 - x0 == y1 - y0
    assert x0 <= 400 - 40 and x1 >= 795 + 40 and y0 <= 300 - 45 and y1 >= 459


def test_a_stray_detection_hardly_moves_the_box():
    calm = boxes(*((600, 300) for _ in range(99)))
    assert box_of(np.vstack([calm, boxes((900, 100))])) == box_of(calm)


@pytest.mark.parametrize("corner", [(0, 0), (1180, 620), (-30, 300), (600, -20)])
def test_a_box_at_the_border_moves_into_the_image(corner):
    box = box_of(boxes(corner))
    assert outside(box, HEIGHT, WIDTH) == (0, 0, 0, 0)
    assert box[2] - box[0] == 230


def test_a_box_larger_than_the_image_shrinks_before_it_is_padded():
    assert box_of(boxes((100, 100), side=310), height=512, width=512) == (0, 0, 512, 512)
    box = box_of(boxes((40, 40), side=400), height=512, width=512)
    assert box[2] - box[0] == 600
    assert outside(box, 512, 512) == (-box[0], -box[1], box[2] - 512, box[3] - 512)
    assert min(outside(box, 512, 512)) >= 0 and sum(outside(box, 512, 512)) == 2 * 88


def test_a_given_rectangle_becomes_a_square_inside_the_image():
    assert given_box((100, 200, 300, 400), HEIGHT, WIDTH) == (100, 200, 300, 400)
    assert given_box((100, 200, 300, 300), HEIGHT, WIDTH) == (100, 150, 300, 350)
    assert given_box((0, 0, 200, 300), HEIGHT, WIDTH) == (0, 0, 300, 300)
    assert given_box((100, 20, 1000, 700), HEIGHT, WIDTH) == (190, 0, 910, 720)


def test_cutting_out_keeps_places():
    image = make.portrait()
    np.testing.assert_array_equal(cut_out(image, (20, 30, 148, 158), 128), image[30:158, 20:148])
    half = cut_out(image, (20, 30, 276, 286), 128)
    np.testing.assert_allclose(half, image[30:286, 20:276].reshape(128, 2, 128, 2, 3).mean((1, 3)), atol=1)
    twice = cut_out(image, (20, 30, 148, 158), 256)
    error = twice.reshape(128, 2, 128, 2, 3).mean((1, 3)) - image[30:158, 20:148]
    pixel_off = image[30:158, 21:149].astype(float) - image[30:158, 20:148]
    assert np.abs(error).mean() < 0.2 * np.abs(pixel_off).mean()


def test_shrinking_does_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    assert cut_out(stripes, (0, 0, 512, 512), 128).std() < 2


def test_beyond_the_border_pixels_are_repeated():
    image = make.portrait()
    box = (-20, -10, 310, 320)
    assert outside(box, 300, 300) == (20, 10, 10, 20)
    expected = cv2.copyMakeBorder(image, 10, 20, 20, 10, cv2.BORDER_REPLICATE)
    np.testing.assert_array_equal(cut_out(image, box, 330), expected)
