import pytest
import torch
from benchmarks.made_heads import Truth, make_truth

from expportrait.estimators.head_landmarks import load_head
from expportrait.head import Head


@pytest.fixture(scope="session")
def head() -> Head:
    torch.set_num_threads(1)
    return load_head(None, 1, 20, 20)


@pytest.fixture(scope="session")
def truth(head: Head) -> Truth:
    return make_truth(head, 6)
