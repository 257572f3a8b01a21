"""`make setup` with stand-ins for Python, and requirements.txt, which is installed as it stands."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYTHON = """\
#!/bin/sh
echo "$(basename "$0") $*" >> {log}
case "$1" in
    -c) exec {real} -c "import sys; sys.version_info = {version}; $2" ;;
    --version) echo "Python {version}" ;;
    -m) if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; exit {venv}; fi ;;
esac
"""
# Named, and not installed: mediapipe's converters of language models import the first two, and the same cv2 comes with
# opencv-contrib-python.
NOT_INSTALLED = ("tensorboard", "wandb")  # extras that make setup leaves to whoever asks for them
UNUSED = {"jax": "mediapipe", "jaxlib": "mediapipe", "opencv-python": "scenedetect"}
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))


class Machine:
    """A folder with this Makefile, and all programs that it may find."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "bin").mkdir()
        for tool in ("sh", "grep", "touch", "rm", "mkdir", "cp", "basename"):
            (folder / "bin" / tool).symlink_to(shutil.which(tool))
        for name in ("Makefile", "requirements.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)

    def python(self, name: str, *version: int, venv: int = 0) -> None:
        file = self.folder / "bin" / name
        file.write_text(PYTHON.format(log=self.folder / "log", real=sys.executable, version=version, venv=venv))
        file.chmod(0o755)

    def setup(self) -> tuple[int, str, list[str]]:
        """Exit status; what was said; what Python was asked to do, but its version."""
        (self.folder / "log").write_text("")
        done = subprocess.run([shutil.which("make"), "setup"], cwd=self.folder, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env={"PATH": str(self.folder / "bin")})  # fmt: skip
        log = (self.folder / "log").read_text().splitlines()
        return done.returncode, done.stdout, [line for line in log if not re.search(" (-c|--version)", line)]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_torch_comes_first_and_the_rest_as_it_is_pinned(machine):
    machine.python("python3.11", 3, 11, 2)
    status, said, asked = machine.setup()
    assert status == 0 and "Making .venv with Python (3, 11, 2)" in said and "everything is in .venv" in said
    pip = "python -m pip install -q --disable-pip-version-check"
    installed = [f"torch=={PINS['torch']}", "--no-deps -r requirements.txt", "--no-deps --no-build-isolation -e ."]
    assert asked == ["python3.11 -m venv .venv", *(f"{pip} {what}" for what in installed)]
    assert machine.setup()[2] == [], "once"


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"python3.11": (3, 11, 2), "python3.12": (3, 12, 3), "python3": (3, 12, 3)}, "python3.11"),
        ({"python3.12": (3, 12, 3), "python3": (3, 13, 1)}, "python3.12"),
        ({"python3": (3, 12, 3)}, "python3"),
        ({"python3": (3, 10, 1), "python": (3, 11, 9)}, "python"),
    ],
)
def test_python_3_11_or_3_12_is_taken_from_what_is_there(machine, there, taken):
    for name, version in there.items():
        machine.python(name, *version)
    status, _, asked = machine.setup()
    assert status == 0 and asked[0] == f"{taken} -m venv .venv"


@pytest.mark.parametrize("there", [{}, {"python3": (3, 13, 1)}, {"python3": (3, 9, 1), "python": (2, 7, 18)}])
def test_without_such_a_python_the_sentence_says_how_to_get_one(machine, there):
    for name, version in there.items():
        machine.python(name, *version)
    status, said, asked = machine.setup()
    assert status == 2 and asked == [] and "Installing" not in said
    assert "Python 3.11 or 3.12 is needed" in said and "on Ubuntu 24.04: apt install python3.12-venv" in said
    assert "conda create -p .venv python=3.12" in said
    machine.python("made-by-hand", 3, 12, 3)
    (machine.folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(machine.folder / "bin" / "made-by-hand", machine.folder / ".venv" / "bin" / "python")
    assert machine.setup()[0] == 0


def test_an_environment_that_could_not_be_made_or_is_another_pythons_is_not_used(machine):
    machine.python("python3", 3, 12, 3, venv=1)
    status, said, _ = machine.setup()
    assert status == 2 and "Installing" not in said and not (machine.folder / ".venv").exists()
    (machine.folder / ".venv" / "bin").mkdir(parents=True)
    machine.python("python3", 3, 13, 1)
    shutil.copy(machine.folder / "bin" / "python3", machine.folder / ".venv" / "bin" / "python")
    status, said, _ = machine.setup()
    assert status == 2 and ".venv has Python (3, 13, 1); 3.11 or 3.12 is needed: delete .venv." in said


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_pins_are_complete_and_go_together(python):
    """What a resolver would look at: everything that a pinned package asks for is pinned, to a version that it takes.
    What torch asks for depends on the machine's GPUs, and comes with it."""
    here = {"python_version": python, "python_full_version": f"{python}.1"}
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = project["optional-dependencies"].items()
    asked = [("this project", text) for part, texts in parts if part not in NOT_INSTALLED for text in texts]
    asked += [("this project", text) for text in project["dependencies"]]
    seen = set()
    while asked:
        who, text = asked.pop()
        wanted = Requirement(text)
        name = canonicalize_name(wanted.name)
        if name in UNUSED:
            assert who == UNUSED[name] and name not in pins
            continue
        assert name in pins, f"{who} needs {text}"
        assert wanted.specifier.contains(pins[name], prereleases=True), f"{who} needs {text}, not {pins[name]}"
        for extra in {"", *wanted.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            needs = map(Requirement, importlib.metadata.requires(name) or () if name != "torch" else ())
            asked += [
                (name, str(need)) for need in needs if not need.marker or need.marker.evaluate(here | {"extra": extra})
            ]
    tools = {"sympy", "networkx", "fsspec", "filelock", "mpmath", "setuptools"}  # torch's, which others may ask for too
    assert {*pins} - {name for name, _ in seen} <= tools, "nobody asks for these"
