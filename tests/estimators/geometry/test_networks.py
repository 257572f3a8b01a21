"""DAViD and Sapiens through files of their interface whose answers are known: axes, signs, batches, refusals."""

import cv2
import numpy as np
import onnx
import pytest

from benchmarks import stand_in_networks as networks
from expportrait.errors import ClipError, UserError
from expportrait.estimators.geometry.david import DavidEstimator
from expportrait.estimators.geometry.dense import BATCH
from expportrait.estimators.geometry.registry import load_estimator
from expportrait.estimators.geometry.sapiens import SapiensEstimator
from expportrait.settings.config import GeometrySettings, HeadSettings

SIZE = 256


@pytest.fixture(scope="module")
def david_files(tmp_path_factory):
    return networks.david(tmp_path_factory.mktemp("david"))


@pytest.fixture(scope="module")
def estimators(david_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    return {
        "david": DavidEstimator(david_files),
        "david one by one": DavidEstimator(networks.david(folder, batch=1)),
        "david by fours": DavidEstimator(networks.david(folder, batch=4)),
        "david multi-task": DavidEstimator({"model": networks.david_multitask(folder / "all.onnx")}),
        "sapiens": SapiensEstimator(networks.sapiens(folder)),
    }


NAMES = ["david", "david one by one", "david by fours", "david multi-task", "sapiens"]


def estimate(estimator, frames):
    nowhere = np.full((len(frames), 478, 3), np.nan, np.float32)
    return estimator.estimate(np.stack(frames), nowhere, np.zeros(len(frames), bool))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [SIZE, 512, 640])
