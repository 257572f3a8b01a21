"""Metrics against torchmetrics, where it is installed: a third implementation, of other people."""

import numpy as np
import pytest
import torch

from expportrait.estimators.blendshapes import Expressions
from expportrait.metrics.blendshapes import EXPRESSION, GAZE, JAW, aed, gaze, jaw
from expportrait.metrics.identity import csim
from expportrait.metrics.image import WINDOW, l1, psnr, ssim

theirs = pytest.importorskip("torchmetrics.functional.image")
functional = pytest.importorskip("torchmetrics.functional")
EDGE = WINDOW // 2


def cases():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (3, 33, 40, 3), np.uint8)
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (1, 64, 20, 3))
    return {
        "noise": (noise, rng.integers(0, 256, noise.shape, np.uint8)),
        "a little noise": (noise, (noise + rng.integers(-3, 4, noise.shape)).clip(0, 255).astype(np.uint8)),
        "one frame, one window": (noise[:1, :WINDOW, :WINDOW], noise[1:2, :WINDOW, :WINDOW]),
        "equal frames": (noise, noise.copy()),
        "flat": (np.zeros((2, 16, 16, 3), np.uint8), np.full((2, 16, 16, 3), 255, np.uint8)),
        "a ramp and its mirror": (ramp, np.ascontiguousarray(ramp[:, ::-1])),
    }


def tensors(*clips):
    return (torch.from_numpy(np.array(clip)).permute(0, 3, 1, 2).contiguous().double() / 255 for clip in clips)


@pytest.mark.parametrize("case", cases())
def test_they_agree(case):
    """SSIM over whole windows: torchmetrics' own mean also counts windows on mirrored borders."""
    a, b = cases()[case]
    x, y = tensors(a, b)
    expected = theirs.peak_signal_noise_ratio(x, y, data_range=1.0, reduction="none", dim=(1, 2, 3))
    np.testing.assert_allclose(psnr(a, b), expected, rtol=1e-6)
    _, full = theirs.structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    inside = full[..., EDGE:-EDGE, EDGE:-EDGE].mean((1, 2, 3))
    np.testing.assert_allclose(ssim(a, b), inside, atol=1e-6)
    single = [float(functional.mean_absolute_error(p, q)) for p, q in zip(x, y, strict=True)]
    np.testing.assert_allclose(l1(a, b), single, atol=1e-7)


def test_motion_and_likeness_are_mean_absolute_errors_and_a_cosine():
    rng = np.random.default_rng(0)
    a, b = (Expressions(np.ones(5, bool), rng.random((5, 51)), np.tile(np.eye(4), (5, 1, 1)), np.zeros((5, 478, 3)))
            for _ in range(2))  # fmt: skip
    for measure, which in ((aed, EXPRESSION), (jaw, JAW), (gaze, GAZE)):
        x, y = (torch.from_numpy(of.scores[:, which]) for of in (a, b))
        expected = [float(functional.mean_absolute_error(p, q)) for p, q in zip(x, y, strict=True)]
        np.testing.assert_allclose(measure(a, b), expected)
    rows = rng.normal(size=(2, 5, 128))
    expected = functional.cosine_similarity(*map(torch.from_numpy, rows), reduction="none")
    unit = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    np.testing.assert_allclose(csim(*unit), expected, atol=1e-6)
    np.testing.assert_allclose(csim(unit[0], unit[0]), 1)
