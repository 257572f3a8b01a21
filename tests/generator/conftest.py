import pytest
import torch

from expportrait.generator.data import Windows

from . import make

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
