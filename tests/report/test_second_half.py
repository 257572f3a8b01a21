"""The page on trainings, pairs and the evaluation: what it says of them, and that each part may be missing."""

import csv
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest

from expportrait.engine.record import Outcome, write_json
from expportrait.manifest.clips import shards
from expportrait.manifest.pairs import pair_row, pair_shards
from expportrait.metrics import published
from expportrait.metrics.pair import COPY, NO_TRUTH, RUN
from expportrait.metrics.table import summary
from expportrait.report.training import read_trainings
from expportrait.settings.config import Config
from expportrait.stages import PIPELINE
from expportrait.stages.report import run as build
from expportrait.video.mark import moved, read_mark
from tests.report.browser import look, needs_browser
from tests.report.fabricate import (
    PER_CLIP,
    index_all,
    index_pairs,
    make_clip,
    make_pair,
    make_trainings,
    pair,
    row,
    table_rows,
    write_log,
)
from tests.report.test_page import NASTY, Parsed

ROWS = [row("full", person="a & b"), row("second")]
PAIRS = [pair("full", "full"), pair("full", "second"), pair("second", "full"), pair("second", "second")]
UNFIT = "the driver's head leaves the picture"
OUTCOMES = {
    "second__full": {"reenact": Outcome("failed", "k", NASTY)},
    "second__second": {
        "drive": Outcome("failed", "k", UNFIT),
        "appearance": Outcome("skipped", None, f"drive: {UNFIT}"),
        "reenact": Outcome("skipped", None, f"drive: {UNFIT}"),
    },
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    results = tmp_path_factory.mktemp("run")
    for clip, frames in (("full", 8), ("second", 4)):
        make_clip(results, clip, frames=frames)
    index_all(results, shards(ROWS, {}), {})
    for target, driver in (("full", "full"), ("full", "second")):
        make_pair(results, target, driver)
    make_pair(results, "second", "full", stages=("drive", "appearance"))
    index_pairs(results, pair_shards(PAIRS, {}), OUTCOMES)
    make_trainings(results)
    missing = [table_rows(*names, why="reenact: no video") for names in (("second", "full"), ("second", "second"))]
    write_table(results, table_rows("full", "full"), table_rows("full", "second"), *missing)
    report(results)
    return results


def write_table(results: Path, *of_pairs: list[dict]) -> None:
    rows = [row for rows in of_pairs for row in rows]
    write_json(results / "evaluate" / "table.json", {"rows": rows, "means": summary(rows)})


@pytest.fixture
def copy(stores, tmp_path):
    return Path(shutil.copytree(stores, tmp_path / "run"))


@pytest.fixture(scope="module")
def html(stores):
    return (stores / "report" / "index.html").read_text("utf-8")


def report(results: Path, rows=ROWS, pairs=PAIRS, **given) -> str:
    config = Config(report={"size": 96} | given)
    settings = PIPELINE["report"].settings(config)
    return build(rows, results, settings, shards(rows, {}), pair_shards(pairs, {})).read_text("utf-8")


def plain(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("&#39;", "'").split())


def film(html: str, name: str) -> str:
    """The pair's film at the top of the page."""
    return re.search(rf'<figure id="film-{name}".*?</figure>', html, re.DOTALL)[0]


def labels(part: str) -> list[str]:
    return re.findall("<li><span>(.*?)</span></li>", part)


def frames_of(file: Path) -> np.ndarray:
    with av.open(file) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


PANELS = ["reference", "driver", "control map", "appearance", "unseen", "generated"]


def card(html: str, name: str) -> str:
    return re.search(rf'<article class="card" id="pair-{name}".*?</article>', html, re.DOTALL)[0]


def test_every_stage_is_counted(html):
    counts = [cells[:4] for cells in Parsed(html).rows if len(cells) == 5 and cells[0].isdigit()]
    assert counts[len(PER_CLIP) :] == [list(line) for line in ("1000", "1000", "3100", "3010", "2110", "2020")]
    assert "4 pairs" in plain(html)


def test_failures_of_pairs_are_listed(stores, html):
    told = list(csv.reader((stores / "report" / "failures.csv").open(newline="", encoding="utf-8")))
    assert ["second__second", "drive", "failed", UNFIT] in told
    assert ["second__full", "reenact", "failed", NASTY] in told
    assert ["second__second", "evaluate", "skipped", "reenact: no video"] in told
    assert [line[2] for line in told[1:]] == ["failed"] * 2 + ["skipped"] * 4
    assert ["second__full", "reenact", "failed", NASTY] in Parsed(html).rows
    assert Parsed(html).tags.count("script") == 1


def test_pairs_show_their_video_and_figures(stores, html):
    own = card(html, "full__full")
    tiles = dict(re.findall(r"<dt>(\S+) .</dt><dd><b>([\d.]+)</b>", own))
    assert tiles == {"PSNR": "24.50", "SSIM": "0.7500", "L1": "0.0500", "AED": "0.2500", "APD": "0.0400",
                     "jaw": "0.1000"}  # fmt: skip
    assert "still 19.50 · floor 14.50" in own and "8 frames, 0.3 s at 25 fps" in own and "8 steps, seed 3" in own
    assert "1 of them in the result" in own and 'href="#film-full__full"' in own and "<video" not in own
    assert "PSNR" not in card(html, "full__second")
    assert 'id="pair-second__second"' not in html


def test_the_page_opens_with_films_of_all_panels(stores, html):
    assert html.index('id="films"') < html.index('id="evaluation"') < html.index('id="run"') < html.index('id="pairs"')
    shown = film(html, "full__second")
    assert (
        labels(shown) == PANELS and "full driven by second" in shown and "driven by itself" in film(html, "full__full")
    )
    assert 'data-fps="25.0" data-shown="2" data-last="3"' in shown and 'preload="none"' in shown
    frames = frames_of(stores / "report" / "pairs" / "full__second" / "film.mp4")
    mark = read_mark(stores / "report" / "pairs" / "full__second" / "film.mp4")
    assert mark == moved("full", "second", generated=True, alone=False)
    assert frames.shape == (4, 2 * 96, 3 * 96, 3)  # the driver has four frames
    rows = frames.reshape(4, 2, 96, 3, 96, 3).swapaxes(2, 3).reshape(4, 6, 96, 96, 3).astype(float)
    reference, driver, _, appearance, seen, generated = rows.swapaxes(0, 1)
    assert np.abs(reference - reference[0]).mean() < 1 < np.abs(driver - driver[0]).mean()  # the reference stands still
    assert all(np.abs(one - driver).mean() < 3 for one in (appearance, seen, generated[:, ::-1]))


def test_a_pair_with_columns_of_its_own_says_so_and_is_not_made_with_other_settings(copy):
    own = {"gain_mouth": 0.5, "hold": ["pose"]}
    calm = pair_row(row("full"), row("second"), "calm", {"pose_from": "full"}, own)
    make_pair(copy, "full", "second", name="calm", **own)
    index_pairs(copy, pair_shards([*PAIRS, calm], {}), OUTCOMES)
    shown = card(report(copy, pairs=[*PAIRS, calm]), "calm")
    told = plain(shown)
    assert "pair full driven by second" in told and "pose from full" in told
    assert "controls gain_mouth 0.5, hold pose" in told and "drive.gain_mouth" not in told
    elsewhere = card(report(copy, pairs=[*PAIRS, pair_row(row("full"), row("second"), "calm")]), "calm")
    assert "drive.gain_mouth" in plain(elsewhere), "this run's row says nothing of it"
    assert "controls" not in plain(card(report(copy), "full__second"))


def test_unseen_parts_are_magenta(copy):
    make_pair(copy, "second", "full", seen=0)
    index_pairs(copy, pair_shards(PAIRS, {}), {"second__second": OUTCOMES["second__second"]})
    report(copy)
    frames = frames_of(copy / "report" / "pairs" / "second__full" / "film.mp4").astype(int)
    tint = frames[:, 96:, 96:192] - frames[:, 96:, :96]
    assert tint[..., 1].mean() < -20 and tint[..., 2].mean() > 20


def test_without_a_generated_video_the_control_maps_are_shown(stores, html):
    assert 'data-status="failed"' in card(html, "second__full") and "still" not in card(html, "second__full")
    assert labels(film(html, "second__full")) == PANELS[:5]
    frames = frames_of(stores / "report" / "pairs" / "second__full" / "film.mp4")
    assert frames.shape == (8, 2 * 96, 3 * 96, 3) and np.ptp(frames[:, 100:, 196:]) < 8  # the place of the sixth


def test_films_at_the_top_are_few_and_the_others_stand_in_their_cards(copy):
    html = report(copy, max_films=1)
    assert html.count("<figure id=") == 1 and "2 more pairs have their films" in html
    assert "<video" not in card(html, "full__full") and labels(card(html, "full__second")) == PANELS
    assert "not on this page" not in html
    html = report(copy, max_films=9, max_pairs=2)
    assert html.count("<figure id=") == 2 and "1 more pair is not on this page: report.max_pairs is 2" in html
    html = report(copy, max_films=0)
    assert 'id="films"' not in html and html.count("<video") == 3 + 2


def test_a_film_shows_no_more_than_its_first_seconds(copy):
    html = report(copy, video_seconds=0.2)
    assert "Its first 5 of 8 frames." in film(html, "full__full") and "Its first" not in film(html, "full__second")
    assert len(frames_of(copy / "report" / "pairs" / "full__full" / "film.mp4")) == 5


def test_the_table_marks_what_is_published(html):
    part = html.split('id="evaluation"')[1].split("</section>")[0]
    measured, printed = part.split('class="published"')
    assert published.SOURCE in printed and "not measured here" in printed
    for line in published.ROWS:
        assert line["method"] in printed and line["method"] not in measured
    assert "26.5507" in printed and "24.50" in measured and "0.2500" in measured
    assert "1 of 2 pairs" in measured  # the pairs without a video
    told = plain(part)
    assert "No gaze in 8 of 16 rows: the eyes are shut" in told and NO_TRUTH in told and "the project's own" in told


def test_means_of_two_pairs_and_more_have_their_interval(copy):
    write_table(copy, *(table_rows(name, name, psnr=psnr) for name, psnr in (("full", 24.5), ("second", 26.5))))
    part = report(copy).split('id="evaluation"')[1].split("</section>")[0]
    assert ">25.50<small>[24.50,\n26.50]</small></td>" in part and "0.2500<small>[0.2500,\n0.2500]</small>" in part
    assert "noise floor" in part.split('class="published"')[0]


def test_a_table_of_an_earlier_version_is_read(copy):
    rows = [{k: v for k, v in row.items() if k not in ("gaze", "counted")} for row in table_rows("full", "full")
            if row["method"] in (RUN, COPY)]  # fmt: skip
    write_json(copy / "evaluate" / "table.json", rows)
    html = report(copy)
    part = html.split('id="evaluation"')[1].split("</section>")[0].split('class="published"')[0]
    assert "24.50" in part and "copy reference" in part and "noise floor" not in part
    assert "still 19.50 · floor –" in card(html, "full__full")


def test_all_rows_are_in_a_table_beside_the_page(stores):
    lines = list(csv.DictReader((stores / "report" / "evaluation.csv").open(newline="", encoding="utf-8")))
    assert len(lines) == 16
    assert [line["psnr"] for line in lines if line["psnr"]] == ["24.5", "22.5", "19.5", "14.5"]
    assert {line["result_without_face"] for line in lines} == {"1", ""}
    assert {line["pair"] for line in lines} == {pair.clip for pair in PAIRS}


def test_the_trainings_are_described(stores, html):
    told = plain(html.split('id="training"')[1].split("</section>")[0])
    for part in (
        "clips trained on 80% 2 clips, error 0.02 mm, without offsets 0.1 mm",
        "clips of people never trained on 30%",
        "not available: no other clip",
        "parameters 0.03 M",
        "parameters 0.06 M",
        "steps 60 of 60",
        "time 2.0 min, 2 s a step, 25% of it waiting for data",
        "loss 0.02 with the right control maps, 0.03 with those of another clip or window, +50%",
    ):
        assert part in told, part
    charts = re.findall(r'<svg class="chart".*?</svg>', html.split('id="training"')[1].split("</section>")[0])
    assert [chart.count("<polyline") for chart in charts] == [4, 2]


def test_a_training_that_goes_on_shows_its_curve(tmp_path):
    write_log(tmp_path / "generator" / "work-k" / "loss.csv", 30)
    transfer, generator = read_trainings(tmp_path)
    assert transfer.outcome.status == generator.outcome.status == "missing" and not transfer.facts
    assert ("steps", "30 so far") in generator.facts and generator.chart.count("<polyline") == 2
    assert "not finished yet" in report(tmp_path)
    write_log(tmp_path / "transfer" / "work-k" / "loss.csv", 20)
    transfer, _ = read_trainings(tmp_path)
    assert ("steps", "20 so far") in transfer.facts and "loss in mm" in transfer.caption


def test_a_log_of_an_earlier_version_without_the_gradient_is_read(tmp_path):
    file = tmp_path / "generator" / "work-k" / "loss.csv"
    write_log(file, 30)
    lines = [line.split(",") for line in file.read_text().splitlines()[:-1]]
    file.write_text("\n".join(",".join([*cells[:2], *cells[3:]]) for cells in lines))
    _, generator = read_trainings(tmp_path)
    assert ("steps", "30 so far") in generator.facts and generator.chart.count("<polyline") == 2


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"key": "other"}', "null"])
@pytest.mark.parametrize(
    "file", ["transfer/model/training.json", "generator/model/generator.json", "transfer/index.json"]
)
def test_a_damaged_training_is_told_and_costs_nothing_else(stores, tmp_path, file, text):
    for stage in ("transfer", "generator"):
        shutil.copytree(stores / stage, tmp_path / stage)
    (tmp_path / file).write_text(text, "utf-8")
    stage = file.split("/")[0]
    found = {training.stage: training.outcome for training in read_trainings(tmp_path)}
    assert found.pop(stage).status == "failed" and all(outcome.status == "ok" for outcome in found.values())
    told = list(csv.reader(report(tmp_path).splitlines()))
    assert told and f",{stage},failed," in (tmp_path / "report" / "failures.csv").read_text("utf-8")


