"""Model files in SMPL-X's layout made from the open head, once a session."""

import numpy as np
import pytest
import torch

from expportrait.estimators.head_landmarks import load_head
from expportrait.head import Head
from expportrait.head.layout import read_model
from expportrait.head.smplx import smplx_arrays
from expportrait.settings.config import HeadSettings
from tests.head.real_sizes import user_arrays


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def head() -> Head:
    return Head.load()


@pytest.fixture(scope="session")
def exported() -> dict[str, np.ndarray]:
    return smplx_arrays(read_model(None, 300, 100))


@pytest.fixture(scope="session")
def corrective_file(exported, tmp_path_factory):
    """The exported file with random pose correctives of about 5 mm a radian."""
    noise = np.random.default_rng(0).normal(0, 0.005, exported["posedirs"].shape).astype(np.float32)
    path = tmp_path_factory.mktemp("correctives") / "SMPLX_CORRECTIVES.npz"
    np.savez(path, **(exported | {"posedirs": noise}))
    return path


@pytest.fixture(scope="session")
def real_shape_file(exported, tmp_path_factory):
    """A file of the real SMPL-X's sizes (10,475 vertices, 20,908 faces), parts (no teeth, no tongue) and keys: what
    a user's file looks like."""
    path = tmp_path_factory.mktemp("real") / "SMPLX_NEUTRAL.npz"
    np.savez(path, **user_arrays(exported))
    return path


@pytest.fixture(scope="session")
def users_cache(real_shape_file, tmp_path_factory):
    """A cache for EXPPORTRAIT_CACHE with the landmarks that the detector found on that file, once a session."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPPORTRAIT_CACHE", str(folder))
        load_head(HeadSettings(file=real_shape_file))
    return folder
