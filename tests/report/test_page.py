"""The page on a fabricated run: what it says, that it stands alone, what is kept and what is made again."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from expportrait.engine.record import Outcome, needless, write_index
from expportrait.errors import MachineFault
from expportrait.manifest.clips import shards
from expportrait.report import page as page_module
from expportrait.report.run import Run, read_run
from expportrait.settings.config import Config
from expportrait.stages import PER_PAIR, PIPELINE
from expportrait.stages.report import run as build
from expportrait.store import Store, decode_normals
from tests.report.browser import look, needs_browser
from tests.report.fabricate import HEAD, NO_FACE, PER_CLIP, failed_at, index_all, load_head, make_clip, make_proxy, row

NASTY = "<script>document.title = 'taken over'</script><img src=x onerror=alert(1)> \" ' & </td></table>"
ROWS = [row("full", person="a & b"), row("second"), row("portrait"), row("faceless"), row("gone"), row("nasty")]
SHARDS = shards(ROWS, {})
REASONS = 2 * len(PER_CLIP) + len(PER_CLIP) - 1  # two clips without a store, one with crops only
OUTCOMES = {
    "faceless": failed_at("landmarks", NO_FACE),
    "gone": failed_at("crop", "the source gone.mp4 does not exist"),
    "nasty": failed_at("crop", NASTY),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    results = tmp_path_factory.mktemp("run")
    make_clip(results, "full", frames=12)
    make_clip(results, "second", frames=5, fps=24000 / 1001)
    make_clip(results, "portrait", frames=1)
    make_clip(results, "faceless", frames=3, stages=("crop",))
    index_all(results, SHARDS, OUTCOMES)
    return results


@pytest.fixture(scope="module")
def page(stores):
    return report(stores)


@pytest.fixture
def copy(stores, page, tmp_path):
    """A run of one's own, its report made."""
    shutil.copytree(stores, tmp_path / "run")
    return tmp_path / "run"


def report(results: Path, rows=ROWS, **given) -> Path:
    config = Config(report={"size": 96} | given, proxy={"batch": 8}, head=HEAD)
    return build(rows, results, PIPELINE["report"].settings(config), shards(rows, {}), {})


NO_PAIRS = Run({}, {}, PER_PAIR, {})


class Parsed(HTMLParser):
    """Links, and the cells of the table of reasons."""

    def __init__(self, html: str):
        super().__init__()
        self.links, self.rows, self.tags, self.text = [], [], [], ""
        self.cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "poster")]
        if tag == "tr":
            self.rows.append([])
        self.cell = tag == "td"
        if self.cell and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.cell = self.cell and tag != "td"

    def handle_data(self, data):
        self.text += data
        if self.cell and self.rows:
            self.rows[-1][-1] += data


def test_counts_settings_and_reasons_are_told(page):
    html = page.read_text("utf-8")
    parsed = Parsed(html)
    counts = [cells for cells in parsed.rows if len(cells) == 5 and cells[0].isdigit()]
    later = [[3, 0, 3, 0]] * (len(PER_CLIP) - 2)
    trainings = [[0, 0, 0, 1]] * 2
    assert [list(map(int, cells[:4])) for cells in counts] == [[4, 2, 0, 0], [3, 1, 2, 0], *later, *trainings]
    assert "proxy.batch = 8" in parsed.text and "report.size = 96" in parsed.text and "proxy.focal" not in parsed.text
    assert ["faceless", "landmarks", "failed", NO_FACE] in parsed.rows
    assert ["gone", "control", "skipped", "crop: the source gone.mp4 does not exist"] in parsed.rows
    assert ["nasty", "crop", "failed", NASTY] in parsed.rows
    told = list(csv.reader((page.parent / "failures.csv").open(newline="", encoding="utf-8")))
    assert told[0] == ["clip", "stage", "status", "why"] and ["nasty", "crop", "failed", NASTY] in told
    assert len(told) == 1 + REASONS


def test_the_source_and_the_fit_are_described(page):
    text = " ".join(Parsed(page.read_text("utf-8")).text.split())
    for told in (
        "full.mp4, 640 × 360 px",
        "12 frames, 0.5 s at 25 fps, frames 30 to 41, of 2 shots",
        "5 frames, 0.2 s at 23.98 fps",
        "x 100 to 420, y 20 to 340 px of the source, now 96 px, padded",
        "by 90 degrees, clockwise",
        "150 px in the source, in 90% of the frames",
        "focal length 288 px at 96 px",
        "6 s: landmarks 1.5, coarse 4.0",
        "mediapipe 0.10.14, 1 of 12 frames interpolated",
    ):
        assert told in text


