from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.generator.codec import LinearCodec, window_starts
from expportrait.generator.files import build
from expportrait.generator.sample import Sampler, generate

from .test_model import condition, config, trained

CODEC = LinearCodec(192, 4, 4)
TWO_STEPS = Sampler(steps=2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_windows_cover_every_frame_and_stay_inside(frames, window, data):
    stride = data.draw(st.integers(1, window))
    starts = window_starts(frames, window, stride)
    assert starts == sorted(set(starts)) and starts[0] == 0
    assert set(range(frames)) <= {start + i for start in starts for i in range(window)}
    assert all(start + window <= frames for start in starts) or starts == [0]


class Echo(torch.nn.Module):
    """Stands for a perfect model: its velocity leads to latents that decode to the first three control channels."""

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.calls = 0

    def forward(self, noised, sigma, given):
        self.calls += 1
        return (noised - CODEC.encode(given.control[:, :3])) / sigma.view(-1, 1, 1, 1, 1)


def play(model, frames, window=5, overlap=2, control=None, seed=0, sampler=TWO_STEPS, codec=CODEC):
    if control is None:
        control = torch.rand(4, frames, 16, 16, generator=torch.Generator().manual_seed(9)) * 2 - 1
    blocks = list(generate(model, codec, sampler, frames, window, overlap, lambda wanted: control[:, wanted],
                           torch.zeros(3, 16, 16), torch.zeros(4, 16, 16), seed))  # fmt: skip
    return np.concatenate(blocks), control


@pytest.mark.parametrize("frames", [1, 3, 5, 6, 12, 13, 29])
@pytest.mark.parametrize("overlap", [0, 2, 4])
def test_windows_join_to_the_right_frames(frames, overlap):
    video, control = play(Echo(), frames, overlap=overlap)
    assert video.shape == (frames, 16, 16, 3) and video.dtype == np.uint8
    expected = (control[:3].permute(1, 2, 3, 0).numpy() + 1) * 127.5
    # full-rank blocks of 4 frames lose nothing, whatever the window
    assert np.abs(video - expected).max() <= 1


def test_overlapping_windows_fade_into_each_other():
    class Steps(Echo):
        def forward(self, noised, sigma, given):
            self.calls += 1
            given = replace(given, control=torch.full_like(given.control, -0.5 if self.calls == 1 else 0.5))
            return Echo.forward(self, noised, sigma, given)

    video, _ = play(Steps(), frames=8, window=5, overlap=2, sampler=Sampler(steps=1))
    levels = video.mean((1, 2, 3))
    dark, light = levels[0], levels[-1]
    assert levels[:3] == pytest.approx(dark) and levels[5:] == pytest.approx(light) and light > dark + 100
    np.testing.assert_allclose((levels[3:5] - dark) / (light - dark), [1 / 3, 2 / 3], atol=0.02)


@torch.no_grad()
def test_the_seed_decides_the_sample():
    model = trained(config(latent_channels=192))
    first, control = play(model, 9, control=None, seed=1)
    assert np.array_equal(play(model, 9, control=control, seed=1)[0], first)
    assert not np.array_equal(play(model, 9, control=control, seed=2)[0], first)


@torch.no_grad()
def test_a_perfect_model_is_sampled_exactly_in_any_number_of_steps():
    noise = torch.randn(1, 192, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    control = torch.rand(1, 4, 5, 16, 16) * 2 - 1
    wanted = replace(condition(1, 16, 5), control=control)
    for steps in (1, 3, 10):
        latents = Sampler(steps=steps, shift=3.0).latents(Echo(), noise, wanted)
        torch.testing.assert_close(latents, CODEC.encode(control[:, :3]), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_guidance_weighs_reference_and_control_separately():
    class Parts(torch.nn.Module):
        calls = 0

        def forward(self, noised, sigma, given):
            Parts.calls += 1
            return noised * 0 + 1 + 10 * given.reference_kept[0] + 100 * given.reference_kept[0] * given.control_kept[0]

    noised, sigma, given = torch.zeros(1, 8, 3, 8, 8), torch.ones(1), condition(1)
    for reference, control, calls in ((1, 1, 1), (1, 3, 2), (2, 1, 3), (2, 3, 3)):
        Parts.calls = 0
        out = Sampler(reference_scale=reference, control_scale=control).velocity(Parts(), noised, sigma, given)
        assert float(out.mean()) == pytest.approx(1 + 10 * reference + 100 * control) and Parts.calls == calls


@torch.no_grad()
def test_untrained_x0_models_copy_the_reference():
    model = build(config(latent_channels=192, prediction="x0", reference="conv"), None).eval()
    video, _ = play(model, 9)
    assert np.abs(video.astype(int) - 128).max() <= 1  # the reference of `play` is grey


def carried_play(detail, seen=255, covered=255, change=0.0, still=False):
    """A film of the carried portrait, noise of full sharpness, by a model that gives it back, or brighter; the portrait
    is black, and has so moved far, or the film shows nothing else."""
    coarse, size, frames = LinearCodec(24, 4, 4), 16, 9
    moved = np.random.default_rng(3).integers(70, 186, (1 if still else frames, size, size, 3)).astype(np.uint8)
    portrait = torch.from_numpy(moved[0]).permute(2, 0, 1) / 127.5 - 1 if still else -torch.ones(3, size, size)
    moved = np.broadcast_to(moved, (frames, size, size, 3))

    class Changed(Echo):
        def forward(self, noised, sigma, given):
            goal = given.appearance + coarse.encode(torch.full((1, 3, 5, size, size), change))
            return (noised - goal) / sigma.view(-1, 1, 1, 1, 1)

    def control(wanted):
        return torch.zeros(4, frames, size, size)[:, wanted]

    def carried(wanted):
        shares = (np.full((frames, size, size), share, np.uint8)[wanted] for share in (seen, covered))
        return moved[wanted], *shares

    given = portrait, torch.zeros(4, size, size), 0
    blocks = generate(Changed(), coarse, TWO_STEPS, frames, 5, 2, control, *given, carried, detail)
    return np.concatenate(list(blocks)).astype(int), moved.astype(int)


def test_what_the_codec_loses_of_the_carried_portrait_can_be_put_back():
    blurred, moved = carried_play(0)
    sharp, _ = carried_play(1)
    assert np.abs(blurred - moved).mean() > 8 and np.abs(sharp - moved).max() <= 1


def test_but_not_where_it_was_not_seen():
    assert np.abs(carried_play(1, seen=0)[0] - carried_play(0, seen=0)[0]).max() == 0


def test_the_models_change_comes_on_top_of_the_portraits_own_pixels():
    brighter, moved = carried_play(1, change=0.5)
    added = brighter - moved
    assert np.ptp(added) <= 2 and 0.95 < added.mean() / (0.5 * 127.5) <= 1


@pytest.mark.parametrize("shares", [{"seen": 0}, {"covered": 0}])
def test_small_changes_are_noise_where_the_portrait_showed_the_head_and_nowhere_else(shares):
    brighter, moved = carried_play(1, change=0.06)
    assert np.abs(brighter - moved).max() <= 1
    elsewhere = carried_play(1, **shares, change=0.06)[0] - carried_play(1, **shares)[0]
    assert elsewhere.mean() == pytest.approx(0.06 * 127.5, abs=0.5)


def test_a_portrait_that_has_not_moved_is_not_changed():
    brighter, moved = carried_play(1, change=0.5, still=True)
    assert np.abs(brighter - moved).max() <= 1
