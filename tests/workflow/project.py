"""A copy of the workflow whose jobs run the real command line and the real stage loop on stages of no weight."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("Snakefile", "rules", "profiles", "envs", "config.yaml")
MANIFEST = """\
clip,dataset,source,person,split
ann,films,films/ann.mp4,ann,train
bob,films,films/bob.mp4,bob,test
hopper-talk,demo,data/demo/hopper-talk.mp4,hopper,train
"""
NO_FILES = "geometry: {estimator: embedded}\nlatents: {codec: linear}\n"  # settings that need no networks' files

LIGHT = """\
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

sys.path[:] = ["@SRC@"] + [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).parents[1]]
del sys.modules["expportrait"]

import numpy as np
from expportrait import cli
from expportrait.engine import record
from expportrait.errors import ClipError
from expportrait.engine import stage as loop
from expportrait.settings.config import SECTIONS, Config
from expportrait.stages import version
from expportrait.stages.contracts import TARGETS, contracts, generator_key, transfer_key

STAGES = contracts(Config())


class OutOfMemoryError(RuntimeError):
    "As torch names it."


def process(clip, out):
    orders = Path("orders", clip.row.clip)
    order = orders.read_text().split() if orders.exists() else []
    if order[:1] == [clip.title.split()[0]]:
        out.array("half", np.ones(3))
        if order[1] == "wait":
            Path("waiting").write_text(str(os.getpid()))
            while not Path("go").exists():
                time.sleep(0.1)
        else:
            memory = OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
            raise {"reject": ClipError("ordered"), "crash": ValueError("ordered"), "gpu": memory,
                   "full": OSError(28, "disk full")}[order[1]]
    for parent in clip.parents.values():
        assert parent["x"].sum() == 3
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
    keys = {}
    for row in sorted(rows, key=lambda row: row.clip):
        states = {parent: record.state(config.results / parent, row.clip) for parent in STAGES[name].parents}
        if all(state.status == "ok" for state in states.values()):
            keys[row.clip] = {parent: state.key for parent, state in states.items()}
    train = {row.clip for row in rows if row.split == "train"}
    done = {"status": "ok", "why": "", "clips": {clip: of for clip, of in keys.items() if clip in train}}
    if name == "transfer":
        done["clips"] = {clip: of["proxy"] for clip, of in done["clips"].items()}
        done["evaluated"] = {clip: of["proxy"] for clip, of in keys.items() if clip not in train}
        done["key"] = transfer_key(config, done["clips"])
    else:
        done["key"] = generator_key(config, done["clips"], [])
    model = home / "model"
    if not model.exists() or model.read_text() != done["key"]:
        with log.open("a") as lines:
            lines.write(name + "\\n")
        home.mkdir(parents=True, exist_ok=True)
        model.write_text(done["key"])
    record.write_json(home / "index.json", done)


def evaluate(pairs, config, device):
    stage = STAGES["evaluate"]
    for target, driver in pairs:
        name = f"{target}__{driver}"
        parents = stage.others(SimpleNamespace(clip=name, extra={"target": target, "driver": driver}))
        keys = {who: record.state(config.results / home, clip).key for who, (home, clip) in parents.items()}
        key = record.content_key("evaluate", stage.version, config.identity(stage.sections, ""), keys)
        record.write_json(config.results / "evaluate" / "pairs" / f"{name}.json", {"key": key})
    record.write_json(config.results / "evaluate" / "table.json", pairs)


def drive(pairs, rows, config, *rest):
    if config.drive.target_proxy == "image":
        names = {pair.extra["target"] for pair in pairs}
        only = config.model_copy(update={"drive": type(config.drive)(reference=config.drive.reference)})
        heads = replace(STAGES[TARGETS], process=process)
        loop.run(heads, [row for row in rows if row.clip in names], only, *rest)
    return loop.run(replace(contracts(config)["drive"], process=process), pairs, config, *rest)


def build(rows, results, settings, shards, pair_shards):
    page = results / "report" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(" ".join(sorted(row.clip for row in rows)))
    return page


def load_stage(name):
    stage = STAGES.get(name) or loop.Stage(name, version(name), sections[name], (), None)
    stage = replace(stage, process=process)
    run = {
        "evaluate": evaluate,
        "drive": drive,
        "reenact": lambda pairs, rows, config, *rest: loop.run(stage, pairs, config, *rest),
    }.get(name, lambda rows, config, device: train(name, rows, config))
    return SimpleNamespace(STAGE=stage, make=make, build=build, run=run)


sections = {"demo": ("demo",), "report": SECTIONS}
cli.load_stage, cli.choose_device = load_stage, lambda device: "cpu"
cli.main()
"""


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
        (folder / "data_manifest.yaml").write_text(f"shards: {{films: 1}}\n{NO_FILES}")
        package = folder / "src" / "expportrait"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(LIGHT.replace("@SRC@", str(ROOT / "src")))
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
