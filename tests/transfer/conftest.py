import pytest
import torch

from benchmarks import made_people as make
from expportrait.head import Head

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def head():
    return Head.load(subdivisions=0)


@pytest.fixture(scope="session")
def fitted(head, tmp_path_factory):
    """Results folder with the proxies of four people."""
    results = tmp_path_factory.mktemp("results")
    for clip in make.PEOPLE:
        make.proxy_store(results, head, clip)
    return results