def test_stands_alone(page):
    html = page.read_text("utf-8")
    links = [link for link in Parsed(html).links if not link.startswith("#") and link != "data:,"]
    assert len(links) > 20
    for link in links:
        assert (page.parent / unquote(link)).is_file(), link
        assert not re.match(r"[a-z]+:|/", link), link
    assert "url(" not in html and "@import" not in html
    assert len(html) < 100_000


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_in_chromium(page, tmp_path, width):
    seen = look(page, tmp_path / "profile", width)
    assert seen["errors"] == []
    assert seen["title"].endswith("run report")
    assert seen["inner"] == width
    assert seen["scroll"] <= seen["client"]
    assert len(seen["images"]) == 4 + 3 * 6 + 3 and min(seen["images"]) >= 96
    assert [round(video["seconds"], 2) for video in seen["videos"]] == [0.48, 0.21]
    for video in seen["videos"]:
        assert video["ready"] >= 1 and (video["width"], video["height"]) == (192, 96)
        assert video["muted"] and video["loop"] and not video["controls"] and video["inline"]
    assert seen["all"] == [4, REASONS]
    assert seen["searched"] == [1, len(PER_CLIP) - 1]
    assert seen["failed"] == [1, 3]


@needs_browser
def test_dark_scheme(page, tmp_path):
    light = look(page, tmp_path / "light", 800, 600, "--blink-settings=preferredColorScheme=1")["background"]
    dark = look(page, tmp_path / "dark", 800, 600, "--blink-settings=preferredColorScheme=0")["background"]
    assert sum(map(int, re.findall(r"\d+", light)[:3])) > 600
    assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 150


def test_pictures_show_the_stores(stores, page):
    """The fabricated estimate is a render of the very fit, so both panels must agree."""
    folder = page.parent / "media" / "full"
    images = {
        name: np.asarray(Image.open(folder / f"{name}.jpg"), float)
        for name in ("estimated", "fitted", "overlay", "landmarks")
    }
    assert np.abs(images["estimated"] - images["fitted"]).mean() < 3
    assert np.abs(images["overlay"] - images["landmarks"]).mean() > 5
    frames = Store(stores / "crop" / "full.zarr")["frames"].astype(float)
    colours = 127.5 * (1 + decode_normals(Store(stores / "control" / "full.zarr")["normals"]))
    with av.open(folder / "film.mp4") as video:
        assert video.streams.video[0].codec_context.name == "h264" and video.streams.video[0].pix_fmt == "yuv420p"
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]).astype(float)
    assert shown.shape == (12, 96, 192, 3)
    assert np.abs(shown[:, :, :96] - frames).mean() < 8
    covered = np.abs(colours - 127.5).max(-1) > 1
    assert np.abs(shown[:, :, 96:] - colours)[covered].mean() < 15
    assert shown[:, :, 96:][~covered].mean() < 15
    assert not (page.parent / "media" / "portrait" / "film.mp4").exists()


def charts_of(results: Path, clip: str) -> dict[str, list[str]]:
    """Caption of every chart of the fit's losses, and the names of its curves."""
    card = json.loads((results / "report/media" / clip / "card.json").read_text("utf-8"))
    return {caption: re.findall('class="key"[^>]*>([^<]*)<', chart) for caption, chart in card["losses"]}


def test_every_group_of_terms_has_its_chart(stores, page):
    charts = charts_of(stores, "full")
    assert list(charts.values()) == [["total", "normal"], ["expression"], ["temporal pose"], ["static laplacian"]]
    assert all(caption in page.read_text("utf-8") for caption in charts)


def test_a_fit_of_an_older_version_is_shown_as_what_it_is(copy):
    """Five terms, before their weights."""
    group = zarr.open_group(copy / "proxy/full.zarr", mode="r+")
    loss = np.tile(np.float32([3, 1, np.nan, 0.5, 0.2]), (130, 1))
    del group["loss"]
    group.create_array("loss", data=loss).attrs["terms"] = ["total", "landmark", "normal", "depth", "silhouette"]
    shutil.rmtree(copy / "report/media")
    html = report(copy).read_text("utf-8")
    ((caption, chart),) = charts_of(copy, "full").items()
    assert "before their weights" in caption and caption in html
    assert chart == ["total", "landmark", "depth", "silhouette"]


def test_clay_views_are_two_sides_of_the_bump(page):
    left, right = (
        np.asarray(Image.open(page.parent / "media" / "full" / f"{side}.jpg").convert("L"), float)
        for side in ("left", "right")
    )
    covered = np.mean(left > 30), np.mean(right > 30)
    assert all(0.15 < part < 0.8 for part in covered)
    assert np.abs(left - right).mean() > 5
    mirrored = np.abs((left > 30).astype(float) - (right[:, ::-1] > 30)).mean()
    assert mirrored < 0.1  # the head is nearly symmetric: its outline from one side is the other's mirror image


