"""What of the offsets are turns of joints, and that giving them to the joints moves nothing."""

import pytest
import torch

from expportrait.fit.parameters import HeadParameters
from expportrait.fit.solvers.posture import turn_fields, turns_in
from expportrait.head import JOINTS, Head
from expportrait.render import vertex_normals

TORSO, LEFT, RIGHT = (JOINTS.index(name) for name in ("global", "left_shoulder", "right_shoulder"))
TURNS = torch.tensor([0.03, -0.02, 0.02, 0.03, -0.04])  # of ``LOPSIDED``, rad


@pytest.fixture
def shape(head: Head) -> torch.Tensor:
    return torch.linspace(-1, 1, head.n_shape)


@pytest.fixture
def offset(head: Head, shape: torch.Tensor) -> torch.Tensor:
    """(n_d, 3) m that looks like turns."""
    return torch.einsum("k,knd->nd", TURNS, turn_fields(head, shape))


def test_turns_are_found_beneath_clothes(head: Head, shape: torch.Tensor, offset: torch.Tensor) -> None:
    clothes = 0.01 * vertex_normals(head.dense.template[None], head.dense_faces)[0]  # left as right
    found, part = turns_in(head, shape, offset + clothes, torch.ones(len(offset), dtype=torch.bool))
    torso, left, right = found[TORSO], found[LEFT], found[RIGHT]
    wanted = torch.tensor([[0, 0.03, -0.02], [0.02, 0.03, -0.04], [-0.02, 0.03, -0.04]])
    torch.testing.assert_close(torch.stack([torso, left, right]), wanted, atol=0.003, rtol=0)
    assert float((part - offset).norm() / offset.norm()) < 0.1
    assert not found[1:6].any(), "neck, head and face stay"


def test_what_the_joints_take_over_stays_where_it_is(head: Head, shape: torch.Tensor, offset: torch.Tensor) -> None:
    p = HeadParameters.neutral(head, 2, 512, 1500.0)
    p.shape = shape
    p.set_pose(0.1 * torch.randn(2, len(JOINTS), 3, generator=torch.Generator().manual_seed(0)), p.translation())
    still = torch.zeros(2, head.n_expression)

    def posed(offset: torch.Tensor) -> torch.Tensor:
        return head.pose(head.dense, p.shape, still, p.matrices(), p.translation(), offset)

    before = posed(offset)
    turns, part = turns_in(head, p.shape, offset, torch.ones(len(offset), dtype=torch.bool))
    p.turn_body(turns)
    after, apart = posed(offset - part), (before - posed(offset)).norm(dim=-1)
    assert float(apart.max()) > 5e-3, "the joints did turn"
    assert float((after - before).norm(dim=-1).mean()) < 0.1 * float(apart.mean())
    face = head.facial > 0.99
    assert float((after - before)[:, face].abs().max()) < 1e-5


def test_a_body_that_nobody_sees_does_not_turn(head: Head, shape: torch.Tensor, offset: torch.Tensor) -> None:
    found, part = turns_in(head, shape, offset, head.regions != head.REGIONS.index("body"))
    assert not found.any() and not part.any()
