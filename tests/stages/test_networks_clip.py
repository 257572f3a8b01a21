"""A clip from crop to proxy through DAViD's interface: networks that hold the true maps of the rendered head shown."""

import cv2
import numpy as np
import pytest
from benchmarks.geometry_scenes import make_scene

from expportrait.config import Config
from expportrait.estimators.head_landmarks import load_head
from expportrait.manifest import Row
from expportrait.stage import run
from expportrait.stages import crop, geometry, landmarks, proxy
from expportrait.store import Store, decode_normals

from ..estimators import networks

SIZE, BOX, CROP, FRAMES = 320, (32, 16, 304, 288), 256, 3
FIT = {"rigid_steps": 60, "landmark_steps": 80, "coarse_passes": 1, "static_passes": 1, "dynamic_passes": 1,
       "final_passes": 1, "min_steps": 12, "coarse_size": 96, "fine_size": 96}  # fmt: skip


@pytest.fixture(scope="module")
def scene():
    return make_scene(load_head(), 1, SIZE, dressed=False)


@pytest.fixture(scope="module")
def cropped(scene):
    """The true maps inside the crop's box, at the networks' size."""
    x0, y0, x1, y1 = BOX

    def cut(image):
        return cv2.resize(np.float32(image[y0:y1, x0:x1]), (networks.SIDE,) * 2, interpolation=cv2.INTER_LINEAR)

    return {
        "normals": cut(scene.normals),
        "depth": cut(np.where(scene.mask, scene.depth, scene.depth.max())),
        "mask": cut(scene.mask),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory, scene, cropped):
    folder = tmp_path_factory.mktemp("clip")
    frames = folder / "ann"
    frames.mkdir()
    for t in range(FRAMES):
        cv2.imwrite(str(frames / f"{t:03}.png"), scene.frame[..., ::-1])
    maps = {
        "normal": cropped["normals"].transpose(2, 0, 1),
        "depth": -cropped["depth"][None],
        "foreground": cropped["mask"][None],
    }
    silent = [[0, 0, 0, 0]]
    files = networks.david(folder, normals=silent * 3, depth=silent, mask=silent, maps=maps)
    config = Config(
        results=folder / "results",
        crop={"size": CROP, "min_frames": FRAMES},
        geometry=files,
        proxy=FIT,
    )
    row = Row("ann", "test", "ann", frames, box=BOX)
    for stage in (crop, landmarks, geometry, proxy):
        outcome = run(stage.STAGE, [row], config)["ann"]
        assert outcome.status == "ok", outcome
    return folder / "results"


def test_the_stored_maps_are_the_true_ones(results, cropped):
    store = Store(results / "geometry" / "ann.zarr").check()
    assert store.attrs["estimator"] == "david" and store.attrs["depth_space"] == "depth"
    assert {"depth", "mask", "normals", "hand_landmark_full.tflite"} <= set(store.attrs["files"])
    truth = {name: cv2.resize(image, (CROP, CROP), interpolation=cv2.INTER_AREA) for name, image in cropped.items()}
    inside = cv2.erode(np.uint8(truth["mask"] > 0.99), None, iterations=2) > 0
    normals, depth, mask = decode_normals(store["normals"]), store["depth"], store["mask"]
    assert normals.shape == (FRAMES, CROP, CROP, 3)
    for t in range(FRAMES):
        cosine = (normals[t] * truth["normals"]).sum(-1) / np.linalg.norm(truth["normals"], axis=-1).clip(1e-6)
        assert np.degrees(np.arccos(cosine[inside].clip(-1, 1))).mean() < 1.5
        assert np.abs(depth[t].astype(np.float32) - truth["depth"])[inside].mean() < 0.002
        assert np.abs(mask[t] / 255 - truth["mask"]).mean() < 0.01


def test_the_fit_follows_them(results):
    store = Store(results / "proxy" / "ann.zarr")
    assert len(store["normal_error"]) == FRAMES
    assert store["normal_error"].mean() < 15
    assert store["overlap"].mean() > 0.85
