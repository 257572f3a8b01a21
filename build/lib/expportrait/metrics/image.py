"""Picture against picture, frame by frame: PSNR, SSIM and L1 of RGB values in 0..1."""

import cv2
import numpy as np

WINDOW, SIGMA = 11, 1.5  # px, of SSIM's Gaussian (Wang et al. 2004)
C1, C2 = 0.01**2, 0.03**2
BACKENDS = {
    "psnr": {"backend": "numpy", "norm": "20 log10(1 / rmse), RGB in 0..1", "unit": "dB",
             "reduction": "per frame, then mean over the frames; frames equal to the truth are left out and counted"},
    "ssim": {"backend": "opencv", "norm": "11x11 Gaussian window, sigma 1.5, K1 0.01, K2 0.03, population covariance",
             "unit": "none, 1 is equal", "reduction": "mean over whole windows and R, G, B, then over the frames"},
    "l1": {"backend": "numpy", "norm": "absolute difference of RGB in 0..1", "unit": "of the range of values",
           "reduction": "mean over pixels and R, G, B, then over the frames"},
}  # fmt: skip


def psnr(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) u8 each -> (T,) dB; infinite where a frame is identical to the truth."""
    a, b = _checked(images, truth)
    with np.errstate(divide="ignore"):
        return np.array([-10 * np.log10(np.mean((_unit(x) - _unit(y)) ** 2)) for x, y in zip(a, b, strict=True)])


def l1(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) u8 each -> (T,) mean absolute difference, 0..1."""
    a, b = _checked(images, truth)
    return np.array([np.abs(_unit(x) - _unit(y)).mean() for x, y in zip(a, b, strict=True)])


def ssim(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) u8 each, sides of at least 11 px -> (T,) structural similarity, -1..1, 1 where equal."""
    a, b = _checked(images, truth)
    if min(a.shape[1:3]) < WINDOW:
        raise ValueError(f"frames of {a.shape[2]}x{a.shape[1]} px are smaller than SSIM's window of {WINDOW} px")
    return np.array([_ssim(_unit(x), _unit(y)) for x, y in zip(a, b, strict=True)])


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return float((likeness / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))).mean())


def _blur(image: np.ndarray) -> np.ndarray:
    """Weighted means over the windows that lie inside the image: (H, W, 3) -> (H - 10, W - 10, 3)."""
    inside = slice(WINDOW // 2, -(WINDOW // 2))
    return cv2.GaussianBlur(image, (WINDOW, WINDOW), SIGMA)[inside, inside]


def _unit(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64) / 255


def _checked(images: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shapes and types that would broadcast to a number nobody meant raise ValueError."""
    for name, value in (("images", images), ("truth", truth)):
        if value.ndim != 4 or value.shape[-1] != 3 or value.dtype != np.uint8:
            raise ValueError(f"{name}: (T, H, W, 3) uint8 is expected, {value.shape} {value.dtype} came")
    if images.shape != truth.shape:
        raise ValueError(f"the images are {images.shape}, the truth is {truth.shape}: they have to be alike")
    return images, truth
