import pytest
import torch
from benchmarks.made_heads import Truth, make_truth

from expportrait.estimators.head_landmarks import load_head
from expportrait.head import Head
from expportrait.settings.config import HeadSettings


@pytest.fixture(scope="session")
def head() -> Head:
    """With all of the expression, whose face units have a term of their own."""
    torch.set_num_threads(1)
    return load_head(HeadSettings(shape_components=20))


@pytest.fixture(scope="session")
def truth(head: Head) -> Truth:
    return make_truth(head, 6)
