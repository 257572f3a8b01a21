"""What the geometry stage makes ahead: counted in frames, and gone when the stage ends early."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from expportrait.engine.prefetch import Stopped
from expportrait.engine.stage import Clip, Work
from expportrait.errors import ClipError
from expportrait.estimators.geometry.base import Geometry
from expportrait.stages import geometry
from expportrait.stages.crop import videocodec
from expportrait.store import Store, StoreWriter
from expportrait.video.margins import Margins

FRAMES, SIZE, BATCH = 80, 32, 4


class Estimator:
    """Four frames at a time, all alike."""

    name, depth_space, statement, fitted_face = "embedded", "depth", "", True

    def __init__(self, fault=None):
        self.given, self.fault, self.files = 0, fault, {}

    def batches(self, frames, *found):
        for first in range(0, len(frames), BATCH):
            if first and self.fault:
                raise self.fault
            self.given += BATCH
            normals, flat = np.zeros((BATCH, SIZE, SIZE, 3), np.float32), np.ones((BATCH, SIZE, SIZE), np.float32)
            normals[..., 2] = 1
            yield Geometry(normals, flat, flat, 0.5 * flat, "depth")


class Fronts:
    """As ``Occlusion``; takes its time."""

    def __init__(self, seconds=0.0):
        self.looked, self.seconds, self.files = 0, seconds, {}

    def find(self, frames, points, certainty, seen):
        for _ in range(len(frames)):
            time.sleep(self.seconds)
            self.looked += 1
            yield np.zeros((SIZE // 4, SIZE // 4), np.uint8)


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with StoreWriter(tmp_path / "crop.zarr", {}) as out:
        stream = out.stream("frames", FRAMES, (SIZE, SIZE, 3), np.uint8, videocodec.COLOURS)
        stream.append(np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8))
    with StoreWriter(tmp_path / "landmarks.zarr", {}) as out:
        out.array("points", np.ones((FRAMES, 478, 3), np.float32))
        out.array("interpolated", np.zeros(FRAMES, bool))
        out.array("confidence", np.ones((FRAMES, 478), np.float32))
    parents = {name: Store(tmp_path / f"{name}.zarr") for name in ("crop", "landmarks")}
    return Clip(None, parents, None, None, "cpu", work=Work(overlap=True))


class Slow:
    """A store whose first block takes until ``ready``, and what had been made by then."""

    def __init__(self, estimator, seconds=0.0):
        self.estimator, self.seconds, self.ahead, self.blocks = estimator, seconds, None, 0

    def stream(self, *_, **__):
        return self

    def append(self, block):
        if self.ahead is None:
            time.sleep(self.seconds)
            self.ahead = self.estimator.given
        self.blocks += len(block)

    def attrs(self, **values):
        self.values = values


def test_what_waits_is_counted_in_frames_and_all_of_them_are_stored(clip):
    clip = replace(clip, tools=SimpleNamespace(estimator=Estimator(), occlusion=Fronts()))
    out = Slow(clip.tools.estimator, 0.5)
    geometry.process(clip, out)
    assert out.ahead <= geometry.AHEAD + 2 * BATCH
    assert out.blocks == 4 * FRAMES  # maps
    assert out.values["occluded"] == 0 and out.values["fitted_face"]


@pytest.mark.parametrize("fault", ["of the estimator", "before the clip's turn"])
def test_nothing_goes_on_after_the_end(clip, fault):
    clip = replace(clip, tools=SimpleNamespace(estimator=Estimator(ClipError("no numbers")), occlusion=Fronts(0.05)))
    before, kind, why = threading.active_count(), ClipError, "no numbers"
    if fault == "before the clip's turn":
        clip.work.turns.stop()
        kind, why = Stopped, ""
    with pytest.raises(kind) as raised:
        geometry.process(clip, Slow(clip.tools.estimator))
    looked = clip.tools.occlusion.looked
    assert looked < 16  # 4 s are left of it
    assert threading.active_count() <= before, [thread.name for thread in threading.enumerate()]
    time.sleep(0.2)
    assert clip.tools.occlusion.looked == looked
    assert str(raised.value) == why  # held until here, with all its frames: nothing ended by being forgotten


def test_beyond_the_picture_there_is_nothing(tmp_path, clip):
    with StoreWriter(tmp_path / "crop.zarr", {"padded": [0, 9, 0, 3]}) as out:
        out.array("frames", np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8))
    clip.parents["crop"], given = Store(tmp_path / "crop.zarr"), []

    class Padded(Estimator):
        def batches(self, frames, *found):
            given.append(found[-1])
            yield from super().batches(frames, *found)

    clip = replace(clip, tools=SimpleNamespace(estimator=Padded(), occlusion=Fronts()))
    with StoreWriter(tmp_path / "geometry.zarr", {}) as out:
        geometry.process(clip, out)
    store = Store(tmp_path / "geometry.zarr")
    assert given == [Margins(top=9 / SIZE, bottom=3 / SIZE)]
    assert store.attrs["padded"] == [0, 9, 0, 3]
    for name in ("normals", "mask", "confidence"):
        maps = np.abs(store[name].astype(int).reshape(FRAMES, SIZE, SIZE, -1)).max(-1)
        assert maps[:, :8].max() < 20 and maps[:, 30:].max() < 20, name
        assert maps[:, 10:28].min() > 60, name
