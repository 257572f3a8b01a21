import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from scipy.spatial.transform import Rotation

from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_sixd, sixd_to_matrix

vector = st.lists(st.floats(-3.0, 3.0, width=32), min_size=3, max_size=3)


@given(vector)
@settings(deadline=None)
def test_matrix_agrees_with_scipy(v: list[float]) -> None:
    ours = axis_angle_to_matrix(torch.tensor(v, dtype=torch.float64))
    assert torch.allclose(ours, torch.from_numpy(Rotation.from_rotvec(v).as_matrix()), atol=1e-9)


@given(vector)
@settings(deadline=None)
def test_round_trips_give_the_same_rotation(v: list[float]) -> None:
    matrix = axis_angle_to_matrix(torch.tensor(v, dtype=torch.float64))
    assert torch.allclose(axis_angle_to_matrix(matrix_to_axis_angle(matrix)), matrix, atol=1e-7)
    assert torch.allclose(sixd_to_matrix(matrix_to_sixd(matrix)), matrix, atol=1e-9)


def test_half_turns_keep_their_axis() -> None:
    for axis in torch.eye(3, dtype=torch.float64):
        back = matrix_to_axis_angle(axis_angle_to_matrix(torch.pi * axis))
        assert torch.allclose(back.abs(), torch.pi * axis, atol=1e-6)


def test_gradient_at_rest_is_finite_and_right() -> None:
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_to_matrix, (zero,))
