"""The walk of docs/datasets.md, line by line, from a short film with two people to what is read back."""

import csv
import re
import subprocess
import sys

import pytest

from expportrait.manifest.clips import read_manifest
from tests.importers.split import films
from tests.video import make
from tests.workflow.typed import Checkout, blocks, command, lines

PAGE = "docs/datasets.md"
FEW = "offsets: none, rigid_steps: 20, landmark_steps: 20, coarse_passes: 1"
QUICK = f"'crop={{size: 256, min_face: 60}}' 'proxy={{{FEW}}}'"
EXPORT = "expportrait export folder --out /data/set --manifest my.csv --results /data/run1 --split all"
RUNS = {
    "source .venv/bin/activate": {},
    "expportrait import split /films --out my.csv": {"/films": "films --min-seconds 1 --min-face 60 --val 0 --test 0"},
    "echo 'geometry: {estimator: embedded}' > my.yaml": {},
    "snakemake --config manifest=my.csv results=/data/run1 --until control": {
        "--config": f"--cores 1 --config {QUICK}",
        "/data": "data",
    },
    "expportrait report --manifest my.csv --results /data/run1": {"/data": "data"},
    f"{EXPORT} --dry-run": {"/data/set": "data/set", "/data/run1": "data/run1"},
    EXPORT: {"/data/set": "data/set", "/data/run1": "data/run1"},
    "cd /data/set && sha256sum -c --quiet SHA256SUMS": {"/data": "data"},
}


def test_the_table_knows_every_line():
    assert lines(PAGE) == [*RUNS]


@pytest.mark.slow
def test_from_a_film_to_a_data_set_that_is_read_back(tmp_path):
    checkout = Checkout.whole(tmp_path)
    (tmp_path / "films").mkdir()
    people = [("hopper", lambda t: (0.0, 40.0), 1.0, 5), ("astronaut", lambda t: (480.0, 40.0), 1.0, 9)]
    both, _ = films.scene(27, 2, people)
    make.video(tmp_path / "films" / "evening.mp4", [*films.title(15, "Evening", True), *both], films.FPS)
    for line in lines(PAGE):
        said = checkout.run(command(line, RUNS))
        if line.endswith("--dry-run"):
            assert "2 of 2 clips" in said
    rows = read_manifest(tmp_path / "my.csv")
    assert len(rows) == len({row.person for row in rows}) == 2
    ((_, script),) = [block for block in blocks(PAGE) if block[0] == "python"]
    script = script.replace("/data/", f"{tmp_path}/data/")
    told = subprocess.run([sys.executable, "-c", script], text=True, check=True, capture_output=True).stdout
    found = re.findall(r"^(\S+) (\S+) (\d+) frames of 256 px$", told, re.MULTILINE)
    assert [line[:2] for line in found] == [(row.clip, row.person) for row in rows]
    for (_, _, count), row in zip(found, rows, strict=True):
        assert abs(int(count) - (row.end - row.start) * films.FPS) < 1
    with (tmp_path / "my.left_out.csv").open(newline="") as text:
        assert "no face" in {line["reason"] for line in csv.DictReader(text)}
