"""Crop and landmarks on real videos, where there are any beside the project."""

from pathlib import Path

import numpy as np
import pytest

from expportrait.engine.loop import run
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.store import Store

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
SHOTS = {  # file: end in s, frames of the shot that is to be found
    "cuts_several_faces_640x360.mp4": (None, (82, 211)),
    "expressive_512.mp4": (1.5, (0, 45)),
    "hand_over_face_640x480.mkv": (None, (0, 87)),
    "landscape_1280x720.mp4": (1.0, (0, 30)),
    "low_resolution_480x270.gif": (None, (0, 62)),
}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CLIPS.is_dir(), reason="there are no clips beside the project")]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    ends = {name: end for name, (end, _) in SHOTS.items()} | {"small_face_640x480.mkv": None}
    rows = [Row(name, "real", name, CLIPS / name, end=end) for name, end in ends.items()]
    config = Config(results=folder, crop={"size": 256})
    return folder, run(with_code("crop"), rows, config), run(with_code("landmarks"), rows, config)


@pytest.mark.parametrize("name", SHOTS)
def test_a_face_is_cropped_and_followed(results, name):
    folder, cropped, followed = results
    assert (cropped[name].status, followed[name].status) == ("ok", "ok"), (cropped[name].why, followed[name].why)
    frames, store = Store(folder / "crop" / f"{name}.zarr"), Store(folder / "landmarks" / f"{name}.zarr")
    assert tuple(frames.attrs["shot"]) == SHOTS[name][1]
    assert frames.attrs["padded"] == [0, 0, 0, 0] and frames.attrs["face_coverage"] > 0.95
    points = store["points"][..., :2]
    assert not store["interpolated"].any()
    assert (points > 0).mean() > 0.98 and (points < 256).mean() > 0.98
    size = (points.max(1) - points.min(1)).max(1)
    assert np.median(size) > 256 / 3.5
    jump = np.linalg.norm(np.diff(points.mean(1), axis=0), axis=1) / size[1:]
    assert jump.max() < 0.3


def test_a_small_face_is_refused_with_its_size(results):
    _, cropped, followed = results
    assert "too small, 66 px (crop.min_face: 70)" in cropped["small_face_640x480.mkv"].why
    assert followed["small_face_640x480.mkv"].status == "skipped"


def test_a_microphone_before_the_mouth_lowers_the_confidence(results):
    store = Store(results[0] / "landmarks" / "cuts_several_faces_640x360.mp4.zarr")
    sure = store["confidence"]
    chin, forehead = [152, 148, 176, 377, 400], [10, 109, 338, 151, 9]
    assert sure[:, chin].mean() < 0.75 * sure[:, forehead].mean()


def test_a_hand_at_the_cheek_is_seen(results):
    hands = {name: Store(results[0] / "landmarks" / f"{name}.zarr").attrs["hands"] for name in SHOTS}
    assert 0 < hands["hand_over_face_640x480.mkv"] < 0.5
    assert hands["landscape_1280x720.mp4"] == hands["low_resolution_480x270.gif"] == 0
