"""A copy of the workflow whose jobs run the real command line and the real stage loop on stages of no weight."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from expportrait.config import SECTIONS as ALL_SECTIONS

ROOT = Path(__file__).parents[2]
COPIED = ("Snakefile", "rules", "profiles", "envs", "config.yaml")
MANIFEST = """\
clip,dataset,source,person,split
ann,films,films/ann.mp4,ann,train
bob,films,films/bob.mp4,bob,test
hopper-talk,demo,data/demo/hopper-talk.mp4,hopper,train
"""

LIGHT = """\
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

sys.path[:] = ["@SRC@"] + [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).parents[1]]
del sys.modules["expportrait"]

import numpy as np
from expportrait import cli
from expportrait.errors import ClipError
from expportrait import stage as loop
from expportrait.stages import version

SECTIONS, PARENTS = @STAGES@


def process(clip, out):
    orders = Path("orders", clip.row.clip)
    order = orders.read_text().split() if orders.exists() else []
    if order[:1] == [clip.title.split()[0]]:
        if order[1] == "wait":
            Path("waiting").touch()
            time.sleep(60)
        errors = {"reject": ClipError("ordered"), "crash": ValueError("ordered"), "full": OSError(28, "disk full")}
        raise errors[order[1]]
    with open("work.log", "a") as log:
        log.write(clip.title + "\\n")
    out.array("x", np.ones(3))


def make(clip, out, settings, device):
    with open("work.log", "a") as log:
        log.write("demo " + clip + "\\n")
    out.write_text(str(settings))
    out.with_suffix(".npz").write_text(clip)


def train(name, rows, config):
    home, log = config.results / name, Path("work.log")
    states = {f"{p} {row.clip}": loop.state(config.results / p, row.clip) for p in PARENTS[name] for row in rows
              if row.split == "train"}
    keys = {who: state.key for who, state in states.items() if state.status == "ok"}
    key = loop.content_key(name, version(name), config.identity(SECTIONS[name], ""), keys)
    model = home / "model"
    if not model.exists() or model.read_text() != key:
        with log.open("a") as lines:
            lines.write(name + "\\n")
        home.mkdir(parents=True, exist_ok=True)
        model.write_text(key)
    loop.write_json(home / "index.json", {"status": "ok", "key": key, "why": ""})


def evaluate(pairs, config, device):
    loop.write_json(config.results / "evaluate" / "table.json", pairs)


def others(name):
    def parents(pair):
        found = {}
        for parent in PARENTS[name]:
            clips = {"drive": [pair.clip], "transfer": []}.get(parent, [*pair.extra.values()])
            found |= {f"{parent} {clip}": (parent, clip) for clip in clips}
        return found

    return parents


def build(rows, results, settings, shards, pair_shards):
    page = results / "report" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(" ".join(sorted(row.clip for row in rows)))
    return page


def load_stage(name):
    stage = loop.Stage(name, version(name), SECTIONS[name], PARENTS[name], process)
    whole = {"drive": ("transfer",), "reenact": ("generator",)}.get(name)
    run = evaluate if name == "evaluate" else lambda rows, config, device: train(name, rows, config)
    if whole:
        stage = replace(stage, whole=whole, others=others(name))
        run = lambda pairs, rows, config, *rest: loop.run(stage, pairs, config, *rest)
    return SimpleNamespace(STAGE=stage, make=make, build=build, run=run)


cli.load_stage, cli.choose_device = load_stage, lambda device: "cpu"
cli.main()
"""

PARENTS = {
    "demo": (),
    "crop": (),
    "landmarks": ("crop",),
    "geometry": ("crop", "landmarks"),
    "proxy": ("crop", "landmarks", "geometry"),
    "control": ("proxy",),
    "latents": ("crop",),
    "transfer": ("proxy",),
    "drive": ("proxy", "transfer"),
    "generator": ("latents", "control"),
    "reenact": ("drive", "crop"),
    "evaluate": ("reenact", "crop"),
    "report": (),
}
SECTIONS = {
    "demo": ("demo",),
    "crop": ("crop",),
    "landmarks": ("landmarks",),
    "geometry": ("geometry", "head"),
    "proxy": ("proxy", "head"),
    "control": ("control", "head"),
    "latents": ("latents",),
    "transfer": ("transfer", "head"),
    "drive": ("drive", "control", "head"),
    "generator": ("generator",),
    "reenact": ("latents", "reenact"),
    "evaluate": ("evaluate",),
    "report": ALL_SECTIONS,
}


class Project:
    """A checkout in a temporary folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> "Project":
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        (folder / "data_manifest.csv").write_text(MANIFEST)
        (folder / "data_manifest.yaml").write_text("shards: {films: 1}")
        package = folder / "src" / "expportrait"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(
            LIGHT.replace("@SRC@", str(ROOT / "src")).replace("@STAGES@", f"{SECTIONS}, {PARENTS}")
        )
        return cls(folder)

    def copy(self, folder: Path) -> "Project":
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Project(folder)

    def write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), cwd=self.folder, env=self.environment(), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", *arguments]

    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(ROOT / "src")}

    def run(self, *arguments: str) -> str:
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def plan(self, *arguments: str) -> dict[str, int]:
        """Rule -> number of jobs that a dry run announces."""
        text = self.run("-n", *arguments)
        table = text.partition("Job stats:")[2].partition("total")[0]
        jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
        assert jobs or "Nothing to be done" in text, text
        return {rule: count for rule, count in jobs.items() if rule != "all"}

    def work(self) -> list[str]:
        """What the jobs computed since the last call, such as "crop hopper-talk"."""
        log = self.folder / "work.log"
        lines = sorted(log.read_text().splitlines()) if log.exists() else []
        log.unlink(missing_ok=True)
        return lines