def test_a_failed_training_gives_its_reason(tmp_path):
    write_json(tmp_path / "generator" / "index.json", {"status": "failed", "key": None, "why": "the loss diverged"})
    html = report(tmp_path)
    assert ["whole run", "generator", "failed", "the loss diverged"] in Parsed(html).rows


@pytest.mark.parametrize("text", ["{", "{}", '[{"method": "generated"}]', "[1]", '{"rows": 3}', "null"])
def test_a_damaged_table_is_told_and_costs_nothing_else(copy, text):
    (copy / "evaluate" / "table.json").write_text(text, "utf-8")
    html = report(copy)
    assert "evaluate/table.json cannot be read" in html and html.count('class="film"') == 5 and "<nav>" in html
    assert not (copy / "report" / "evaluation.csv").exists()


def test_any_part_may_be_missing(copy):
    for gone in ("evaluate", "generator", "reenact", "appearance", "transfer", "drive"):
        shutil.rmtree(copy / gone)
        html = report(copy)
        ids = [name for name in ("evaluation", "training", "pairs") if f'id="{name}"' in html]
        assert ids == (["pairs"] if gone in ("transfer", "drive") else ["training", "pairs"])
    assert "No pair has control maps" in html and html.count('<article class="card" id="clip-') == 2
    html = report(copy, pairs=[])
    assert 'id="pairs"' not in html and ">drive<" not in html and "<nav>" not in html


