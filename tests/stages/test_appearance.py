import shutil

import numpy as np
import pytest
import torch

from benchmarks import made_people as make
from expportrait.engine.loop import run
from expportrait.head import Head
from expportrait.manifest.pairs import read_pairs
from expportrait.stages import job, with_code
from expportrait.store import Store, StoreWriter
from expportrait.video.mark import moved, read_mark
from expportrait.video.reader import VideoReader
from tests.video import talk

torch.set_num_threads(1)
PEOPLE = {"ann-1": ("ann", "test"), "bob-1": ("bob", "train")}
ROWS = make.rows(PEOPLE)
PAIRS = read_pairs(None, ROWS)  # ann by herself, ann by bob
FRAMES = 6


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Finished stages up to proxy of two made-up people, whose frames show their heads in plain colours."""
    results, head = tmp_path_factory.mktemp("results"), Head.load(subdivisions=0)
    for clip in PEOPLE:
        make.proxy_store(results, head, clip, frames=FRAMES)
        make.frame_stores(results, head, clip)
        make.painted_store(results, head, clip)
    config = make.config(results, drive=DRIVE, appearance={"body": 1})  # these people move as a whole
    for name in ("drive", "appearance"):
        for stage in job(name, config):
            index = run(stage, stage.members(ROWS, PAIRS), config)
    assert {outcome.status for outcome in index.values()} == {"ok"}, index
    return results


DRIVE = {"target_proxy": "clip", "offsets": "copy", "reference": 1}


def test_a_clip_moves_its_own_portrait_to_its_frames(results):
    store, truth = Store(results / "appearance" / "ann-1__ann-1.zarr"), Store(results / "crop" / "ann-1.zarr")["frames"]
    assert store["appearance"].shape == truth.shape and store["seen"].shape == truth.shape[:3]
    known = store["seen"] > 200
    error = np.abs(store["appearance"].astype(int) - truth)
    held = np.abs(truth[1].astype(int) - truth)
    assert error[known].mean() < 0.5 * held[known].mean()
    assert error[1].mean() < 3, "the reference frame itself, as far as the codec keeps it"
    assert store.attrs["reference"] == 1 and store.attrs["fps"] == 25


def test_films_have_the_drivers_rate_and_length(results):
    for ending, width in ((".mp4", make.SIZE), (".side.mp4", 4 * make.SIZE)):
        film = VideoReader(results / "appearance" / f"ann-1__bob-1{ending}", 0, None)
        frames = [frame for _, frame in film.frames()]
        assert len(frames) == FRAMES and frames[0].shape[1] == width
    store = Store(results / "appearance" / "ann-1__bob-1.zarr")
    assert store["timestamps"].tolist() == Store(results / "crop" / "bob-1.zarr")["timestamps"].tolist()
    assert store.attrs["target"] == "ann-1" and store.attrs["driver"] == "bob-1"


def test_films_have_the_drivers_sound_and_are_marked(results, tmp_path):
    source = talk.source(tmp_path / "bob.mp4", talk.even(25, 12), 3)
    config = make.config(results, drive=DRIVE, appearance={"body": 1})
    (pair,) = (row for row in PAIRS if row.clip == "ann-1__bob-1")
    store = results / "appearance" / f"{pair.clip}.zarr"
    before = {name: Store(store)[name] for name in ("appearance", "seen", "timestamps")}, dict(Store(store).attrs)
    shutil.rmtree(store)
    run(with_code("appearance"), [pair._replace(place=source)], config)
    for ending in (".mp4", ".side.mp4"):
        film = store.with_suffix(ending)
        assert talk.look(film).beep == pytest.approx(3 / 25, abs=0.01)
        assert read_mark(film) == moved("ann-1", "bob-1", generated=False)
    assert dict(Store(store).attrs) == before[1], "neither key nor settings know of sound"
    assert all(np.array_equal(Store(store)[name], values) for name, values in before[0].items())


def test_a_driver_whose_head_is_longer_than_its_clip_is_refused(results, tmp_path):
    config = make.config(results, drive=DRIVE, appearance={"rim": 12, "body": 1})
    with StoreWriter(results / "crop" / "bob-1.zarr", {"key": "crop bob-1, cut"}) as out:
        out.array("frames", np.zeros((2, make.SIZE, make.SIZE, 3), np.uint8))
        out.array("timestamps", np.arange(2) / 25)
        out.attrs(fps=25.0)
    outcome = run(with_code("appearance"), PAIRS[1:], config)["ann-1__bob-1"]
    assert outcome.status == "failed" and "2 frames" in outcome.why
