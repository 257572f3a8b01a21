"""Mesh files, read back by readers written from the specifications."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.render import Camera
from expportrait.show.meshfile import Mesh, write_glb, write_ply
from tests.show.read import read_glb, read_ply


def random_mesh(n: int, seed: int) -> Mesh:
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(n, 3)).astype(np.float32)
    normals[0] = 0  # of a vertex in no face
    vertices = rng.normal(size=(n, 3)).astype(np.float32)
    return Mesh(vertices, rng.integers(0, n, (2 * n - 1, 3)), normals, rng.integers(0, 256, (n, 3)).astype(np.uint8))


@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 40), frames=st.integers(1, 5), seed=st.integers(0, 99), name=st.text(min_size=1, max_size=9))
def test_glb_comes_back(tmp_path_factory, n, frames, seed, name):
    file = tmp_path_factory.mktemp("glb") / "a.glb"
    first, *others = (random_mesh(n, seed + k) for k in range(frames))
    times = [k / 24 for k in range(frames)]
    write_glb(file, first, others, times, Camera(600.0, 128, 128, 256, 256), name)
    document, arrays = read_glb(file)
    (primitive,) = document["meshes"][0]["primitives"]
    assert document["nodes"][0] == {"name": name, "mesh": 0}
    np.testing.assert_array_equal(arrays[primitive["attributes"]["POSITION"]], first.vertices)
    np.testing.assert_array_equal(arrays[primitive["indices"]].reshape(-1, 3), first.faces)
    lens = document["cameras"][0]["perspective"]
    assert 128 / math.tan(lens["yfov"] / 2) == pytest.approx(600) and lens["aspectRatio"] == 1

    assert ("animations" in document) == (frames > 1)
    if frames == 1:
        return
    sampler = document["animations"][0]["samplers"][0]
    np.testing.assert_allclose(arrays[sampler["input"]][:, 0], times, atol=1e-6)
    weights = arrays[sampler["output"]].reshape(frames, -1)
    moved = np.stack([arrays[target["POSITION"]] for target in primitive["targets"]])
    for weight, truth in zip(weights, (first, *others), strict=True):
        posed = arrays[primitive["attributes"]["POSITION"]] + np.tensordot(weight, moved, 1)
        np.testing.assert_allclose(posed, truth.vertices, atol=1e-5)


def test_glb_colours_are_linear(tmp_path):
    mesh = random_mesh(3, 0)
    mesh.colours[:] = [[0, 0, 0], [188, 188, 188], [255, 255, 255]]
    write_glb(tmp_path / "a.glb", mesh)
    document, arrays = read_glb(tmp_path / "a.glb")
    index = document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]
    assert arrays[index].tolist() == [[0, 0, 0, 255], [128, 128, 128, 255], [255, 255, 255, 255]]
    assert document["accessors"][index]["normalized"]


def test_glb_wants_a_time_for_each_keyframe(tmp_path):
    with pytest.raises(ValueError, match="1 times for 2 keyframes"):
        write_glb(tmp_path / "a.glb", random_mesh(3, 0), [random_mesh(3, 1)], [0.0])
    assert not list(tmp_path.iterdir())


def test_ply_comes_back(tmp_path):
    mesh = random_mesh(50, 1)
    write_ply(tmp_path / "deep" / "a.ply", mesh)
    vertices, faces = read_ply(tmp_path / "deep" / "a.ply")
    np.testing.assert_array_equal(np.stack([vertices[c] for c in ("x", "y", "z")], 1), mesh.vertices)
    np.testing.assert_array_equal(np.stack([vertices[c] for c in ("nx", "ny", "nz")], 1), mesh.normals)
    np.testing.assert_array_equal(np.stack([vertices[c] for c in ("red", "green", "blue")], 1), mesh.colours)
    np.testing.assert_array_equal(faces, mesh.faces)
