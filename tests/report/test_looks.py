"""The report's part on what was seen while the generator trained."""

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from expportrait.engine.looks import TRAINED_ON
from expportrait.report.charts import looks_chart, training_chart
from expportrait.report.looks import FILMS, look_charts
from expportrait.report.training import read_trainings
from expportrait.settings.config import Config
from expportrait.stages.report import run
from tests.report.fabricate import make_looks, make_trainings, write_log

STEPS = [*range(10, 90, 10)]


@pytest.fixture
def results(tmp_path):
    make_trainings(tmp_path, steps=80)
    make_looks(tmp_path / "generator" / "model", STEPS)
    return tmp_path


def section(results):
    html = run([], results, Config(results=results), {}, {}).read_text("utf-8")
    return html.split('id="training"')[1].split("</section>")[0]


def test_curves_are_beside_the_loss_and_films_below_the_newest_first(results):
    part = section(results)
    *_, generator = re.findall(r"<article.*?</article>", part, re.DOTALL)
    charts = re.findall(r'<svg class="chart".*?</svg>', generator)
    assert [chart.count("<polyline") for chart in charts] == [3, 4, 1, 1, 1, 1]
    assert "held-out loss" in charts[0] and [chart.count("<circle") for chart in charts] == [8, 32, 8, 7, 7, 7]
    shown = re.findall(r'<video src="generator/(look-\d+).mp4"', generator)
    assert shown == [f"look-{step}" for step in (80, 60, 50, 40, 30, 20)] and len(shown) == FILMS
    assert "poster" not in generator and f'<img src="generator/{shown[0]}.jpg" width="128" height="32"' in generator
    assert "step 80, held-out clip ann: held-out loss 0.2125, +25% with other control maps, PSNR 20.80 dB" in generator
    assert "that it is not trained on" in generator and "<li><span>generated</span></li>" in generator


def test_the_page_holds_the_films_it_shows_and_no_others(results):
    old = results / "report" / "generator" / "look-7.mp4"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of an earlier training")
    part = section(results)
    there = {file.name for file in old.parent.iterdir()}
    assert there == {f"look-{step}.{kind}" for step in (80, 60, 50, 40, 30, 20) for kind in ("mp4", "jpg")}
    assert {Path(place).name for place in re.findall(r'src="(generator/[^"]+)"', part)} == there
    shutil.rmtree(results / "generator" / "model")
    make_trainings(results)
    assert "<video" not in section(results) and not [*old.parent.iterdir()]


def test_a_film_that_was_removed_is_left_out(results):
    (results / "generator" / "model" / "look-80.mp4").unlink()
    assert "look-80" not in section(results)


def test_the_last_steps_figures_are_told_in_words(results):
    file = results / "generator" / "model" / "loss.csv"
    head, *lines, _ = file.read_text().splitlines()
    lines[-1] += ",53248,412,2.5,31.25,0.4"
    file.write_text("\n".join([head + ",tokens,tflops,floor,memory,other", *(line + "," * 5 for line in lines[:-1]),
                               lines[-1]]))  # fmt: skip
    _, generator = read_trainings(results)
    facts = dict(generator.facts)
    assert facts["step 80"].startswith(
        "loss 0.04002, gradient 0.3, learning rate 0.001, 2 s a step, 53,248 tokens, 412"
    )
    assert facts["step 80"].endswith(
        "2.5 times the floor, 31.2 GiB, 25.0% of it waiting for data, 20.0% not the transformer"
    )
    assert facts["last look"].startswith("step 80: held-out loss 0.2125")


def test_a_training_that_goes_on_shows_what_was_seen_so_far(tmp_path):
    work = tmp_path / "generator" / "work-k"
    write_log(work / "loss.csv", 30)
    make_looks(work, [10, 20, 40], TRAINED_ON)  # the last one after the last checkpoint
    part = section(tmp_path)
    assert "training loss" in part and "40 steps" in part and 'src="generator/look-40.mp4"' in part
    assert "that it is trained on" in part


def test_without_looks_nothing_is_said_of_them(tmp_path):
    make_trainings(tmp_path)
    part = section(tmp_path)
    assert "last look" not in part and "<video" not in part and part.count("<svg") == 2


def places(svg, style):
    found = [node for node in ElementTree.fromstring(svg).iter("circle") if node.get("class") == f"{style} dot"]
    return np.array([[float(node.get(name)) for name in ("cx", "cy")] for node in found])


def test_dots_stand_where_the_numbers_are():
    svg = looks_chart({"a": np.array([[0, 0.0], [50, 1.0], [100, 3.0]]), "b": np.empty((0, 2))}, 100, "t")
    x, y = places(svg, "s0").T
    assert np.diff(x)[0] == pytest.approx(np.diff(x)[1], abs=0.2)
    assert (y[1] - y[2]) / (y[0] - y[1]) == pytest.approx(2, abs=0.02)
    assert looks_chart({"b": np.empty((0, 2))}, 100, "t") == ""
    loss = np.linspace(1, 0.1, 101)
    svg = training_chart({"loss": loss}, "t", {"held-out loss": np.array([[0, 1.0], [50, 0.1], [100, 0.01]])})
    x, y = places(svg, "s1").T
    assert y[1] - y[0] == pytest.approx(y[2] - y[1], abs=0.2), "a factor of ten is as high everywhere"


def ticks(values, **more):
    points = np.stack([np.arange(len(values)), np.array(values)], 1)
    svg = looks_chart({"a": points}, len(values), "t", **more)
    found = [n for n in ElementTree.fromstring(svg).iter("text") if n.get("class") == "tick end"]
    return [node.text for node in found][:-1]


def test_ticks_are_round_or_at_the_ends_and_have_room():
    assert ticks([10.5, 20.5, 30.5]) == ["10.5", "20.5", "30.5"]
    assert ticks([0.0327, 0.0337]) == [".0327", ".0332", ".0337"] and ticks([0.0, 0.0]) == ["0"]
    assert ticks([0.003, 0.0031], logarithmic=True) == [".003", ".00305", ".0031"]
    assert len(ticks([0.001, 1.0], logarithmic=True)) > 2 and "0.1" in ticks([0.001, 1.0], logarithmic=True)


def test_looks_without_numbers_make_no_chart():
    looks = make_looks_of(float("nan"))
    assert {caption for caption, _ in look_charts(looks, 10)} == {"loss by noise level, 1 being noise alone"}


def make_looks_of(value):
    losses = dict.fromkeys(("loss", "loss_0_25", "loss_25_50", "loss_50_75", "loss_75_100"), 0.5)
    return [{"step": 5, "of": "held-out", "clip": "a", **losses, "aed": value}]
