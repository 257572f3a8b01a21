import pytest
import torch

from benchmarks import made_people as make
from expportrait.fit.store import load_proxy
from expportrait.head import Head
from expportrait.store import Store

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


@pytest.fixture
def ann(head, fitted):
    return load_proxy(Store(fitted / "proxy" / "ann-1.zarr"), head)


@pytest.fixture
def bob(head, fitted):
    return load_proxy(Store(fitted / "proxy" / "bob-1.zarr"), head)
