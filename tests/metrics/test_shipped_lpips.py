"""LPIPS by the shipped weights on crops of known pictures.

The values were made once by this code, when it gave 0.7219 and 0.1376 on the LPIPS repository's own pictures (ex_ref
against ex_p0 and ex_p1 of richzhang/PerceptualSimilarity), as the original does; those pictures are not copied here.
"""

import cv2
import numpy as np
import pytest
from skimage.data import astronaut, chelsea

from expportrait.metrics.shipped_lpips import ShippedLpips


@pytest.fixture(scope="module")
def measure():
    return ShippedLpips()


def test_known_pictures_are_as_far_apart_as_ever(measure):
    face, cat = astronaut()[20:148, 160:288], chelsea()[60:188, 100:228]
    moved = np.concatenate([face[:, 2:], face[:, -2:]], 1)
    found = measure(np.stack([face, face, face]), np.stack([moved, face[:, ::-1], cat]))
    np.testing.assert_allclose(found, [0.02878, 0.21497, 0.51922], atol=1e-4)


def test_it_is_a_distance(measure):
    face, cat = astronaut()[20:148, 160:288], chelsea()[60:188, 100:228]
    blurred = [cv2.GaussianBlur(face, (0, 0), sigma) for sigma in (0.8, 1.6, 3.2)]
    found = measure(np.stack([face] * 4), np.stack([face, *blurred]))
    assert found[0] == 0 and (np.diff(found) > 0.05).all()
    there, back = measure(np.stack([face, cat]), np.stack([cat, face]))
    assert there == pytest.approx(back, rel=1e-5)


def test_one_batch_or_single_frames_are_the_same(measure):
    frames, others = (
        astronaut()[None, :96, 160:256].repeat(3, 0),
        np.stack([astronaut()[s : 96 + s, 160:256] for s in (1, 9, 60)]),
    )
    single = [measure(a[None], b[None])[0] for a, b in zip(frames, others, strict=True)]
    np.testing.assert_allclose(measure(frames, others), single, rtol=1e-6)


def test_the_smallest_picture_still_has_a_number(measure):
    a, b = (np.random.default_rng(i).integers(0, 256, (1, measure.least, measure.least, 3), np.uint8) for i in (0, 1))
    assert 0 < measure(a, b)[0] < 2


def test_features_of_the_truth_are_shared_and_change_nothing(measure):
    rng = np.random.default_rng(0)
    truth, other = rng.integers(0, 256, (2, 3, 64, 70, 3), np.uint8)
    held = np.broadcast_to(other[0], other.shape)
    found = measure.of_all(truth, {"other": other, "held": held})
    np.testing.assert_array_equal(found["other"], measure(other, truth))
    np.testing.assert_array_equal(found["held"], measure(held.copy(), truth))


def test_other_counts_and_sizes_are_refused(measure):
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    for other in (frames[:2], frames[:1], frames[:, :63]):
        with pytest.raises(ValueError, match="they have to be alike"):
            measure(other, frames)
    assert measure(frames[:0], frames[:0]).shape == (0,)


def test_the_record_says_what_measured_it(measure):
    about = measure.backend()
    assert {"backend", "weights", "input", "norm", "reduction", "unit"} <= set(about)
    assert len(about["weights"]["lpips_alex"]) == 64
