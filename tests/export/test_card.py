"""The data card, read as hubs read it."""

import csv

import cv2
import numpy as np
from huggingface_hub import DatasetCard

from tests.export.conftest import hand_over
from tests.export.make import make_run


def card(out):
    """Head and text, by the reader of a hub's own package."""
    found = DatasetCard((out / "README.md").read_text("utf-8"))
    return found.data.to_dict(), found.text


def test_people_hours_papers_and_how_to_make_it_again(finished, tmp_path):
    hand_over(finished, "webdataset", tmp_path / "out", splits=("train", "val"))
    head, text = card(tmp_path / "out")
    assert head["license"] == "other" and head["license_link"] == "manifest.csv"
    assert head["size_categories"] == ["n<1K"] and "webdataset" in head["tags"]
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "train/*.tar"},
                                                {"split": "validation", "path": "val/*.tar"}]  # fmt: skip
    assert "3 clips of 3 persons" in text and "60 frames of 64 × 64 px" in text
    assert "| licence | CC-BY-4.0: 2, CC0-1.0: 1 |" in text
    assert "(empty): 1, https://example.org/1: 1" in text
    assert "No person of the whole manifest stands in more than one split" in text
    assert "| landmarks: face.task | `" + "ab" * 32 in text and "| proxy: head model | `" + "cd" * 32 in text
    assert "expportrait export webdataset --out DIR --manifest my.csv" in text
    assert str(finished) not in text
    assert "| size of the face in the source, px | 3 | 100 | 101 | 102 |" in text
    picture = cv2.imdecode(np.frombuffer((tmp_path / "out" / "figures.png").read_bytes(), np.uint8), 1)
    assert picture.shape[0] > 100


def test_one_licence_stands_in_the_head(finished, tmp_path):
    hand_over(finished, "folder", tmp_path / "out", only=("licence=CC0-1.0",), parts=("frames",))
    head, text = card(tmp_path / "out")
    assert head["license"] == "cc0-1.0"
    assert "| 1 | licence is not CC0-1.0 |" in text and "| 1 | its split is val |" in text


def test_leaks_and_missing_papers_are_said(tmp_path):
    rows = (("a", "ann", "train", "", "", ""), ("b", "ann", "val", "", "", ""))
    make_run(tmp_path, rows=rows)
    (tmp_path / "results" / "people").mkdir()
    (tmp_path / "results" / "people" / "people.csv").write_text(
        "finding,group,person,clip,split,clips,frames,like,cosine,leak\nsame,1,ann,a,,,,,0.6,train val\n"
        "same,1,anne,b,,,,,0.6,train val\n"
    )
    hand_over(tmp_path, "folder", tmp_path / "out", parts=("frames",))
    head, text = card(tmp_path / "out")
    assert head["license"] == "unknown"
    assert "In more than one split of the whole manifest: 1 person (ann)." in text
    assert "1 person probably under several names, 1 of them in several splits" in text


def test_figures_are_told_whatever_is_handed_over(finished, tmp_path):
    hand_over(finished, "nemo", tmp_path / "out")
    _, text = card(tmp_path / "out")
    assert "| landmark error, inter-ocular distances | 2 |" in text


def test_the_rows_come_along(finished, tmp_path):
    hand_over(finished, "videox-fun", tmp_path / "out")
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip"] for row in rows] == ["a.one", "b"]
    assert rows[0]["source_url"] == "https://example.org/1" and rows[0]["text"] == "Ann, who laughs"
