"""Exports read back: by the readers' own package where it can be installed, else by the fields they document."""

import csv
import hashlib
import io
import json
import re
import tarfile
from itertools import groupby

import av
import numpy as np
import pandas
import pytest
import torch
import webdataset

from expportrait.engine.record import Outcome, write_index
from expportrait.manifest.pairs import pair_name
from expportrait.store import Store, StoreWriter
from tests.export.conftest import content, hand_over
from tests.export.make import FRAMES, SIZE, make_run


def count(data) -> tuple[int, int, int]:
    """Frames, width and height of a film."""
    with av.open(io.BytesIO(data) if isinstance(data, bytes) else str(data)) as film:
        frames = list(film.decode(video=0))
    return len(frames), frames[0].width, frames[0].height


def test_folder(finished, tmp_path):
    hand_over(finished, "folder", tmp_path / "out", splits=("train", "val"))
    with (tmp_path / "out" / "train" / "metadata.csv").open(newline="") as text:
        lines = list(csv.DictReader(text))
    assert [line["clip"] for line in lines] == ["a.one", "b"]
    assert lines[0]["text"] == "Ann, who laughs" and lines[1]["text"] == "A portrait video of one person."
    assert lines[0]["licence"] == "CC-BY-4.0" and lines[0]["source_url"] == "https://example.org/1"
    for line in lines:
        for column in (name for name in line if name == "file_name" or name.endswith("_file")):
            file = tmp_path / "out" / "train" / line[column]
            assert file.exists()
            if file.suffix in (".mp4", ".mkv"):
                assert count(file) == (FRAMES, SIZE, SIZE)
    head = np.load(tmp_path / "out" / "train" / lines[1]["head_file"])
    proxy = Store(finished / "results" / "proxy" / "b.zarr")
    assert np.array_equal(head["expression"], proxy["expression"]) and head["focal"] == 200
    papers = json.loads((tmp_path / "out" / "train" / "d-0000" / "b" / "clip.json").read_text())
    assert papers["columns"]["licence"] == "CC0-1.0" and papers["figures"]["face"] == 101
    assert papers["keys"]["crop"] == "crop b"


def test_videox_fun_by_its_documented_fields(finished, tmp_path):
    out = tmp_path / "out"
    hand_over(finished, "videox-fun", out, splits=("train", "val"))
    entries = json.loads((out / "metadata.json").read_text())
    assert [entry["clip"] for entry in entries] == ["a.one", "b"]
    assert len(json.loads((out / "metadata_val.json").read_text())) == 1
    for entry in entries:
        assert entry["type"] == "video" and entry["text"]
        films = [count(out / entry[name]) for name in ("file_path", "control_file_path")]
        assert films == [(FRAMES, entry["width"], entry["height"])] * 2


def test_a_single_frame_is_an_image(tmp_path):
    make_run(tmp_path, frames=1, rows=(("p", "pat", "train", "", "", ""),))
    hand_over(tmp_path, "videox-fun", tmp_path / "out")
    (entry,) = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert entry["type"] == "image"
    assert entry["file_path"].endswith(".png") and entry["control_file_path"].endswith(".png")
    assert (tmp_path / "out" / entry["file_path"]).read_bytes()[:4] == b"\x89PNG"


def test_the_appearance_of_a_clip_is_that_of_its_pair_with_itself(tmp_path):
    make_run(tmp_path, rows=(("b__b", "bob", "train", "", "", ""), ("c", "cy", "train", "", "", "")))
    crop, pair = Store(tmp_path / "results" / "crop" / "b__b.zarr"), pair_name("b__b", "b__b")
    with StoreWriter(tmp_path / "results" / "appearance" / f"{pair}.zarr", {"key": "own"}) as out:
        out.array("appearance", crop["frames"][:, ::-1])
        out.array("seen", crop["frames"][..., 0])
    index = {pair: Outcome("ok", "own"), pair_name("c", "b__b"): Outcome("ok", "other")}
    write_index(tmp_path / "results" / "appearance" / "pairs-0000.json", index)
    hand_over(tmp_path, "videox-fun", tmp_path / "out")
    own, other = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert count(tmp_path / "out" / own["appearance_path"]) == (FRAMES, SIZE, SIZE)
    assert "appearance_path" not in other


