"""LPIPS and CSIM with the user's networks: here small stand-ins with known answers."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from expportrait.errors import UserError
from expportrait.metrics.identity import FIVE, TEMPLATE, ArcFace, aligned, csim
from expportrait.metrics.perceptual import Lpips


class Distance(torch.nn.Module):
    """As lpips.LPIPS: (1, 3, H, W) in -1..1 twice -> (1, 1, 1, 1)."""

    def __init__(self, net, verbose):
        super().__init__()
        assert net == "alex" and not verbose

    def forward(self, a, b):
        assert a.shape == b.shape == (1, 3, 16, 12) and a.abs().max() <= 1
        return (a - b).abs().mean((1, 2, 3), keepdim=True)


def test_lpips_gives_the_network_what_it_expects(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", module := ModuleType("lpips"))
    module.LPIPS = Distance
    a, b = (np.full((2, 16, 12, 3), value, np.uint8) for value in (0, 255))
    b[1] = 51
    measure = Lpips("alex")
    np.testing.assert_allclose(measure(a, b), [2, 0.4], rtol=1e-6)
    assert "alex" in measure.backend()["backend"]


def test_lpips_without_the_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(
        UserError, match=r"evaluate.lpips is alex, but the package lpips cannot be used .*leave .* empty"
    ):
        Lpips("alex")


class Session:
    """As onnxruntime's: a network whose embedding is the mean colour of the face."""

    def __init__(self, file, providers):
        if "picture" in Path(file).name:
            raise ValueError("no protobuf")
        self.shape = ["N", 3, 112, 112] if "face" in Path(file).name else [1, 112, 112, 3]

    def get_inputs(self):
        return [SimpleNamespace(name="data", shape=self.shape)]

    def run(self, outputs, feed):
        assert outputs is None and feed["data"].dtype == np.float32 and feed["data"].shape == (1, 3, 112, 112)
        assert feed["data"].min() >= -1 and feed["data"].max() <= 1
        return [feed["data"].mean((2, 3))]


@pytest.fixture
def network(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", module := ModuleType("onnxruntime"))
    module.InferenceSession = Session

    def network(name):
        (tmp_path / name).write_bytes(b"weights")
        return ArcFace(tmp_path / name)

    return network


def points(five):
    all_points = np.zeros((1, 478, 3), np.float32)
    all_points[0, FIVE, :2] = five
    return all_points


def test_csim_is_the_cosine_of_the_faces_embeddings(network):
    arcface = network("face.onnx")
    frames = np.zeros((3, 200, 200, 3), np.uint8)
    frames[0], frames[1], frames[2] = (255, 127, 127), (127, 255, 127), (255, 127, 127)
    where = np.repeat(points(TEMPLATE + 40), 3, 0)
    a = arcface.embed(frames[:2], where[:2], np.array([True, True]))
    b = arcface.embed(frames[[2, 2]], where[:2], np.array([True, True]))
    np.testing.assert_allclose(csim(a, b), [1, 0], atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1)
    missing = arcface.embed(frames[:2], where[:2], np.array([True, False]))
    np.testing.assert_array_equal(np.isnan(csim(a, missing)), [False, True])
    assert "sha256" in arcface.backend("the true frame")["backend"]


def test_faces_are_turned_scaled_and_moved_onto_the_template():
    picture = astronaut()
    five = np.array([[205, 105], [245, 105], [225, 130], [208, 150], [242, 150]], float)
    turn = np.array([[0, 1], [-1, 0]])  # the picture turned by 90 degrees: x' = y, y' = width - x
    turned = np.rot90(picture)
    upright = aligned(picture, five)
    sideways = aligned(turned, five @ turn.T + [0, picture.shape[1]])
    assert np.abs(upright - sideways).mean() < 1.5
    double = aligned(picture.repeat(2, 0).repeat(2, 1), 2 * five)
    assert np.abs(upright - double).mean() < 6


def test_files_that_are_no_arcface_are_one_sentence(network, monkeypatch):
    with pytest.raises(UserError, match=r"picture.png is not an ONNX network: no protobuf"):
        network("picture.png")
    with pytest.raises(UserError, match=r"other.onnx takes \[1, 112, 112, 3\], not ArcFace's \(N, 3, 112, 112\)"):
        network("other.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="needs onnxruntime: `pip install onnxruntime`"):
        network("face.onnx")
