import csv

import pytest

from expportrait.importers.table import Options, write
from expportrait.manifest.clips import read_manifest

from ..video import make


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Makes videos of 100 s, one frame a second, or others; each kind once."""
    home, made = tmp_path_factory.mktemp("videos"), {}

    def clip(path, count=100, fps=1, height=48, width=64):
        kind = count, fps, height, width
        if kind not in made:
            made[kind] = make.video(home / f"{len(made)}.mp4", make.numbered(count, height, width), fps)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made[kind].read_bytes())
        return path

    return clip


@pytest.fixture
def importing(tmp_path):
    """Writes a manifest; gives its rows by clip, and what was left out: what -> (reason, detail)."""

    def importing(found, **options):
        options = Options(**{"dataset": "test", "out": tmp_path / "my.csv", **options})
        report = write(found, options)
        rows = read_manifest(options.out)
        with report.list.open(newline="") as text:
            left = {line["what"]: (line["reason"], line["detail"]) for line in csv.DictReader(text)}
        return {row.clip: row for row in rows}, left

    return importing
