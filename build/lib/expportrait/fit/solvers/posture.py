"""What D_s has of the skeleton's turns, given back to the joints.

Clothes that are thicker on one side look like a body that is turned a little, and D_s takes its normals first. Then two
clips of one person would differ by how the person sat. On the whole clothes lie on the left as on the right, so the
part of D_s that lopsided turns of torso and shoulders explain is theirs: the joints turn by it, and what is posed stays
where it is, to first order (eq. 4).
"""

import torch
from torch import Tensor

from expportrait.head import JOINTS, Head

TORSO, LEFT, RIGHT, COLLARS = (JOINTS.index(x) for x in ("global", "left_shoulder", "right_shoulder", "left_collar"))
# Turns of joints, (joint, axis) -> sign. Each is antisymmetric: clothes that are alike on both sides cannot imitate it.
LOPSIDED = (
    {(TORSO, 1): 1},
    {(TORSO, 2): 1},
    {(LEFT, 0): 1, (RIGHT, 0): -1},
    {(LEFT, 1): 1, (RIGHT, 1): 1},
    {(LEFT, 2): 1, (RIGHT, 2): 1},
)
DAMPING = 1e-5  # of the squared turns, m^2 a vertex of the body: what nobody sees does not turn


def turn_fields(head: Head, shape: Tensor) -> Tensor:
    """(k, n_d, 3) m a rad: how the canonical head moves where torso and shoulders make the ``LOPSIDED`` turns; neck and
    head stay."""
    still = shape.new_zeros(1, head.n_expression)
    vertices, rest = head.dense.canonical(shape, still)[0], head.joints(shape, still)[0]
    weights, axes = head.dense.weights, torch.eye(3, device=shape.device)
    share = {TORSO: weights[:, TORSO] + weights[:, COLLARS:].sum(1), LEFT: weights[:, LEFT], RIGHT: weights[:, RIGHT]}

    def field(joint: int, axis: int) -> Tensor:
        return share[joint][:, None] * torch.linalg.cross(axes[axis].expand_as(vertices), vertices - rest[joint])

    return torch.stack([sum(sign * field(*key) for key, sign in turn.items()) for turn in LOPSIDED])


def turns_in(head: Head, shape: Tensor, offset: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The joints' turns (10, 3) rad that explain most of an offset field (n_d, 3) m over the vertices ``seen`` (n_d,)
    bool of the body, by least squares, and what of the field (n_d, 3) m they are."""
    fields = turn_fields(head, shape)
    body = head.regions == head.REGIONS.index("body")
    rows, damping = seen & body, DAMPING * int(body.sum())
    basis, wanted = fields[:, rows].flatten(1).double(), offset[rows].flatten().double()
    gram = basis @ basis.t() + damping * torch.eye(len(basis), device=basis.device)
    found = torch.linalg.solve(gram, basis @ wanted).float()
    turns = offset.new_zeros(len(JOINTS), 3)
    for value, turn in zip(found, LOPSIDED, strict=True):
        for key, sign in turn.items():
            turns[key] += sign * value
    return turns, torch.einsum("k,knd->nd", found, fields)
