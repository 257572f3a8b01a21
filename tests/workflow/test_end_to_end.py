"""The shipped demo with its real stages. Uses what `make demo` left, or runs it."""

import numpy as np
import pytest

from expportrait.configfile import overlay, read_config, read_yaml
from expportrait.manifest import read_manifest, shards
from expportrait.stage import read_index
from expportrait.stages import PER_CLIP
from expportrait.store import Store, decode_normals
from tests.workflow.project import ROOT, Project


@pytest.fixture(scope="module")
def results():
    project = Project(ROOT)
    if project.plan():
        project.run()
    return ROOT / "results"


@pytest.fixture(scope="module")
def rows():
    return read_manifest(ROOT / "data_manifest.csv")


@pytest.mark.parametrize("stage", PER_CLIP)
def test_every_clip_of_every_stage_is_ok(results, rows, stage):
    counts = read_config(("overlay", read_yaml(overlay(ROOT / "data_manifest.csv")))).shards
    table = shards(rows, counts)
    assert len(table) == len(rows), "a shard each, so that they run side by side"
    for shard, part in table.items():
        index = read_index(results / stage / f"{shard}.json")
        assert {row.clip for row in part} == set(index)
        assert {outcome.status for outcome in index.values()} == {"ok"}, index
        for clip, outcome in index.items():
            assert Store(results / stage / f"{clip}.zarr").check().attrs["key"] == outcome.key


def test_stages_agree_on_frames_and_pixels(results, rows):
    for row in rows:
        store = {stage: Store(results / stage / f"{row.clip}.zarr") for stage in PER_CLIP}
        frames, height, width, _ = store["crop"].lazy("frames").shape
        assert store["landmarks"].lazy("points").shape[0] == frames == store["proxy"].lazy("pose").shape[0]
        for stage in ("geometry", "control"):
            assert store[stage].lazy("normals").shape == (frames, height, width, 3)
        middle = frames // 2
        face = store["landmarks"]["points"][middle, :468, :2].mean(0).astype(int)
        for stage in ("geometry", "control"):
            normal = decode_normals(store[stage].lazy("normals")[middle])[face[1], face[0]]
            assert normal[2] > 0.5, (
                f"{row.clip}, {stage}: the middle of the face looks at the viewer, not along {normal}"
            )
        assert np.isfinite(store["proxy"]["static_offset"]).all()


def test_the_heads_lie_on_the_faces(results, rows):
    for row in rows:
        store = Store(results / "proxy" / f"{row.clip}.zarr")
        assert store["landmark_error"].mean() < 0.03, f"{row.clip}, inside the face oval, in inter-ocular distances"
        assert store["overlap"].mean() > 0.9, row.clip


def test_the_report_is_there_and_nothing_is_left_to_do(results):
    assert (results / "report" / "index.html").stat().st_size > 1000
    assert Project(ROOT).plan() == {}