def times(results: Path) -> dict[str, int]:
    return {file.parent.name: file.stat().st_mtime_ns for file in (results / "report" / "pairs").glob("*/card.json")}


def test_media_of_pairs_are_made_again_only_where_keys_changed(copy):
    report(copy)
    before = times(copy)
    assert len(before) == 3
    report(copy, frames=4)
    assert times(copy) == before
    make_pair(copy, "second", "full")
    index_pairs(copy, pair_shards(PAIRS, {}), {"second__second": OUTCOMES["second__second"]})
    assert labels(film(report(copy), "second__full")) == PANELS
    after = times(copy)
    assert {name for name in before if before[name] != after[name]} == {"second__full"}
    folder = copy / "report" / "pairs" / "second__full"
    assert sorted(file.name for file in folder.iterdir()) == ["card.json", "film.jpg", "film.mp4"]
    assert report(copy, max_pairs=1).count("<figure id=") == 1 and len(times(copy)) == 1
    assert "report.max_pairs is 0" in report(copy, max_pairs=0) and times(copy) == {}


def test_a_damaged_pair_costs_one_card_only(copy):
    shutil.rmtree(copy / "report")
    shutil.rmtree(copy / "reenact" / "full__full.zarr" / "frames" / "c")
    shutil.rmtree(copy / "drive" / "second__full.zarr" / "normals" / "c")
    html = report(copy)
    assert html.count("no pictures:") == 2 and html.count("<figure id=") == 1
    assert json.loads((copy / "report" / "pairs" / "full__second" / "card.json").read_text("utf-8"))["video"]


