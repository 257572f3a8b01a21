"""rules/split.smk: long videos cut in shards, and the clips' workflow planned by what came out."""

import shutil
import subprocess
import sys

import pytest

from expportrait.manifest.clips import read_manifest
from tests.video import make
from tests.workflow.project import ROOT

SETTINGS = "split={sources: sources.csv, min_face: 60, shards: 2}"


def snakemake(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "rules" / "split.smk"), "--cores", "1", *arguments]
    return subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture
def folder(tmp_path):
    shutil.copy(ROOT / "config.yaml", tmp_path / "config.yaml")
    return tmp_path


def test_what_cannot_be_meant_ends_the_plan_with_one_sentence(folder):
    (folder / "sources.csv").write_text("source\na.mp4\n")
    (folder / "mine.csv").write_text("clip,dataset,source\na,d,a.mp4\n")
    for arguments, words in (
        (("--config", "manifest=my.csv"), "split.sources is empty"),
        (("--config", "manifest=mine.csv", SETTINGS), "mine.csv was not made by an importer"),
    ):
        done = snakemake(folder, "-n", *arguments)
        assert done.returncode == 1 and words in done.stdout and "Traceback" not in done.stdout
    (folder / "sources.csv").write_text("file\na.mp4\n")
    assert "no column source" in snakemake(folder, "-n", "--config", "manifest=my.csv", SETTINGS).stdout


@pytest.mark.slow
def test_videos_in_shards_then_a_plan_of_their_clips(folder):
    for n, name in enumerate("ab"):
        frames = [make.scene(270, 480, (120 + 0.3 * t, 0, 0.9), seed=n) for t in range(60)]
        make.video(folder / f"{name}.mp4", frames, 25)
    (folder / "sources.csv").write_text("source,licence\na.mp4,CC0\nb.mp4,CC-BY-4.0\n")
    asked = ("--config", "manifest=my.csv", "results=run", SETTINGS)
    done = snakemake(folder, *asked)
    assert done.returncode == 0, done.stdout
    rows = read_manifest(folder / "my.csv")
    assert [(row.clip, row.extra["licence"], row.person) for row in rows] == [
        ("a-0000", "CC0", "a-p0"), ("b-0000", "CC-BY-4.0", "a-p0"),
    ]  # fmt: skip
    assert (folder / "my.left_out.csv").exists() and (folder / "run" / "logs" / "split.log").exists()
    assert "Nothing to be done" in snakemake(folder, "-n", *asked).stdout
    (folder / "sources.csv").write_text("source,licence\na.mp4,CC0\nb.mp4,CC0\n")
    again = snakemake(folder, "-n", *asked).stdout
    assert "manifest" in again and "split  " not in again.partition("Job stats:")[2].partition("total")[0]
