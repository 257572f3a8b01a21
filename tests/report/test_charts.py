"""The charts say what the numbers say."""

import re
from xml.etree import ElementTree

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from expportrait.fit.store import TERMS as TERMS_OF_THE_FIT
from expportrait.report.charts import error_chart, loss_chart, training_chart

TERMS = ("total", "landmark", "normal")


def lines(svg: str, style: str) -> list[np.ndarray]:
    found = [node.get("points") for node in ElementTree.fromstring(svg).iter("polyline") if node.get("class") == style]
    return [np.array([tuple(map(float, point.split(","))) for point in points.split()]) for points in found]


def test_a_falling_loss_falls_in_every_stage():
    loss = np.full((400, 3), np.nan)
    loss[:, 0] = 10 * np.exp(-np.arange(400) / 60)
    loss[200:, 2] = np.linspace(2, 1, 200)
    svg = loss_chart(loss, [("landmarks", 0), ("coarse", 100), ("dynamic", 200)], TERMS)
    total, normal = lines(svg, "s0"), lines(svg, "s2")
    assert len(total) == 3 and len(normal) == 1 and lines(svg, "s1") == []
    assert all((np.diff(part[:, 1]) > 0).all() for part in [*total, *normal])  # y grows downwards
    assert normal[0][0, 0] > total[1][-1, 0]
    marks = [node for node in ElementTree.fromstring(svg).iter("text") if node.get("class") == "stage"]
    labels = [mark.findtext("title") for mark in marks]
    assert [mark.find("title").tail for mark in marks] == ["b", "c", "e"]
    assert labels == ["landmarks: steps 0 to 99", "coarse: steps 100 to 199", "dynamic: steps 200 to 399"]
    assert "landmark</text>" not in svg


def test_a_factor_of_ten_is_as_high_everywhere():
    loss = np.repeat(np.array([[100.0], [10.0], [1.0]]), 50, axis=0)
    heights = [part[0, 1] for part in lines(loss_chart(loss, [("a", 0), ("b", 50), ("c", 100)], ("total",)), "s0")]
    assert np.isclose(heights[1] - heights[0], heights[2] - heights[1], atol=0.2)


def test_stages_are_equally_wide_and_small_terms_left_out():
    """A stage of two steps beside one of hundreds; what is a millionth of the largest would only squeeze the rest."""
    terms = tuple(name for names in TERMS_OF_THE_FIT.values() for name in names)
    loss = np.full((202, len(terms)), 0.5)
    loss[:, terms.index("jaw")] = 1e-7
    svg = loss_chart(loss, [("landmarks", 0), ("coarse", 200)], terms)
    root = ElementTree.fromstring(svg)
    first, second = ([float(node.get(x)) for x in ("x", "width")] for node in root.iter("rect"))
    assert first[1] == second[1] and np.isclose(first[0] + first[1], second[0], atol=0.1)
    keys = [node for node in root.iter("text") if node.get("class") == "key"]
    assert {node.text for node in keys} == {name.replace("_", " ") for name in terms} - {"jaw"}
    height = float(root.get("viewBox").split()[3])
    plot = min(float(node.get("y")) for node in root.iter("rect"))
    assert max(float(node.get("y")) for node in keys) < plot < height - 100
    assert all(float(node.get("x")) + 5 * len(node.text) < 425 for node in keys) and len(svg) < 20_000
    used = {node.get("class") for node in root.iter("polyline")}
    assert len(used) == len(terms) - 1


def test_a_training_is_drawn_as_it_is_and_smoothed():
    noise = 0.05 * np.random.default_rng(0).standard_normal(1000)
    loss = np.linspace(2, 1, 1000) * np.exp(noise)
    svg = training_chart({"loss": loss, "zero": np.full(1000, 3.0)}, "Loss")
    (own,), (mean,), (zero,) = (lines(svg, style) for style in ("s0 pale", "s0", "s1"))
    assert np.abs(np.diff(mean[:, 1])).mean() < 0.3 * np.abs(np.diff(own[:, 1])).mean()
    assert np.corrcoef(mean[:, 0], mean[:, 1])[0, 1] > 0.98  # y grows downwards
    assert np.ptp(zero[:, 1]) == 0 and zero[0, 1] < own[:, 1].min()
    assert "1000 steps" in svg and training_chart({"loss": np.full(4, np.nan)}, "Loss") == ""


def test_error_chart_marks_the_frame_and_the_mean():
    values = np.array([1.0, 2.0, 3.0, 6.0])
    svg = error_chart([("landmarks", " %", values)], 2)
    root = ElementTree.fromstring(svg)
    points = lines(svg, "s0")[0]
    mark = next(node for node in root.iter("line") if node.get("class") == "mark")
    mean = next(node for node in root.iter("line") if node.get("class") == "grid")
    assert float(mark.get("x1")) == points[2, 0]
    assert np.isclose(float(mean.get("y1")), points[2, 1], atol=0.1)
    assert "mean 3 %, 1 to 6" in svg


def test_a_single_frame_is_a_dot():
    root = ElementTree.fromstring(error_chart([("overlap", "", np.array([0.9]))], 0))
    assert len(list(root.iter("circle"))) == 1 and not list(root.iter("polyline"))


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 200), st.just(3)), elements=st.floats(width=32)),
    st.text(min_size=1, max_size=12),
)
def test_any_numbers_and_names_make_a_small_sound_chart(values, name):
    name = re.sub(r"[^\x20-\uD7FF]", "?", name)
    half = len(values) // 2
    stages = [(name, 0), ("coarse", half)] if half else [(name, 0)]
    charts = (
        loss_chart(values, stages, TERMS),
        error_chart([("a", "", values[:, 0])], 0),
        training_chart({name: values[:, 0], "b": values[:, 1]}, "t"),
    )
    for svg in charts:
        if svg:
            ElementTree.fromstring(svg)
            assert "nan" not in svg.replace(name, "") and "inf" not in svg.replace(name, "")
            assert len(svg) < 20_000
