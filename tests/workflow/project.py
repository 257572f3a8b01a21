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
CARRIED = "generator: {maps: [normals, coverage, appearance, seen]}\n"  # with which there is a stage more

# What jobs run in place of the package that lies beside the rules: the real one, with code of no weight.
LIGHT = """\
import sys
from pathlib import Path

sys.path[:] = ["@SRC@", "@ROOT@"] + [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).parents[1]]
del sys.modules["expportrait"]

from tests.workflow import light

light.main(heavy=@HEAVY@)
"""


class Project:
    """A checkout in a temporary folder."""

    def __init__(self, folder: Path, source: Path = ROOT / "src"):
        self.folder, self.source = folder, source

    @classmethod
    def create(cls, folder: Path) -> "Project":
        """A new one, whose jobs run the source of this checkout."""
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        (folder / "data_manifest.csv").write_text(MANIFEST)
        (folder / "data_manifest.yaml").write_text(f"shards: {{films: 1}}\n{NO_FILES}{CARRIED}")
        project = cls(folder)
        project.write("src/expportrait/__init__.py", "")
        project.use(ROOT / "src")
        return project

    def use(self, source: Path, heavy: tuple[str, ...] = ()) -> None:
        """Have Snakemake and jobs run that source; the stages ``heavy`` with their own code."""
        self.source = source
        parts = {"@SRC@": str(source), "@ROOT@": str(ROOT), "@HEAVY@": repr(heavy)}
        text = LIGHT
        for name, value in parts.items():
            text = text.replace(name, value)
        self.write("src/expportrait/__main__.py", text)

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
        return os.environ | {"PYTHONPATH": str(self.source)}

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