def test_a_balls_normals_depth_and_mask(estimators, name, size):
    frame, normals, inside = networks.ball(size)
    got = estimate(estimators[name], [frame])
    assert got.normals.shape == (1, size, size, 3) and got.normals.dtype == got.depth.dtype == np.float32
    assert (got.mask[0] > 0.5)[inside].mean() > 0.99 and not got.mask[0][
        ~cv2.dilate(inside.astype(np.uint8), None, iterations=4).astype(bool)
    ].any()
    core = cv2.erode(inside.astype(np.uint8), None, iterations=size // 64).astype(bool)
    angles = np.degrees(np.arccos(np.clip((got.normals[0] * normals).sum(-1), -1, 1)))
    assert angles[core].max() < 3
    assert got.depth_space == "depth"
    scale, shift = np.polyfit(got.depth[0][core], -normals[..., 2][core], 1)  # nearer by its z, in radii
    assert scale > 0
    assert np.abs(scale * got.depth[0] + shift + normals[..., 2])[core].max() < 0.03
    outside = got.mask[0] == 0
    assert not got.normals[0][outside].any() and not got.depth[0][outside].any()
    np.testing.assert_allclose(np.linalg.norm(got.normals[0][~outside], axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("tilt", [(0.6, 0.0), (-0.6, 0.0), (0.0, 0.6), (0.3, -0.5)])
def test_a_tilted_planes_depth_rises_where_its_normal_points(tmp_path, tilt):
    """n ~ (dz/dx, -dz/dy, 1), y down: facing right means that the right side is farther."""
    at = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    z = tilt[0] * at[None] - tilt[1] * at[:, None]
    frame = np.rint(np.repeat((0.5 + 0.5 * z)[..., None], 3, -1) * 255).astype(np.uint8)
    n = np.array([*tilt, 1.0]) / np.linalg.norm([*tilt, 1.0])
    flat = [[0, 0, 0, value] for value in n]
    files = networks.david(tmp_path, normals=flat, depth=[[0, -2, 0, 1]], mask=[[0, 0, 0, 1]])
    got = estimate(DavidEstimator(files), [frame])
    np.testing.assert_allclose(got.normals[0], np.broadcast_to(n, got.normals[0].shape), atol=1e-3)
    slope = np.polyfit(z.ravel(), got.depth[0].ravel(), 1)[0]
    assert slope == pytest.approx(1, abs=0.05)
    assert np.abs(got.depth[0] - z)[8:-8, 8:-8].max() < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_batches_equal_single_frames_in_order(estimators, name):
    count = BATCH + 3
    frames = [networks.ball(128, radius=0.2, centre=(0.3 + 0.03 * t, 0.6 - 0.02 * t))[0] for t in range(count)]
    whole = estimate(estimators[name], frames)
    assert len(whole) == count
    for t in (0, BATCH - 1, BATCH, count - 1):
        one = estimate(estimators[name], [frames[t]])
        for maps in ("normals", "depth", "mask", "confidence"):
            np.testing.assert_allclose(getattr(whole, maps)[t], getattr(one, maps)[0], atol=1e-4)
    centres = [np.argwhere(mask > 0.5).mean(0) for mask in whole.mask]
    assert (np.diff(centres, axis=0) * [-1, 1] > 1).all()


def test_only_the_person_around_the_face_stays(estimators):
    frame, _, inside = networks.ball(SIZE, radius=0.2, centre=(0.3, 0.5))
    other, _, second = networks.ball(SIZE, radius=0.23, centre=(0.75, 0.5))
    points = np.full((1, 478, 3), [0.3 * SIZE, 0.5 * SIZE, 0], np.float32)
    turn = np.linspace(0, 2 * np.pi, 478)
    points[0, :, :2] += 30 * np.stack([np.cos(turn), np.sin(turn)], -1)
    got = estimators["david"].estimate(np.maximum(frame, other)[None], points, np.zeros(1, bool))
    assert got.mask[0][inside].mean() > 0.97 and not got.mask[0][second].any()


@pytest.mark.parametrize("name", ["depth", "normals"])
def test_a_sign_the_wrong_way_round_is_refused(tmp_path, david_files, name):
    """A depth network that grows away from the camera; normals with y down."""
    wrong = (
        {"depth": networks.FARNESS} if name == "depth" else {"normals": [[0, 0, -2, 1], [0, -2, 0, 1], [2, 0, 0, -1]]}
    )
    files = david_files | {name: networks.david(tmp_path, **wrong)[name]}
    with pytest.raises(ClipError, match="depth and normals of david contradict each other"):
        estimate(DavidEstimator(files), [networks.ball(SIZE)[0]])


def test_other_files_are_refused_with_a_reason(tmp_path, david_files):
    def refusal(**files):
        with pytest.raises(UserError) as error:
            DavidEstimator(files if "model" in files else david_files | files)
        assert "\n" not in str(error.value)
        return str(error.value)

    text = tmp_path / "text.onnx"
    text.write_text("<html>not found</html>")
    assert "geometry.normals" in (why := refusal(normals=text)) and "is not an ONNX network" in why
    assert "is no file" in refusal(mask=tmp_path)
    swapped = refusal(normals=david_files["depth"])
    assert "gives ['batch', 512, 512], not ('N', 3, 512, 512), so it is not DAViD's network of normals" in swapped
    assert "so it is not DAViD's multi-task network" in refusal(model=david_files["normals"])
    small = networks.onnx_file(tmp_path / "small.onnx", ("depth", networks.NEARNESS), side=384)
    assert "takes input ['batch', 3, 384, 384] tensor(float), not one tensor(float) of" in refusal(depth=small)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(onnx.load(david_files["mask"]).SerializeToString()[:-40])
    assert "is not an ONNX network" in refusal(mask=cut)


def test_other_torchscript_files_are_refused_with_a_reason(tmp_path):
    files = networks.sapiens(tmp_path)
    swapped = SapiensEstimator(files | {"normals": files["depth"]})
    with pytest.raises(UserError, match=r"gives \(1, 1, 512, 384\), not \(N, 3, h, w\)"):
        estimate(swapped, [networks.ball(64)[0]])
    text = tmp_path / "text.pt2"
    text.write_text("<html>not found</html>")
    with pytest.raises(UserError, match=r"geometry.depth: .*text.pt2 is not a TorchScript file"):
        SapiensEstimator(files | {"depth": text})


@pytest.mark.parametrize("name", ["david", "sapiens"])
def test_a_missing_file_is_one_sentence_that_says_where_it_is(name):
    with pytest.raises(UserError) as error:
        load_estimator(name, HeadSettings(), GeometrySettings(estimator=name), "cpu")
    why = str(error.value)
    licence, host = {"david": ("MIT", "windows.net"), "sapiens": ("CC BY-NC", "huggingface.co")}[name]
    for part in ("geometry.normals is empty", licence, f"fetch-weights {name}", host, "embedded"):
        assert part in why
    assert "\n" not in why


def test_values_that_are_no_numbers_are_the_clips_reason(tmp_path):
    files = networks.david(tmp_path, depth=[[0, 0, 0, float("nan")]])
    with pytest.raises(ClipError, match="david gave values that are no numbers"):
        estimate(DavidEstimator(files), [networks.ball(64)[0]])


def test_files_are_named_by_their_checksum(estimators, david_files):
    assert set(estimators["david"].files) == {"normals", "depth", "mask"}
    assert all(len(digest) == 64 for digest in estimators["david"].files.values())
    both = {"model": david_files["depth"], "normals": david_files["normals"]}
    with pytest.raises(UserError, match=r"geometry\.model does all"):
        load_estimator("david", HeadSettings(), GeometrySettings(**both), "cpu")
