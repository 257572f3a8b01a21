"""LPIPS and CSIM with the user's networks: here small stand-ins with known answers."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from benchmarks.stand_in_networks import mean_colour
from skimage.data import astronaut

from expportrait.errors import UserError
from expportrait.estimators.arcface import FIVE, TEMPLATE, ArcFace, aligned, likeness
from expportrait.metrics.backbone import LAYERS
from expportrait.metrics.identity import backend, csim
from expportrait.metrics.perceptual import Lpips, OwnLpips


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


@pytest.fixture
def network(tmp_path):
    def network(name, shape=("N", 3, 112, 112), flat=True, gain=1.0):
        return ArcFace(mean_colour(tmp_path / name, shape, flat, gain), "evaluate.arcface")

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
    assert len(backend(arcface, "the true frame")["weights"]["arcface"]) == 64


def test_a_network_whose_embedding_is_zero_is_refused(network):
    grey = np.full((1, 200, 200, 3), 127.5).astype(np.uint8)
    nothing = network("nothing.onnx", gain=0.0)
    with pytest.raises(UserError, match=r"nothing.onnx gives embeddings that are no numbers, or zero"):
        nothing.embed(grey, points(TEMPLATE + 40), np.ones(1, bool))


def test_likeness_is_that_to_whom_most_are_like():
    same, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    np.testing.assert_allclose(likeness(np.concatenate([other, same, same, same])), [0, 1, 1, 1])
    np.testing.assert_allclose(likeness(same), [1])


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


def test_faces_in_one_batch_or_one_by_one_embed_alike(network):
    frames = np.random.default_rng(0).integers(0, 256, (4, 200, 200, 3), np.uint8)
    where, found = np.repeat(points(TEMPLATE + 40), 4, 0), np.ones(4, bool)
    together = network("many.onnx").embed(frames, where, found)
    np.testing.assert_allclose(network("one.onnx", (1, 3, 112, 112)).embed(frames, where, found), together, atol=1e-6)
    assert np.isnan(network("many.onnx").embed(frames, where, ~found)).all()


def test_files_that_are_no_arcface_are_one_sentence(network, tmp_path, monkeypatch):
    (tmp_path / "picture.png").write_bytes(b"picture")
    with pytest.raises(UserError, match=r"picture.png is not an ONNX network"):
        ArcFace(tmp_path / "picture.png", "evaluate.arcface")
    with pytest.raises(
        UserError, match=r"other.onnx takes data \[1, 3, 128, 128\].*, not ArcFace's .*\(N, 3, 112, 112\)"
    ):
        network("other.onnx", (1, 3, 128, 128))
    with pytest.raises(UserError, match="not a network of embeddings"):
        network("maps.onnx", flat=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="needs onnxruntime: `pip install onnxruntime`"):
        network("face.onnx")


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory):
    """Files of the published names and shapes, with random weights."""
    folder, g = tmp_path_factory.mktemp("lpips"), torch.Generator().manual_seed(0)
    features, linear = {}, {}
    for i, (number, inside, out, kernel, *_) in enumerate(LAYERS):
        features[f"features.{number}.weight"] = (
            torch.randn(out, inside, kernel, kernel, generator=g) / kernel / inside**0.5
        )
        features[f"features.{number}.bias"] = 0.1 * torch.randn(out, generator=g)
        linear[f"lin{i}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=g)
    features["classifier.6.weight"] = torch.zeros(2, 2)  # the file has more than is used
    torch.save(features, folder / "alexnet.pth")
    torch.save(linear, folder / "alex.pth")
    return folder / "alexnet.pth", folder / "alex.pth"


def test_own_lpips_is_the_weighted_distance_of_unit_features(lpips_files):
    """Against the sum written out with torch's own layers."""
    a, b = (np.random.default_rng(i).integers(0, 256, (1, 80, 72, 3), np.uint8) for i in (0, 1))
    state, linear = (torch.load(file, weights_only=True) for file in lpips_files)
    net = torch.nn.Sequential()
    for number, inside, out, kernel, stride, padding, pooled in LAYERS:
        if pooled:
            net.append(torch.nn.MaxPool2d(3, 2))
        conv = torch.nn.Conv2d(inside, out, kernel, stride, padding)
        conv.load_state_dict({name: state[f"features.{number}.{name}"] for name in ("weight", "bias")})
        net.extend([conv, torch.nn.ReLU()])
    expected = 0.0
    x, y = (
        (torch.from_numpy(v).permute(0, 3, 1, 2) / 127.5 - 1 - torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        / torch.tensor([0.458, 0.448, 0.450])[:, None, None]
        for v in (a, b)
    )
    level = 0
    with torch.no_grad():
        for layer in net:
            x, y = layer(x), layer(y)
            if isinstance(layer, torch.nn.ReLU):
                unit = [v / v.pow(2).sum(1, keepdim=True).sqrt() for v in (x, y)]
                weight = linear[f"lin{level}.model.1.weight"].view(1, -1, 1, 1)
                expected += float((weight * (unit[0] - unit[1]) ** 2).sum(1).mean())
                level += 1
    measure = OwnLpips(*lpips_files)
    assert level == 5
    np.testing.assert_allclose(measure(a, b), [expected], rtol=1e-4)
    assert measure(a, a)[0] == 0
    assert set(measure.backend()["weights"]) == {"backbone", "linear"}


def test_other_files_than_those_of_lpips_are_refused(lpips_files, tmp_path):
    backbone, linear = lpips_files
    with pytest.raises(UserError, match=r"alex.pth has no features.0.weight .* not torchvision's AlexNet"):
        OwnLpips(linear, linear)
    (tmp_path / "x.pth").write_text("<html>")
    with pytest.raises(UserError, match=r"lpips_linear: .*x.pth is not a file of torch weights"):
        OwnLpips(backbone, tmp_path / "x.pth")
    with pytest.raises(UserError, match="set both or neither"):
        OwnLpips(backbone, None)
