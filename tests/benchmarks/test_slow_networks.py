"""Stand-ins have the real networks' size and shapes: counted on the meta device, nothing is computed."""

import pytest
import torch
from benchmarks.slow_networks import Answered, Dpt, Rows, Sapiens
from benchmarks.stand_in_networks import NEARNESS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from expportrait.settings.weights import KNOWN


def counted(network, *shape):
    """Its output's shape and how many operations that takes."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = network(torch.zeros(shape, device="meta"))
    return tuple(out.shape), counter.get_total_flops()


def test_as_many_parameters_as_the_published_file_holds():
    published = next(file for file in KNOWN if file.set == "david-base" and file.key == "geometry.normals").megabytes
    with torch.device("meta"):
        count = sum(p.numel() for p in Dpt(3, shared=False).parameters())
    assert 4 * count / 1e6 == pytest.approx(published, rel=0.03)


def test_shared_weights_cost_what_weights_of_their_own_cost():
    with torch.device("meta"):
        shared, own = (counted(Dpt(1, shared), 1, 3, 512, 512) for shared in (True, False))
    assert shared == own
    assert shared[0] == (1, 1, 512, 512) and 0.35e12 < shared[1] < 0.45e12


def test_shapes_are_those_of_the_interfaces():
    with torch.device("meta"):
        depth = Answered(Dpt(1), Rows(NEARNESS, flat=True))
        assert counted(depth, 2, 3, 512, 512)[0] == (2, 512, 512)
        assert counted(Sapiens(28, 768, 3, 3), 1, 3, 1024, 768)[0] == (1, 28, 512, 384)
