import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from expportrait.appearance.paste import Paste, pasted
from expportrait.video.framing import cut_out
from expportrait.video.turning import turned, turned_box


def cropped(source, box, degrees, size):
    """What crop makes of a box of the source before it is turned."""
    return cut_out(turned(source, degrees), turned_box(box, degrees, *source.shape[:2]), size)


def resized(picture, size):
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if size < len(picture) else cv2.INTER_CUBIC)


def moved(picture, shift, centre=(0.5, 0.45), radius=0.3):
    """What lies in a circle of a square picture goes by ``shift`` shares of its side, softly around it."""
    size = len(picture)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    share = np.clip(2 - 2 * np.hypot(x / size - centre[0], y / size - centre[1]) / radius, 0, 1)
    share = share * share * (3 - 2 * share)
    at = (x - share * shift[0] * size).astype(np.float32), (y - share * shift[1] * size).astype(np.float32)
    return cv2.remap(picture, *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


BOXES = {"inside": (100, 20, 400, 320), "beyond two sides": (-60, -40, 340, 360), "larger": (-30, -30, 542, 542)}


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("size, made", [(512, 512), (256, 256), (512, 256), (200, 200)])
def test_an_unchanged_frame_gives_the_source_back(degrees, box, size, made):
    picture = cropped(astronaut(), BOXES[box], degrees, size)
    whole = Paste(astronaut(), BOXES[box], degrees, picture)(resized(picture, made))
    assert np.abs(whole.astype(int) - astronaut()).max() <= 1


@pytest.mark.parametrize("size", [200, 300, 512])
def test_noise_of_a_codec_moves_nothing(size):
    picture = cropped(astronaut(), BOXES["inside"], 0, size)
    noise = np.random.default_rng(0).normal(0, 1.5, picture.shape)
    whole = Paste(astronaut(), BOXES["inside"], 0, picture)((picture + noise).round().clip(0, 255).astype(np.uint8))
    assert np.abs(whole.astype(int) - astronaut()).max() <= 2


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("box", BOXES)
def test_what_moved_is_shown_in_place_and_nothing_else_changes(degrees, box):
    source, size = astronaut(), 512
    x0, y0, x1, y1 = BOXES[box]
    picture = cropped(source, BOXES[box], degrees, size)
    made = moved(picture, (0.05, 0.03), radius=0.25)
    whole = Paste(source, BOXES[box], degrees, picture)(made)
    outside = np.ones(source.shape[:2], bool)
    outside[max(y0, 0) : y1, max(x0, 0) : x1] = False
    assert np.array_equal(whole[outside], source[outside])
    there = cropped(whole, BOXES[box], degrees, size).astype(int)
    changed = np.abs(made.astype(int) - picture).max(2)
    middle = np.zeros((size, size), bool)
    middle[150:310, 190:330] = True
    shown = np.zeros((size, size), bool)  # of the crop, what lies in the picture
    shown[:] = cropped(np.full_like(source, 255), BOXES[box], degrees, size)[..., 0] > 0
    error, held = (np.abs(there - one)[middle & (changed > 20)].mean() for one in (made, picture))
    assert error < 0.2 * held
    still = cv2.dilate(np.uint8(changed > 0), np.ones((61, 61))) == 0
    assert still.mean() > 0.1 and np.array_equal(there[still], picture[still].astype(int))
    assert shown.all()


def test_no_step_stands_at_the_border_of_the_box():
    source, box = astronaut(), (120, 10, 370, 260)
    picture = cropped(source, box, 0, 256)
    made = np.roll(picture, (9, -12), (0, 1))  # everything moves, shoulders that the box cuts too
    whole = Paste(source, box, 0, picture)(made).astype(int)
    for axis, lines in ((0, (10, 260)), (1, (120, 370))):
        steps = np.abs(np.diff(whole, axis=axis)).mean(2)
        usual = np.abs(np.diff(source.astype(int), axis=axis)).mean(2)
        for line in lines:
            along = slice(10, 260) if axis else slice(120, 370)
            at, own = (np.take(one, line - 1, axis)[along].mean() for one in (steps, usual))
            assert at < 1.3 * own + 1


def test_shoulders_that_the_box_cuts_are_bent_and_not_doubled():
    """A dark shape on a light ground that goes on beyond the box and moves within: there is one edge on every line."""
    source = np.full((400, 400, 3), 200, np.uint8)
    source[150:, 140:260] = 40
    box = (50, 50, 350, 350)
    picture = cropped(source, box, 0, 300)
    made = np.full_like(picture, 200)
    made[100:, 90 + 14 : 210 + 14] = 40
    whole = Paste(source, box, 0, picture)(made)[..., 0].astype(int)
    for line in range(310, 352):
        row = whole[line, :200]
        falls = np.diff(row) < -8
        assert np.diff(np.flatnonzero(falls)).max(initial=1) <= 3, f"two edges at the left on line {line}"
        assert 138 <= np.flatnonzero(row < 120)[0] <= 156
    assert np.array_equal(whole[350:], source[350:, :, 0])


def test_colours_stay_where_the_crop_is_smaller_than_the_box():
    source = cv2.resize(astronaut(), (1536, 1536), interpolation=cv2.INTER_CUBIC)
    source = np.clip(source + np.random.default_rng(0).normal(0, 4, source.shape), 0, 255).astype(np.uint8)
    box = (300, 60, 1200, 960)
    picture = cropped(source, box, 0, 256)
    whole = Paste(source, box, 0, picture)(moved(picture, (0.04, 0)))
    mean = [cv2.GaussianBlur(one.astype(np.float32), (0, 0), 24) for one in (whole, source)]
    edge = np.zeros(source.shape[:2], bool)
    edge[60:960, 300:1200] = True
    edge[160:860, 400:1100] = False
    assert np.abs(mean[0] - mean[1])[edge].max() < 2


def test_frames_come_one_at_a_time_and_leave_the_source_alone():
    source = astronaut()
    picture = cropped(source, BOXES["inside"], 0, 256)
    frames = pasted(source, BOXES["inside"], 0, picture, (moved(picture, (n / 100, 0)) for n in range(3)))
    first, second, third = frames
    assert np.array_equal(first, source) and not np.array_equal(second, third)
    assert np.array_equal(source, astronaut())
