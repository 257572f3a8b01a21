import sys

import pytest
import torch

from expportrait.generator.data import Windows

from . import make
from .several import STAND_IN

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Results folder with crop, control and latents of two clips."""
    results = tmp_path_factory.mktemp("results")
    make.latent_stores(results, make.config(results))
    return results


@pytest.fixture(scope="session")
def windows(prepared):
    paths = [{clip: prepared / stage / f"{clip}.zarr" for clip in make.CLIPS} for stage in ("latents", "control")]
    return Windows(*paths, ["normals", "coverage"])


@pytest.fixture
def eight_bits(monkeypatch):
    """A package bitsandbytes, gone afterwards: peft would ask it for more than there is."""
    monkeypatch.syspath_prepend(STAND_IN)
    yield
    for name in ("bitsandbytes", "bitsandbytes.optim"):
        sys.modules.pop(name, None)
