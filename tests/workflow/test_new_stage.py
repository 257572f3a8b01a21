"""CONTRIBUTING's recipe for a new stage, followed step by step in a copy of the project."""

import json
import re
import shutil
import subprocess
import sys
from textwrap import dedent

import numpy as np
import pytest

from expportrait.stages import PER_CLIP, PIPELINE
from expportrait.store import Store, StoreWriter
from tests.workflow.project import ROOT

FOR_ALL = "src/expportrait/stages/__init__.py"
LIGHT = {"ann": 200, "bob": 20, "hopper-talk": 90}  # of 255


def recipe():
    """The section's text, and its blocks of code, in order."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## A new stage")[1].split("\n## ")[0]
    blocks = re.findall(r"\n\n((?: {7,}[^\n]*\n|\n+(?= {7,}))+)", text)
    return text, [dedent(block) for block in blocks]


@pytest.fixture
def grown(project):
    """The finished run of a project to which the stage is added as the book says."""
    text, (section, place, line, module, include) = recipe()
    shutil.copytree(ROOT / "src", project.folder / "edited/src", ignore=shutil.ignore_patterns("__pycache__"))
    (project.folder / "edited/docs").mkdir()
    package = project.folder / "edited"

    def change(name, before, after):
        file = package / name
        assert f"`{name}`" in text and file.read_text().count(before) == 1
        file.write_text(file.read_text().replace(before, after))

    change("src/expportrait/settings/sections.py", "class Landmarks(", f"{section}\n\nclass Landmarks(")
    config = "src/expportrait/settings/config.py"
    change(config, "    Control,\n    Crop,", "    Brightness,\n    Control,\n    Crop,")
    change(config, "    landmarks: Landmarks", f"    {place}    landmarks: Landmarks")
    change(FOR_ALL, '    Stage("landmarks"', f'    {line}    Stage("landmarks"')
    (package / "src/expportrait/stages/brightness.py").write_text(module)
    rule = project.read("rules/landmarks.smk").replace("landmarks", "brightness")
    project.write("rules/brightness.smk", rule)
    last = 'include: "rules/landmarks.smk"\n'
    project.write("Snakefile", project.read("Snakefile").replace(last, last + include))
    project.use(package / "src", heavy=("brightness",))
    for clip, brightness in LIGHT.items():  # the light stages have made no frames
        path = project.folder / f"results/crop/{clip}.zarr"
        with StoreWriter(path, Store(path).attrs) as out:
            out.array("x", np.ones(3))
            out.array("frames", np.full((5, 8, 8, 3), brightness, np.uint8))
    return project


def command(project, *arguments):
    """What a command of the copy says."""
    done = subprocess.run([sys.executable, "-m", "expportrait", *arguments], cwd=project.folder, text=True,
                          capture_output=True, env=project.environment())  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_stage_that_is_added_by_the_book_is_run_and_seen_by_all(grown):
    edited = grown.folder / "edited"
    settings = [sys.executable, "-m", "expportrait.settings"]
    said = subprocess.run(settings, cwd=edited, env=grown.environment(), text=True, capture_output=True)
    assert said.stdout == "wrote config.yaml\nwrote config.schema.json\nwrote docs/settings.md\n", said.stderr
    shutil.copy(edited / "config.yaml", grown.folder)
    assert "brightness:" in grown.read("config.yaml")
    assert grown.plan() == {"brightness": 2, "report": 1}
    assert json.loads(command(grown, "status", "--json"))["todo"] == {"brightness": 3}
    grown.run()
    assert grown.work() == [] and grown.plan() == {}
    for clip, brightness in LIGHT.items():
        store = Store(grown.folder / f"results/brightness/{clip}.zarr")
        assert store["brightness"].tolist() == [brightness] * 5
        assert store.attrs["settings"] == {"brightness": {"least": 0}}
    told = json.loads(command(grown, "status", "--json"))
    assert [*told["stages"]][:3] == ["crop", "brightness", "landmarks"] and told["todo"] == {}
    assert len(told["stages"]) == len([*PIPELINE]) - 1 and "brightness" not in PER_CLIP

    grown.write("over.yaml", "brightness: {least: 60}")
    over = ["--configfile", "over.yaml"]
    assert grown.plan(*over) == {"brightness": 2, "report": 1}
    grown.run(*over)
    why = "the clip is dark, 20 of 255 (brightness.least: 60)"
    assert json.loads(grown.read("results/brightness/films-0000.json"))["bob"]["why"] == why
    sets = ["--set", "brightness.least=60"]
    assert why in command(grown, "status", *sets)
    assert command(grown, "retry", "--stage", "brightness", *sets) == (
        "brightness 1 will be tried again by the next run: snakemake\n"
    )
    assert grown.plan(*over) == {"brightness": 1, "report": 1}
    grown.write("data_manifest.csv", "\n".join(grown.read("data_manifest.csv").splitlines()[:-1]) + "\n")
    assert "brightness/hopper-talk.zarr" in command(grown, "prune", "--dry-run", *sets)


def test_every_file_that_the_recipe_names_is_there():
    named = re.findall(r"`([^`\s]+(?:/|\.(?:py|md|smk|yaml))|Snakefile)`", recipe()[0])
    named = [path.replace("<stage>", "latents").replace("brightness", "latents") for path in named]
    assert len(named) > 10 and not [path for path in named if not (ROOT / path).exists()]


def test_the_recipe_names_every_list_of_stages():
    """Where a stage is named beside others; one made by the recipe would be missing in what it does not say."""
    lists = [ROOT / "Snakefile", ROOT / FOR_ALL, *ROOT.glob("profiles/*/*.yaml"), ROOT / "src/expportrait/cli.py",
             ROOT / "rules/common.smk", *(ROOT / "src/expportrait").glob("engine/*.py"),
             *(ROOT / "src/expportrait").glob("status/*.py")]  # fmt: skip
    found = {str(path.relative_to(ROOT)) for path in lists if '"latents"' in path.read_text("utf-8")
             or "latents:" in path.read_text("utf-8") or "/latents.smk" in path.read_text("utf-8")}  # fmt: skip
    assert found and found <= {*re.findall(r"`([^`\s]+)`", recipe()[0])}
