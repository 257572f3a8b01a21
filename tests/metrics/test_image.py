import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from expportrait.metrics.image import l1, psnr, ssim


def degraded(image):
    """The same picture blurred, noisy, shifted by a pixel, darker."""
    noise = np.random.default_rng(0).normal(0, 12, image.shape)
    return np.array([
        cv2.GaussianBlur(image, (0, 0), 2),
        (image + noise).clip(0, 255).astype(np.uint8),
        np.roll(image, 1, axis=1),
        (image * 0.7).astype(np.uint8),
    ])  # fmt: skip


@pytest.fixture(scope="module")
def clips():
    """Frames with odd sides, wider than high, and the truth."""
    picture = astronaut()[40:141, 150:281]
    worse = degraded(picture)
    return worse, np.broadcast_to(picture, worse.shape)


def test_psnr_is_that_of_scikit_image(clips):
    expected = [peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(*clips, strict=True)]
    np.testing.assert_allclose(psnr(*clips), expected, rtol=1e-12)


def test_ssim_is_that_of_scikit_image(clips):
    expected = [
        structural_similarity(a, b, data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False) for a, b in zip(*clips, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(ssim(*clips), expected, atol=1e-9)
    assert min(expected) < 0.8 < max(expected)


@pytest.mark.parametrize("shift", [1, 10, 100])
def test_a_constant_shift_has_known_values(shift):
    a = np.full((2, 16, 20, 3), 40, np.uint8)
    b = a + np.uint8(shift)
    np.testing.assert_allclose(psnr(a, b), 20 * np.log10(255 / shift))
    np.testing.assert_allclose(l1(a, b), shift / 255)
    x, y = 40 / 255, (40 + shift) / 255  # of flat pictures only the term of the means is left
    np.testing.assert_allclose(ssim(a, b), (2 * x * y + 1e-4) / (x * x + y * y + 1e-4))


def test_black_against_white_is_the_worst():
    black, white = (np.full((1, 16, 16, 3), value, np.uint8) for value in (0, 255))
    assert psnr(black, white)[0] == 0 and l1(black, white)[0] == 1 and ssim(black, white)[0] < 1e-3


def test_one_changed_frame_changes_its_own_value_only(clips):
    a, b = (clip.copy() for clip in clips)
    a[1:] = b[1:]
    assert np.isfinite(psnr(a, b)[0]) and np.isinf(psnr(a, b)[1:]).all()
    assert l1(a, b)[0] > 0 and not l1(a, b)[1:].any()
    np.testing.assert_allclose(ssim(a, b)[1:], 1, atol=1e-12)


pictures = arrays(np.uint8, (1, 13, 12, 3), elements=st.integers(0, 255))


@settings(max_examples=40, deadline=None)
@given(pictures, pictures)
def test_properties(a, b):
    for metric in (psnr, ssim, l1):
        np.testing.assert_allclose(metric(a, b), metric(b, a), err_msg="symmetric")
        np.testing.assert_allclose(metric(a[:, :, ::-1], b[:, :, ::-1]), metric(a, b), atol=1e-9, err_msg="mirrored")
    assert -1 - 1e-9 <= ssim(a, b)[0] <= 1 + 1e-9 and 0 <= l1(a, b)[0] <= 1 and psnr(a, b)[0] >= 0
    # mean |d| <= rmse <= sqrt(mean |d|) where |d| <= 1
    rmse = 10 ** (-psnr(a, b)[0] / 20)
    assert l1(a, b)[0] - 1e-12 <= rmse <= np.sqrt(l1(a, b)[0]) + 1e-12
    np.testing.assert_allclose(ssim(a, a), 1, atol=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim, l1])
def test_what_would_broadcast_or_overflow_is_refused(metric):
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    for other in (frames[:1], frames[:, :15], frames[0], frames[..., :1]):
        with pytest.raises(ValueError, match=r"alike|expected"):
            metric(frames, other)
    with pytest.raises(ValueError, match="float64"):
        metric(frames, frames / 255)


def test_frames_smaller_than_the_window_are_refused():
    tiny = np.zeros((1, 10, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="40x10 px are smaller than SSIM's window of 11 px"):
        ssim(tiny, tiny)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("kind", ["random", "equal", "flat", "black and white"])
def test_degenerate_films_have_scikit_images_numbers(kind, count):
    rng = np.random.default_rng(count)
    a, b = rng.integers(0, 256, (2, count, 12, 14, 3), np.uint8)
    if kind == "equal":
        b = a.copy()
    elif kind != "random":
        a, b = np.zeros_like(a), np.full_like(b, 255 if kind == "black and white" else 0)
    with np.errstate(divide="ignore"):
        expected = [peak_signal_noise_ratio(y, x, data_range=255) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(psnr(a, b), expected, rtol=1e-12)
    assert np.isinf(expected).all() == (kind in ("equal", "flat"))
    like = [
        structural_similarity(x, y, data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False) for x, y in zip(a, b, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(ssim(a, b), like, atol=1e-9)
    np.testing.assert_allclose(l1(a, b), [np.mean(np.abs(x / 255 - y / 255)) for x, y in zip(a, b, strict=True)])


def test_scikit_image_refuses_the_same_small_frames():
    tiny = np.zeros((10, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="win_size"):
        structural_similarity(tiny, tiny, data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5)
    assert np.isinf(psnr(tiny[None], tiny[None]))[0] and l1(tiny[None], tiny[None])[0] == 0
