import torch
from benchmarks.made_heads import Truth, clip_model

from expportrait.fit.unknowns import Unknowns
from expportrait.head import Head
from expportrait.settings.config import Proxy

EVERY = torch.arange(6)


def values(u: Unknowns) -> list[torch.Tensor]:
    """All that a solver can read of them, as copies."""
    read = [*u.parameters.tensors().values(), u.static, u.dynamic[EVERY], u.dynamic.mean(), u.bias.turn]
    return [x.clone() for x in read]


def shifted(u: Unknowns) -> None:
    """Move everything, in place where solvers do."""
    for x in (*u.parameters.tensors().values(), u.static, u.bias.turn, u.dynamic.shift):
        x += 0.01
    batch = EVERY[:2]
    u.dynamic.load(batch)
    u.dynamic.step(torch.ones_like(u.dynamic[batch]), 1e-3)


def test_a_copy_keeps_all_that_moves(head: Head, truth: Truth) -> None:
    """Also when D_t and its moments have moved before."""
    u = clip_model(head, truth, Proxy(coarse_size=64, fine_size=128)).unknowns
    for _ in range(2):
        before, copy = values(u), u.copy()
        assert all(torch.equal(a, b) for a, b in zip(values(copy), before, strict=True))
        shifted(u)
        assert all(torch.equal(a, b) for a, b in zip(values(copy), before, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(values(u), before, strict=True))
        # The moments too: the same step leads to the same place.
        again, other = copy.copy(), copy
        shifted(again)
        shifted(other)
        assert all(torch.equal(a, b) for a, b in zip(values(again), values(other), strict=True))
