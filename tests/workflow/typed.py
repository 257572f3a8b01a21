"""What users are told to type: the lines of a page, and a checkout in which they are run."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from markdown_it import MarkdownIt

from tests.video.make import scene, video
from tests.workflow.project import ROOT, Project

ALL = ".+"  # in a table of what is put for what: the whole line


def blocks(page):
    """(language, content) of the page's code blocks; no language where none is named."""
    tokens = MarkdownIt().parse((ROOT / page).read_text("utf-8"))
    return [(token.info, token.content) for token in tokens if token.type in ("code_block", "fence")]


def lines(page):
    """The lines of the page's code blocks, their comments left out; of Python, and of what is printed, none."""
    content = (block for language, block in blocks(page) if language not in ("python", "text"))
    return [re.sub(r"\s+#\s.*", "", line) for block in content for line in block.splitlines() if line.strip()]


def command(line, table):
    for old, new in table[line].items():
        line, count = re.subn(old if old == ALL else re.escape(old), new, line, count=1)
        assert count, f"{old} is not in {line}"
    return line


class Checkout:
    """A copy of the workflow with a video of a face, and the commands of its environment."""

    def __init__(self, project: Project):
        self.folder = project.folder
        for name in ("Makefile", "requirements.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, self.folder)
        (self.folder / ".venv").symlink_to(sys.prefix)
        (self.folder / "videos").mkdir()
        video(self.folder / "videos" / "anna.mp4", [scene(360, 480, (90 + n, 40, 1.0)) for n in range(12)])

    @classmethod
    def whole(cls, folder: Path) -> "Checkout":
        """One whose jobs run all of this checkout's own code."""
        for name in ("rules", "profiles", "envs"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(ROOT / name, folder)
        (folder / "src").symlink_to(ROOT / "src")
        return cls(Project(folder))

    def stand_in(self, script: str, *names: str) -> None:
        for name in names:
            file = self.folder / "bin" / name
            file.parent.mkdir(exist_ok=True)
            shutil.copy(Path(__file__).with_name(script), file)
            file.chmod(0o755)

    def run(self, line: str) -> str:
        path = os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "EXPPORTRAIT_DEVICE": "cpu"}
        with subprocess.Popen(["bash", "-ec", line], cwd=self.folder, env=environment, text=True, process_group=0,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:  # fmt: skip
            try:
                said, _ = process.communicate(timeout=900)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0 and "Traceback" not in said, f"{line}\n{said}"
        return said