def test_stands_alone(stores, html):
    links = [unquote(link) for link in Parsed(html).links if not link.startswith("#") and link != "data:,"]
    assert {"evaluation.csv", "failures.csv", "pairs/full__full/film.mp4"} <= set(links)
    for link in links:
        assert (stores / "report" / link).is_file() and not re.match(r"[a-z]+:|/|\.\.", link), link
    anchors = {unquote(link[1:]) for link in Parsed(html).links if link.startswith("#")}
    assert anchors <= set(re.findall(r'id="([^"]*)"', html))


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_in_chromium(stores, tmp_path, width):
    seen = look(stores / "report" / "index.html", tmp_path / "profile", width)
    assert seen["errors"] == [] and seen["scroll"] <= seen["client"]
    assert [video["width"] for video in seen["videos"]] == [288, 288, 288, 192, 192]
    for video in seen["videos"]:
        assert video["ready"] >= 1 and video["loop"] and video["muted"] and not video["controls"]
    assert seen["all"] == [5, 6]


@needs_browser
@pytest.mark.parametrize("calm", [False, True])
def test_a_film_is_played_and_gone_through(stores, tmp_path, calm):
    flags = ["--force-prefers-reduced-motion"] if calm else []
    seen = look(stores / "report" / "index.html", tmp_path / "profile", 1280, 900, *flags)
    assert seen["errors"] == [] and seen["untouched"]
    assert seen["slid"] == [3, 1, 2] and seen["last"] == [2, "2 / 7"]
    assert seen["touched"] and seen["left"] and seen["hovered"] == (not calm)
    assert seen["pressed"] == [True, "pause"] and seen["one"]
    assert seen["keys"] == [0, 0, True, "1"]
