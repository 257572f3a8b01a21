"""A clip from crop to proxy through the networks' interfaces: files that hold the true maps of the head shown."""

import shutil

import cv2
import numpy as np
import pytest
from benchmarks.geometry_scenes import make_scene

from benchmarks import stand_in_networks as networks
from expportrait.engine.loop import run
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.evidence.targets import StoredTargets
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.store import Store, decode_normals

SIZE, BOX, CROP, FRAMES = 320, (32, 16, 304, 288), 256, 3
FIT = {"rigid_steps": 40, "landmark_steps": 50, "coarse_passes": 1, "static_passes": 1, "dynamic_passes": 1,
       "final_passes": 0.5, "min_steps": 5, "coarse_size": 96, "fine_size": 96}  # fmt: skip


@pytest.fixture(scope="module")
def scene():
    return make_scene(load_head(), 1, SIZE, dressed=False)


@pytest.fixture(scope="module")
def cropped(scene):
    """The true maps inside the crop's box, at DAViD's size."""
    x0, y0, x1, y1 = BOX

    def cut(image):
        return cv2.resize(np.float32(image[y0:y1, x0:x1]), (networks.SIDE,) * 2, interpolation=cv2.INTER_LINEAR)

    return {
        "normals": cut(scene.normals),
        "depth": cut(np.where(scene.mask, scene.depth, scene.depth.max())),
        "mask": cut(scene.mask),
    }


def david(folder, cropped):
    """Three files; nearness, as the single network gives it."""
    return {"estimator": "david"} | networks.david(folder, **SILENT, maps=channels(cropped, -cropped["depth"]))


def multitask(folder, cropped):
    file = networks.david_multitask(folder / "all.onnx", **SILENT, maps=channels(cropped, cropped["depth"]))
    return {"estimator": "david", "model": file}


def sapiens(folder, cropped):
    """Maps of half the input's size, stretched as the picture is; depth from 0, nearest, to 1."""
    small = {name: cv2.resize(image, (384, 512), interpolation=cv2.INTER_AREA) for name, image in cropped.items()}
    depth = (small["depth"] - small["depth"].min()) / np.ptp(small["depth"])
    normals = small["normals"].transpose(2, 0, 1)
    return {"estimator": "sapiens"} | networks.sapiens_fixed(folder, normals, depth[None], small["mask"])


def channels(cropped, depth):
    return {"normal": cropped["normals"].transpose(2, 0, 1), "depth": depth[None], "foreground": cropped["mask"][None]}


SILENT = {"normals": [[0] * 4] * 3, "depth": [[0] * 4], "mask": [[0] * 4]}
BACKENDS = {make.__name__: make for make in (david, multitask, sapiens)}


@pytest.fixture(scope="module")
def start(tmp_path_factory, scene):
    """The clip's row, and its results so far: crop and landmarks."""
    folder = tmp_path_factory.mktemp("clip")
    frames = folder / "ann"
    frames.mkdir()
    for t in range(FRAMES):
        cv2.imwrite(str(frames / f"{t:03}.png"), scene.frame[..., ::-1])
    row = Row("ann", "test", "ann", frames, box=BOX)
    for stage in ("crop", "landmarks"):
        assert made(stage, row, folder / "results", {})
    return row, folder / "results"


@pytest.fixture(scope="module", params=BACKENDS)
def results(request, start, cropped, tmp_path_factory):
    """The clip's results with geometry, its row and settings."""
    row, before = start
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(before, folder / "results")
    files = BACKENDS[request.param](folder, cropped)
    assert made("geometry", row, folder / "results", files)
    return request.param, folder / "results", row, files


def made(stage, row, results, files):
    config = Config(results=results, crop={"size": CROP, "min_frames": FRAMES}, geometry=files, proxy=FIT)
    outcome = run(with_code(stage), [row], config)["ann"]
    assert outcome.status == "ok", outcome
    return outcome


def test_the_stored_maps_are_the_true_ones(results, cropped):
    name, folder, _, files = results
    store = Store(folder / "geometry" / "ann.zarr").check()
    assert store.attrs["estimator"] == files["estimator"] and store.attrs["depth_space"] == "depth"
    assert not store.attrs["fitted_face"] and not StoredTargets(store).fitted_face, "D_t follows a network's normals"
    assert {*files} - {"estimator"} | {"hand_landmark_full.tflite"} <= set(store.attrs["files"])
    truth = {name: cv2.resize(image, (CROP, CROP), interpolation=cv2.INTER_AREA) for name, image in cropped.items()}
    if name == "sapiens":  # its depth has a scale and a shift of its own
        truth["depth"] = (truth["depth"] - cropped["depth"].min()) / np.ptp(cropped["depth"])
    inside = cv2.erode(np.uint8(truth["mask"] > 0.99), None, iterations=2) > 0
    normals, depth, mask = decode_normals(store["normals"]), store["depth"], store["mask"]
    assert normals.shape == (FRAMES, CROP, CROP, 3)
    for t in range(FRAMES):
        cosine = (normals[t] * truth["normals"]).sum(-1) / np.linalg.norm(truth["normals"], axis=-1).clip(1e-6)
        assert np.degrees(np.arccos(cosine[inside].clip(-1, 1))).mean() < 1.5
        away = np.abs(depth[t].astype(np.float32) - truth["depth"])[inside].mean()
        assert away < 0.006 * np.ptp(truth["depth"][inside])
        assert np.abs(mask[t] / 255 - truth["mask"]).mean() < 0.01


def test_the_fit_follows_them(results):
    _, folder, row, files = results
    assert made("proxy", row, folder, files)
    store = Store(folder / "proxy" / "ann.zarr")
    assert len(store["normal_error"]) == FRAMES
    assert store["normal_error"].mean() < 15
    assert store["overlap"].mean() > 0.85
