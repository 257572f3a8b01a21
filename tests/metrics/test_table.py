"""The table of a run, and the rows by pair and by frame."""

import csv
import io

import numpy as np
import pytest

from expportrait.metrics.bootstrap import interval
from expportrait.metrics.listing import BY_FRAME, BY_PAIR, frame_lines, pair_lines
from expportrait.metrics.pair import FLOOR, METHODS, METRICS, RUN, Scores
from expportrait.metrics.table import markdown, summary


def row(pair, method, aed, psnr=None):
    """A row of a self pair with three frames, one of them without a face."""
    values = {"aed": np.array([aed, np.nan, aed]), "psnr": np.array([psnr] * 3)} if psnr else {}
    faces = {"result": np.array([True, False, True]), "driver": np.array([True] * 3)}
    about = {"method": method, "pair": pair, "mode": "self", "size": 96, "frames": 3, "trained_on": None}
    return about | Scores(values, {}, {name: {"unit": "u"} for name in values}, faces).fields()


@pytest.fixture
def rows():
    return [row(f"p{i}", method, 0.1 * i + 0.01 * m, 20.0 + i) for i in range(4) for m, method in enumerate(METHODS)]


def test_means_have_the_interval_of_their_pairs(rows):
    means = {line["method"]: line for line in summary(rows)}
    line = means[RUN]
    assert line["self"]["psnr"] == 21.5 and line["intervals"]["self"]["psnr"] == interval([20, 21, 22, 23])
    assert line["pairs"]["self"]["aed"] == line["of"]["self"] == 4 and line["intervals"]["cross"] == {}
    assert means[FLOOR]["self"]["aed"] == pytest.approx(0.15 + 0.01 * METHODS.index(FLOOR))
    low, high = line["intervals"]["self"]["aed"]
    assert f"0.1500 [{low:.4f}, {high:.4f}]" in markdown(rows, summary(rows))


def test_one_pair_has_a_mean_and_no_interval_and_pairs_without_a_number_are_told(rows):
    few = rows[: len(METHODS)] + [row("p9", method, 0.0) for method in METHODS]
    line = summary(few)[0]
    assert line["self"]["psnr"] == 20 and line["intervals"]["self"] == {} and line["of"]["self"] == 2
    assert "| 20.00 (1 of 2 pairs) |" in markdown(few, summary(few))


def test_published_rows_have_no_interval(rows):
    printed = [line for line in markdown(rows, summary(rows)).splitlines() if "| published |" in line]
    assert len(printed) == 6 and not any("[" in line for line in printed)


def test_rows_by_pair_are_those_of_the_table(rows):
    lines = [dict(zip(BY_PAIR, line, strict=True)) for line in pair_lines(rows)]
    second = lines[len(METHODS)]
    assert len(lines) == 4 * len(METHODS) and (second["pair"], second["psnr"], second["csim"]) == ("p1", "21", "")
    assert (second["result_without_face"], second["driver_without_face"]) == (1, 0)


def test_every_frame_has_a_line_also_those_without_a_face(rows):
    known = {
        "rows": rows[:3], "frames": [0, 4, 8],
        "values": {method: {"aed": [0.5, None, 0.25], "psnr": [None, 20.123456789, 21]} for method in METHODS},
        "faces": {method: {"result": [True, False, True], "driver": [True] * 3} for method in METHODS},
    }  # fmt: skip
    file = io.StringIO()
    csv.writer(file).writerows([BY_FRAME, *frame_lines(known)])
    lines = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert len(lines) == 9 and [line["frame"] for line in lines[:3]] == ["0", "4", "8"]
    assert [line["face_in_result"] for line in lines[:3]] == ["1", "0", "1"]
    assert [line["aed"] for line in lines[:3]] == ["0.5", "", "0.25"]
    assert [line["psnr"] for line in lines[:3]] == ["", "20.1235", "21"]
    assert {line["lpips"] for line in lines} == {""} and set(METRICS) < set(lines[0])