def media_times(results: Path) -> dict[str, int]:
    return {file.parent.name: file.stat().st_mtime_ns for file in (results / "report" / "media").glob("*/card.json")}


def test_media_are_made_again_only_where_keys_changed(copy):
    before = media_times(copy)
    report(copy)
    assert media_times(copy) == before
    make_clip(copy, "second", frames=3)
    changed = {stage: Outcome("ok", f"new-{stage}") for stage in PER_CLIP}
    index_all(copy, SHARDS, OUTCOMES | {"second": changed})
    page = report(copy)
    after = media_times(copy)
    assert {clip for clip in before if after[clip] != before[clip]} == {"second"}
    assert "3 frames" in page.read_text("utf-8")
    (copy / "report" / "media" / "full" / "card.json").write_text("{half", "utf-8")
    report(copy, frames=4)
    assert all(media_times(copy)[clip] != after[clip] for clip in after)


def test_a_store_made_with_other_settings_is_told(copy):
    group = copy / "crop" / "second.zarr" / "zarr.json"
    text = json.loads(group.read_text("utf-8"))
    text["attributes"]["settings"] = {"crop": {"scale": 3.5, "size": 512, "gone": 1}}
    group.write_text(json.dumps(text), "utf-8")
    shutil.rmtree(copy / "report" / "media" / "second")
    parsed = Parsed(report(copy).read_text("utf-8"))
    assert parsed.text.count("made with other settings") == 1
    assert "crop.scale = 3.5" in parsed.text and "crop.size" not in parsed.text and "crop.gone" not in parsed.text


def test_media_of_clips_no_longer_shown_are_removed(copy):
    report(copy, max_clips=1)
    assert len(media_times(copy)) == 1
    page = report(copy, max_clips=0)
    assert media_times(copy) == {} and "0 of 6" in page.read_text("utf-8")


def test_frames_whose_landmarks_are_guesses_are_marked_in_the_strip(copy):
    plain = np.asarray(Image.open(copy / "report" / "media" / "full" / "frames.jpg"))
    make_proxy(copy / "proxy" / "full.zarr", load_head(), 12, 96, aside=slice(6, 12))
    again = {stage: Outcome("ok", f"new-{stage}") for stage in PER_CLIP}
    index_all(copy, SHARDS, OUTCOMES | {"full": again})
    text = " ".join(Parsed(report(copy, frames=4).read_text("utf-8")).text.split())
    assert text.count("6 of 12 frames, whose landmarks are guesses") == text.count("whose landmarks are guesses") == 1
    strip = np.asarray(Image.open(copy / "report" / "media" / "full" / "frames.jpg")).astype(int)
    assert strip.shape[1] == 4 * 160 and len(strip) > len(plain) == 160

    def orange(part: np.ndarray) -> float:
        return float(((part[..., 0] > 200) & (part[..., 2] < 90)).mean())

    bar = strip[162:]
    assert orange(bar[:, :310]) == 0 and orange(bar[:, 330:]) > 0.9
    assert all(orange(strip[1:3, 160 * k + 8 : 160 * k + 150]) == 0 for k in (0, 1))
    assert all(orange(strip[1:3, 160 * k + 8 : 160 * k + 150]) > 0.8 for k in (2, 3))


def test_a_damaged_store_costs_one_card_only(copy):
    shutil.rmtree(copy / "proxy" / "full.zarr" / "pose" / "c")
    shutil.rmtree(copy / "report")
    html = report(copy).read_text("utf-8")
    assert "no pictures" in html and "full.zarr is damaged" in html
    assert (copy / "report" / "media" / "second" / "film.mp4").exists()


def test_a_fault_of_the_machine_leaves_the_old_page(copy, monkeypatch):
    old = (copy / "report" / "index.html").read_bytes()

    def full_memory(*_):
        raise MemoryError

    monkeypatch.setattr(page_module, "make_card", full_memory)
    with pytest.raises(MachineFault):
        report(copy)
    assert (copy / "report" / "index.html").read_bytes() == old


def test_before_any_stage_has_run(tmp_path):
    html = report(tmp_path).read_text("utf-8")
    assert "No clip has frames" in html and "0 of 6" in html
    assert [cells[3] for cells in Parsed(html).rows if len(cells) == 5] == ["6"] * len(PER_CLIP) + ["1"] * 2


def test_between_the_stages(stores, tmp_path):
    for stage in ("crop", "landmarks"):
        shutil.copytree(stores / stage, tmp_path / stage)
    page = report(tmp_path)
    folder = page.parent / "media" / "full"
    assert sorted(file.name for file in folder.iterdir()) == ["card.json", "frames.jpg", "landmarks.jpg"]
    assert "missing" in page.read_text("utf-8")


