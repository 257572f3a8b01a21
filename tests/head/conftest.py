"""Model files in SMPL-X's layout made from the open head, once a session."""

import numpy as np
import pytest
import torch

from expportrait.head import Head
from expportrait.head.layout import read_model
from expportrait.head.smplx import smplx_arrays


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
    """A file of the real SMPL-X's sizes (10,475 vertices, 20,908 faces) and parts (no teeth, no tongue), and without
    the keys that are ours: what a user's file looks like."""
    vertices, faces, part = exported["v_template"], exported["f"].astype(np.int64), exported["vertex_part"]
    order = np.argsort(vertices[:, 1] + 10 * (part > 1), kind="stable")
    gone = np.concatenate([np.flatnonzero(part > 1), order[: 13886 - 10475 - (part > 1).sum()]])
    kept = np.setdiff1d(np.arange(13886), gone)
    new_id = np.full(13886, -1)
    new_id[kept] = np.arange(len(kept))
    faces = new_id[faces]
    faces = faces[(faces >= 0).all(1)]
    lowest = np.argsort(vertices[kept][faces[:, 0], 1], kind="stable")
    padding = faces[lowest[: max(20908 - len(faces), 0)]]
    faces = np.concatenate([np.delete(faces, lowest[: max(len(faces) - 20908, 0)], axis=0), padding])
    ours = ("landmark_", "unit_", "vertex_part")
    arrays = {key: value for key, value in exported.items() if not key.startswith(ours)}
    for key in ("v_template", "shapedirs", "posedirs", "weights"):
        arrays[key] = exported[key][kept]
    regressor = exported["J_regressor"][:, kept]
    arrays["J_regressor"] = regressor + np.where(np.abs(regressor.sum(1, keepdims=True) - 1) > 1e-3, 1 / len(kept), 0)
    arrays["f"] = faces.astype(np.uint32)
    path = tmp_path_factory.mktemp("real") / "SMPLX_NEUTRAL.npz"
    np.savez(path, **arrays)
    return path