def test_diffsynth_by_its_documented_columns(finished, tmp_path):
    out = tmp_path / "out"
    hand_over(finished, "diffsynth", out)
    table = pandas.read_csv(out / "metadata.csv")  # as its reader does
    lines = [table.iloc[i].to_dict() for i in range(len(table))]
    assert len(lines) == 2
    for line in lines:
        assert isinstance(line["prompt"], str) and line["prompt"]
        assert count(out / line["video"]) == count(out / line["control_video"]) == (FRAMES, SIZE, SIZE)
        assert (out / line["reference_image"]).read_bytes()[:4] == b"\x89PNG"


def test_nemo_by_its_documented_fields(finished, tmp_path):
    out = tmp_path / "out"
    hand_over(finished, "nemo", out)
    about = json.loads((out / "train" / "metadata.json").read_text())
    items = [item for name in about["shards"] for item in json.loads((out / "train" / name).read_text())]
    store = Store(finished / "results" / "latents" / "b.zarr")
    assert len(items) == about["total_items"] == 2 * len(store["windows"])
    own = [item for item in items if item["clip"] == "b"]
    for item, expected in zip(own, store["windows"], strict=True):
        assert item["bucket_resolution"] == [32, 32]
        data = torch.load(item["cache_file"], weights_only=True)
        assert data["video_latents"].shape == (1, 16, 3, 4, 4) and data["text_embeddings"].ndim == 3
        assert np.array_equal(data["video_latents"][0].numpy(), expected)
        assert data["metadata"]["licence"] == "CC0-1.0" and data["model_type"] == "wan"
    # its older reader takes a folder of .meta files
    assert len(list((out / "train" / "32x32").glob("*.meta"))) == len(items)


def samples(tar):
    """By the description: members one behind the other, alike up to the first dot of the name."""

    def parts(member):
        return re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", member.name).groups()

    with tarfile.open(tar) as members:
        for key, of in groupby(members, key=lambda member: parts(member)[0]):
            yield {"__key__": key} | {parts(member)[1]: members.extractfile(member).read() for member in of}


def test_webdataset_by_its_description(finished, tmp_path):
    out = tmp_path / "out"
    hand_over(finished, "webdataset", out, splits=("train", "val"))
    found = list(samples(out / "train" / "d-0000.tar"))
    assert [sample["__key__"] for sample in found] == ["a=one", "b"]
    for sample in found:
        assert count(sample["frames.mp4"]) == count(sample["control.mp4"]) == (FRAMES, SIZE, SIZE)
        papers = json.loads(sample["json"])
        points = np.load(io.BytesIO(sample["landmarks.npz"]))["points"]
        assert np.array_equal(points, Store(finished / "results/landmarks" / f"{papers['clip']}.zarr")["points"])
    assert not (out / ".export" / "spool").exists()


def test_webdataset_by_its_own_package(finished, tmp_path):
    hand_over(finished, "webdataset", tmp_path / "out")
    found = list(webdataset.WebDataset(str(tmp_path / "out/train/d-0000.tar"), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in found] == ["a=one", "b"]
    for sample in found:  # decoded by the package
        points = Store(finished / "results/landmarks" / f"{sample['json']['clip']}.zarr")["points"]
        assert np.array_equal(sample["landmarks.npz"]["points"], points)
        assert count(sample["frames.mp4"]) == (FRAMES, SIZE, SIZE)


@pytest.mark.parametrize("name", ["folder", "videox-fun", "diffsynth", "nemo", "webdataset"])
def test_checksums_are_of_all_files_and_right(name, finished, tmp_path):
    hand_over(finished, name, tmp_path / "out", splits=("train", "val"))
    files = content(tmp_path / "out")
    lines = files.pop("SHA256SUMS").decode().splitlines()
    sums = {file: sum_ for sum_, _, file in (line.partition("  ") for line in lines)}
    assert sums == {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
