"""The shipped face recognition on the two public-domain portraits."""

import cv2
import numpy as np
import pytest

from expportrait.demo.portrait import SOURCES
from expportrait.estimators.arcface import FIVE, aligned_faces
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.estimators.onnx_network import OnnxNetwork
from expportrait.estimators.sface import SFace
from expportrait.metrics.identity import backend, csim
from expportrait.networks import network_file


@pytest.fixture(scope="module")
def sface():
    return SFace()


@pytest.fixture(scope="module")
def faces():
    """Name -> picture and points: two people, and the first one as other cameras could show her."""
    her, him = SOURCES["astronaut"].read(), SOURCES["hopper"].read()
    noise = np.random.default_rng(0).normal(0, 12, her.shape)
    tip = cv2.getRotationMatrix2D((224, 120), 25, 1)
    pictures = {
        "her": her,
        "him": him,
        "mirrored": her[:, ::-1],
        "half as large": cv2.resize(her, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "darker": (her * 0.45).astype(np.uint8),
        "noisy": (her + noise).clip(0, 255).astype(np.uint8),
        "tipped": cv2.warpAffine(her, tip, (512, 512), borderMode=cv2.BORDER_REPLICATE),
    }
    detector = LandmarkDetector()
    found = {name: detector.detect([np.ascontiguousarray(picture)]) for name, picture in pictures.items()}
    assert all(seen[0] for _, seen, _ in found.values())
    return {name: (pictures[name], points[0]) for name, (points, _, _) in found.items()}


def embed(sface, picture, points):
    return sface.embed(picture[None], points[None], np.ones(1, bool))


@pytest.mark.parametrize("name", ["mirrored", "half as large", "darker", "noisy", "tipped"])
def test_one_person_is_alike_and_another_is_not(sface, faces, name):
    her, him, again = (embed(sface, *faces[who]) for who in ("her", "him", name))
    np.testing.assert_allclose(np.linalg.norm(again), 1)
    assert csim(her, again)[0] > 0.7
    assert abs(csim(him, again)[0]) < 0.3


def test_it_wants_colours_as_they_are(faces):
    """Fed as ArcFace is, two people are hardly told apart."""
    network = OnnxNetwork(network_file("sface"), "networks", 112)
    both = aligned_faces([faces[who][0] for who in ("her", "him")],
                         np.stack([faces[who][1][FIVE, :2] for who in ("her", "him")]))  # fmt: skip

    def cosine(inputs):
        a, b = network(inputs)[0]
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert cosine(both) < 0.3 < 0.5 < cosine((both - 127.5) / 127.5)


def test_a_batch_and_single_faces_embed_alike(sface, faces):
    names = [name for name, (picture, _) in faces.items() if picture.shape == (512, 512, 3)]
    pictures, points = (np.stack(values) for values in zip(*(faces[name] for name in names), strict=True))
    found = np.ones(len(names), bool)
    found[2] = False
    together = sface.embed(pictures, points, found)
    assert together.shape == (len(names), 128) and np.isnan(together[2]).all()
    for row in np.flatnonzero(found):
        np.testing.assert_allclose(together[row], embed(sface, pictures[row], points[row])[0], atol=1e-5)
    assert np.isnan(sface.embed(pictures, points, ~found & False)).all()


def test_five_points_in_pictures_of_any_size_do_as_well(sface, faces):
    pictures, points = zip(*(faces[name] for name in ("her", "half as large")), strict=True)
    rows = sface.embed_at(pictures, np.stack([p[FIVE, :2] for p in points]))
    np.testing.assert_allclose(rows[0], embed(sface, *faces["her"])[0], atol=1e-6)
    assert rows[0] @ rows[1] > 0.7


def test_the_record_says_what_measured_it(sface):
    about = backend(sface, "the true frame")
    assert {"backend", "weights", "input", "norm", "reduction", "unit", "against"} <= set(about)
    assert "SFace" in about["backend"] and about["weights"]["sface"] == sface.sha256
