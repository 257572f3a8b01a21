"""The whole per-clip chain on real videos, where there are any beside the project."""

from pathlib import Path

import numpy as np
import pytest

from expportrait.engine.loop import run
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.store import Store

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
NAMES = {"expressive": "expressive_512.mp4", "landscape": "landscape_1280x720.mp4"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CLIPS.is_dir(), reason="there are no clips beside the project")]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    rows = [Row(clip, "real", name, CLIPS / name, start=2.0, end=2.4) for clip, name in NAMES.items()]
    config = Config(results=folder, geometry={"estimator": "embedded"})
    for stage in ("crop", "landmarks", "geometry", "proxy", "control"):
        index = run(with_code(stage), rows, config)
        assert {outcome.status for outcome in index.values()} == {"ok"}, index
    return folder


@pytest.mark.parametrize("clip", NAMES)
def test_the_head_lies_on_the_face(results, clip):
    store = Store(results / "proxy" / f"{clip}.zarr")
    assert store["landmark_error"].mean() < 0.03
    assert store["normal_error"].mean() < 12
    assert store["overlap"].mean() > 0.85


@pytest.mark.parametrize("clip", NAMES)
def test_control_maps_cover_the_face(results, clip):
    points = Store(results / "landmarks" / f"{clip}.zarr")["points"][:, :468, :2]
    maps = Store(results / "control" / f"{clip}.zarr")
    coverage = maps["coverage"]
    assert len(coverage) == len(points) >= 10
    for frame, face in zip(coverage, points, strict=True):
        x, y = np.clip(face.astype(int), 0, 511).T
        assert (frame[y, x] > 0).mean() > 0.96
