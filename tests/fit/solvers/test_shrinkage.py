"""What a clip's frames together say of D_t: known fields, with and without noise."""

import pytest
import torch
from torch import Tensor

from expportrait.fit.dynamic import DynamicField
from expportrait.fit.solvers.shrinkage import noise_share, shrink

FRAMES, VERTICES = 30, 200
STRENGTH = torch.tensor([1.0, 0.3, 0.3, 0.01]).repeat(VERTICES // 4)


def wrinkles() -> Tensor:
    """(T, n, 3) m: a tenth of the vertices bulge by 1 mm and back, slowly; the rest by 1 % of that."""
    out = torch.sin(torch.arange(FRAMES) / 5.0)[:, None, None] * torch.tensor([0.0, 0.2, 1.0]) * 1e-3
    strength = torch.where(torch.arange(VERTICES) < VERTICES // 10, 1.0, 0.01)
    return out * strength[:, None]


def wrinkles_all_over() -> Tensor:
    """(T, n, 3) m: a quarter of the vertices bulge by 1 mm and back, half of them by a third of that."""
    wave = 1e-3 * torch.sin(torch.arange(FRAMES) / 5.0)
    return wave[:, None, None] * STRENGTH[:, None] * torch.tensor([0.0, 0.2, 1.0])


def held(rows: Tensor) -> DynamicField:
    dynamic = DynamicField(len(rows), rows.shape[1])
    dynamic.move(torch.arange(len(rows)), rows)
    return dynamic


def noise() -> Tensor:
    return 3e-4 * torch.randn(FRAMES, VERTICES, 3, generator=torch.Generator().manual_seed(0))


def off(dynamic: DynamicField, true: Tensor) -> float:
    """Error over the truth's size, both less their means."""
    found = dynamic[:]
    true = true - true.mean(0)
    return float((found - found.mean(0) - true).norm() / true.norm())


def test_exact_wrinkles_are_kept() -> None:
    dynamic = held(wrinkles())
    assert noise_share(dynamic) < 0.01
    shrink(dynamic, torch.ones(FRAMES))
    assert off(dynamic, wrinkles()) < 0.05


def test_exact_wrinkles_all_over_the_face_keep_their_size() -> None:
    dynamic = held(wrinkles_all_over())
    shrink(dynamic, torch.ones(FRAMES))
    assert off(dynamic, wrinkles_all_over()) < 0.05


@pytest.mark.parametrize("noisy, kept", [(0.2, (0.65, 0.82)), (0.4, (0.3, 0.45))])
def test_wrinkles_are_taken_back_by_how_much_of_d_t_is_noise(noisy: float, kept: tuple[float, float]) -> None:
    """By shares of .06, half of NOISY, and .2: the lesser wrinkles lie where seven tenths of the face end."""
    rows = wrinkles_all_over() + noisy * noise()
    dynamic, lesser = held(rows), STRENGTH == 0.3
    shrink(dynamic, torch.ones(FRAMES))
    deviation = dynamic[:] - dynamic.mean()
    share = float(deviation[:, lesser].norm() / (rows - rows.mean(0))[:, lesser].norm())
    assert kept[0] < share < kept[1]


def test_noise_is_averaged_and_taken_back() -> None:
    dynamic = held(wrinkles() + noise())
    before = off(dynamic, wrinkles())
    assert 0.4 < noise_share(dynamic) < 0.9
    shrink(dynamic, torch.ones(FRAMES))
    assert before > 1.2 and off(dynamic, wrinkles()) < 0.45 * before


def test_the_mean_over_the_clip_stays() -> None:
    """It is moved into D_s by recentre, not lost."""
    dynamic = held(wrinkles() + 5e-4)
    mean = dynamic.mean()
    shrink(dynamic, torch.ones(FRAMES))
    torch.testing.assert_close(dynamic.mean(), mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(dynamic[:].mean(0), dynamic.mean(), atol=1e-6, rtol=0)


def test_a_frame_that_nobody_trusts_follows_its_neighbours() -> None:
    rows = wrinkles() + noise()
    rows[8] += 0.01
    trust = torch.ones(FRAMES)
    dynamic, doubted = held(rows), held(rows)
    shrink(dynamic, trust)
    trust[8] = 1e-6
    shrink(doubted, trust)
    gap = [float((x[8:9] - wrinkles()[8]).norm()) for x in (dynamic, doubted)]
    assert gap[1] < 0.5 * gap[0]


@pytest.mark.parametrize("frames", [1, 2])
def test_too_few_frames_are_left_alone(frames: int) -> None:
    dynamic = held(wrinkles()[:frames])
    shrink(dynamic, torch.ones(frames))
    assert torch.equal(dynamic[:], wrinkles()[:frames])