def test_what_is_not_needed_is_counted_apart_and_is_no_trouble(tmp_path):
    members = {"demo-0000": [row("talk"), row("still")]}
    index_all(tmp_path, members, {"still": {"latents": needless("k", "the clip is a single picture")}})
    run, config = read_run(members, tmp_path, PER_CLIP), Config()
    html = page_module.write_page(run, NO_PAIRS, tmp_path, config).read_text("utf-8")
    parsed = Parsed(html)
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', html)[:6] == [
        "stage", "ok", "failed", "skipped", "missing", "not needed"]  # fmt: skip
    counts = [[*map(int, cells[:5])] for cells in parsed.rows if len(cells) == 6 and cells[0].isdigit()]
    assert counts[PER_CLIP.index("latents")] == [1, 0, 0, 0, 1]
    assert run.worst("still") == "ok" and run.troubles() == []
    assert "single picture" not in (tmp_path / "report" / "failures.csv").read_text()


NO_CONTROLS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40)
WORDS = st.one_of(
    NO_CONTROLS, st.sampled_from([NASTY, "{{ 7 * 7 }}", "&amp;", "</script>", "../../etc", "a b", "%2e", "' onload='x"])
)


@settings(max_examples=30, deadline=None)
@given(clip=WORDS, why=WORDS, person=WORDS)
def test_whatever_a_manifest_or_a_reason_says_is_text(tmp_path_factory, clip, why, person):
    results = tmp_path_factory.mktemp("nasty")
    odd = row(clip, person=person)
    outcomes = {clip: {"crop": Outcome("ok", "k"), "landmarks": Outcome("failed", "k", why)}}
    run = Run({clip: odd}, {clip: "demo-0000"}, ("crop", "landmarks"), outcomes)
    config = Config(head={"file": why})
    html = page_module.write_page(run, NO_PAIRS, results, config).read_text("utf-8")
    parsed = Parsed(html)
    assert [clip, "landmarks", "failed", why] in parsed.rows
    assert parsed.tags.count("script") == 1 and "img" not in parsed.tags
    assert config.head.file is None or f"head.file = {config.head.file}" in parsed.text
    assert [file.name for file in results.iterdir()] == ["report"]


def test_thousands_of_clips(tmp_path):
    clips = [f"clip-{number:05d}" for number in range(6000)]
    rows = {clip: row(clip) for clip in clips}
    broken = failed_at("landmarks", NO_FACE) | {"crop": Outcome("ok", "k")}
    fine = {stage: Outcome("ok", "k") for stage in PER_CLIP}
    outcomes = {clip: broken if number % 10 == 0 else fine for number, clip in enumerate(clips)}
    run = Run(rows, {clip: f"demo-{number % 64:04d}" for number, clip in enumerate(clips)}, PER_CLIP, outcomes)
    page = page_module.write_page(run, NO_PAIRS, tmp_path, Config())
    html = page.read_text("utf-8")
    assert len(html) < 1_000_000 and "48 of 6000" in html
    reasons = 600 * (len(PER_CLIP) - 1)
    assert f"{reasons - 2000} more are in failures.csv" in html
    assert len((page.parent / "failures.csv").read_text("utf-8").splitlines()) == 1 + reasons
    assert {run.shard[clip] for clip in run.cards(64, "spread")} == set(run.shard.values())
    assert all(run.worst(clip) == "failed" for clip in run.cards(600, "failed"))
    assert run.worst(run.cards(601, "failed")[-1]) == "ok"


def test_by_the_command_line(stores, tmp_path):
    from typer.testing import CliRunner

    from expportrait.cli import app

    shutil.copytree(stores, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    manifest = tmp_path / "my.csv"
    manifest.write_text("clip,dataset,source\n" + "".join(f"{r.clip},{r.dataset},{r.source}\n" for r in ROWS), "utf-8")
    given = json.dumps({"report": {"size": 64, "max_clips": 1}, "crop": {"scale": 2.0}})
    done = CliRunner().invoke(
        app, ["report", "--manifest", str(manifest), "--results", str(tmp_path / "run"), "--settings", given]
    )
    assert done.exit_code == 0, done.output
    html = (tmp_path / "run" / "report" / "index.html").read_text("utf-8")
    assert "crop.scale = 2.0" in html and html.count("<article") == 1


def test_an_index_of_another_kind_is_named(tmp_path):
    from expportrait.errors import UserError

    write_index(tmp_path / "crop" / "demo-0000.json", {})
    (tmp_path / "landmarks").mkdir()
    (tmp_path / "landmarks" / "demo-0000.json").write_text("[", "utf-8")
    with pytest.raises(UserError, match=r"landmarks/demo-0000\.json"):
        report(tmp_path)
