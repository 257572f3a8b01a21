"""Motions over time: smoothed, and at the times of another clip."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.fit.displacement import Offsets
from expportrait.head.rotation import axis_angle_to_matrix
from expportrait.transfer.motion import Motion
from expportrait.transfer.timing import resampled, smoothed


def moves(times, value, angle=0.3):
    """Everything goes as ``value`` does, turns up to ``angle`` rad about an axis of their own."""
    value = value.float()[:, None]
    axis = torch.nn.functional.normalize(torch.tensor([1.0, -2, 0.5]), dim=0)
    turns = (angle * value * axis)[:, None].expand(-1, 3, -1)
    dynamic = Offsets(len(times), lambda frames: (value[frames] * 1e-3)[..., None].expand(-1, 5, 3))
    return Motion(value.expand(-1, 4), turns, turns, value.expand(-1, 3), 0.063, dynamic)


def seconds(fps, length):
    return torch.arange(round(fps * length), dtype=torch.float64) / fps


@pytest.mark.parametrize("fps", [25, 60])
def test_a_gaussian_lets_slow_motion_through_and_damps_fast_motion_by_what_it_should(fps):
    times, sigma = seconds(fps, 4), 0.08
    inner = slice(fps, 3 * fps)
    for hertz in (0.5, 3):
        wave = torch.sin(2 * math.pi * hertz * times)
        made = smoothed(moves(times, wave), times, sigma)
        expected = math.exp(-((2 * math.pi * hertz * sigma) ** 2) / 2) * wave
        for found in (made.expression[:, 0], made.dynamic[:][:, 0, 0] * 1e3, made.place[:, 0]):
            assert torch.allclose(found[inner].double(), expected[inner], atol=0.01)
        angle = made.turns[:, 0].norm(dim=-1)[inner].double()
        assert torch.allclose(angle, 0.3 * expected[inner].abs(), atol=0.01)


def test_smoothing_keeps_what_does_not_move_and_the_frames_asked_for_alone():
    times = seconds(25, 2)
    made = smoothed(moves(times, torch.ones(50)), times, 0.2)
    assert torch.allclose(made.turns, moves(times, torch.ones(50)).turns, atol=1e-5)
    wave = smoothed(moves(times, torch.sin(times)), times, 0.2).dynamic
    assert torch.allclose(wave[torch.tensor([31, 4])], wave[:][[31, 4]], atol=1e-7)
    assert torch.allclose(wave[7:9], wave[:][7:9], atol=1e-7)


@given(st.sampled_from([12.5, 24, 25, 29.97, 60]), st.sampled_from([15, 25, 30, 50]), st.floats(0, 9))
@settings(max_examples=25, deadline=None)
def test_a_motion_is_where_it_was_at_that_time_whatever_the_rates(own, other, start):
    """Something that goes at an even speed does so at every rate; times begin anywhere."""
    times, wanted = seconds(own, 3) + start, seconds(other, 2)
    made = resampled(moves(times, times - start), times, wanted)
    assert made.frames == len(wanted)
    assert torch.allclose(made.expression[:, 0].double(), wanted, atol=2e-3)
    assert torch.allclose(made.dynamic[:][:, 0, 0].double() * 1e3, wanted, atol=2e-3)
    assert torch.allclose(made.turns[:, 0].norm(dim=-1).double(), 0.3 * wanted, atol=1e-3)


def test_at_its_own_times_it_is_itself_to_the_bit_and_after_its_end_it_rests():
    times = seconds(30, 1)
    one = moves(times, torch.sin(3 * times))
    same = resampled(one, times, times + 7.00001)
    for name in ("expression", "face", "turns", "place"):
        assert torch.equal(getattr(same, name), getattr(one, name))
    assert torch.equal(same.dynamic[:], one.dynamic[:])
    longer = resampled(one, times, seconds(30, 2))
    assert torch.equal(longer.turns[:30], one.turns)
    assert torch.equal(longer.turns[29:], one.turns[29:].expand(31, -1, -1))
    picture = resampled(moves(times[:1], torch.ones(1)), times[:1], seconds(25, 1))
    assert torch.equal(picture.expression, torch.ones(25, 4)), "of a single image it has the pose all the time"


def test_turns_past_half_a_circle_take_the_short_way():
    times = seconds(10, 0.2)
    near = torch.tensor([[[0, 3.1, 0]], [[0, -3.1, 0]]]).expand(-1, 3, -1)
    one = replace(moves(times, torch.zeros(2)), turns=near)
    made = resampled(one, times, torch.tensor([0, 0.05], dtype=torch.float64))
    half = axis_angle_to_matrix(torch.tensor([0, math.pi, 0]))
    assert torch.allclose(axis_angle_to_matrix(made.turns[1, 0]), half, atol=1e-4)
