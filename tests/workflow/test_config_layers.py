"""Where settings come from when Snakemake runs, and what it says when they are wrong."""

import json
import os
import re
import shutil

import pytest

from tests.workflow.project import NO_FILES, ROOT


def crop_settings(project, *arguments):
    """The settings that the crop job of the demo's shard would be given."""
    text = project.run("-n", "-p", "--quiet", "host", "--forcerun", "crop", *arguments)
    line = next(line for line in text.splitlines() if "expportrait crop" in line and "--shard demo" in line)
    return json.loads(line.split("--settings ")[1].split(" 2>&1")[0].strip("'")).get("crop", {})


def test_later_layers_win(project):
    project.write("config.yaml", "crop: {scale: 2.3, size: 256}")
    assert crop_settings(project) == {"scale": 2.3, "size": 256}
    project.write("data_manifest.yaml", f"{NO_FILES}crop: {{scale: 2.4}}")
    assert crop_settings(project) == {"scale": 2.4, "size": 256}
    project.write("over.yaml", "crop: {scale: 2.5}")
    assert crop_settings(project, "--configfile", "over.yaml") == {"scale": 2.5, "size": 256}
    over = ["--configfile", "over.yaml", "--config", "crop={scale: 2.6}"]
    assert crop_settings(project, *over) == {"scale": 2.6, "size": 256}


def test_another_manifest_runs_with_production_settings_unless_it_has_its_own(project):
    project.write("data_manifest.yaml", f"{NO_FILES}crop: {{scale: 2.4}}")
    project.write("my.csv", project.read("data_manifest.csv"))
    bare = ["--config", "manifest=my.csv", "results=run1", "latents={codec: linear}"]
    assert "geometry.estimator is david, but geometry.normals is empty" in project.snakemake("-n", *bare).stdout
    other = [*bare, "geometry={estimator: embedded}"]
    assert crop_settings(project, *other) == {}
    project.write("my.yaml", "crop: {scale: 3}")
    assert crop_settings(project, *other) == {"scale": 3.0}
    assert "run1/crop/demo-0000.json" in project.run("-n", "--quiet", "host", *other)


def test_settings_that_were_renamed_are_good_in_every_layer(project, monkeypatch):
    project.write("site/sitecustomize.py", "from expportrait.settings.sections import Crop\n"
                                           "Crop.renamed = {'zoom': 'scale'}\n")  # fmt: skip
    path = os.pathsep.join([str(project.folder / "site"), str(ROOT / "src")])
    monkeypatch.setattr(project, "environment", lambda: os.environ | {"PYTHONPATH": path})
    project.write("data_manifest.yaml", f"{NO_FILES}crop: {{zoom: 2.4}}")
    assert crop_settings(project) == {"scale": 2.4}, "config.yaml has it under today's name"
    assert crop_settings(project, "--config", "crop={zoom: 2.6}") == {"scale": 2.6}
    assert crop_settings(project, "--config", "crop={scale: 2.7}") == {"scale": 2.7}
    said = project.run("-n", "--config", "crop={zoom: 2.6}")
    for layer in ("data_manifest.yaml", "the command line"):
        assert said.count(f"{layer}: the setting crop.zoom is called crop.scale now\n") == 1
    both = project.snakemake("-n", "--config", "crop={zoom: 2.6, scale: 2.6}").stdout
    assert "expportrait: the command line: in crop, zoom is an old name of scale, and zoom and scale are given" in both


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config", "manifest=none.csv"], "the manifest none.csv cannot be read: No such file or directory"),
        (["--config", "crop={scael: 3}"], "there is no setting crop.scael; did you mean crop.scale?"),
        (["--config", "corp={scale: 3}"], "there is no setting corp; did you mean crop?"),
        (["--config", "crop={scale: big}"], "the command line: crop.scale is 'big': input should be a valid number"),
        (["--config", "proxy.batch=8"], "--config proxy.batch=8: write it as 'proxy={batch: 8}'"),
        (["--config", "results=run1", "-C", "manifest=my.csv"], "there are 2 --config, and Snakemake would take the"),
        (["--config", "results=2024_06_01"], "results is 20240601: a path is expected; where its name reads like a nu"),
        (["--config", "manifest=12"], "the command line: manifest is 12: a path is expected"),
        (["--config", "results=a{b}"], "results is 'a{b}': Snakemake takes {b} for a place to be filled in; give it a"),
        (["--configfile", "over.yaml"], "over.yaml: proxy.batch is 0: input should be greater than or equal to 1"),
        (["--config", "head={file: none.npz}"], "head.file: none.npz does not exist"),
    ],
)
def test_a_mistake_ends_in_one_sentence(project, arguments, sentence):
    project.write("over.yaml", "proxy: {batch: 0}")
    done = project.snakemake("-n", *arguments)
    assert done.returncode == 1
    assert sentence in done.stdout and "Traceback" not in done.stdout and "Error in" not in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.startswith("expportrait: ")]) == 1
    assert "Job stats" not in done.stdout, "nothing is planned"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config", "latents={window: 10}"], "latents.window is 10: a window has 4k+1 frames, such as 9 or 13"),
        (["--config", "latents={size: 500}"], "latents.size is 500: sizes are multiples of 16 px, such as 496"),
        (["--config", "latents={window: 5}", "reenact={overlap: 5}"], "reenact.overlap is 5, but a window"),
        (["--config", "generator={maps: [depth]}"], "generator.maps asks for depth, which is not rendered"),
        (["--config", "generator={micro: 3}"], "generator.batch is 4, but one process takes 3 windows at once"),
        (["--config", "pairs=pairs.csv"], "pairs.csv, line 2, column driver: the manifest has no clip 'bobb'"),
        (["--config", "pairs=none.csv"], "the pairs none.csv cannot be read"),
        (["--config", "geometry={estimator: david}"], "geometry.normals is empty: take normal-model-vitb16_384.onnx"),
        (["--config", "geometry={estimator: sapiens}"], "(licence: CC BY-NC 4.0, non-commercial) from https://hugg"),
        (["--config", "landmarks={detector: sapiens}"], "landmarks.model is empty: take sapiens_0.3b_goliath"),
        (["--config", "latents={codec: wan}"], "latents.vae is empty: give the file of Wan's VAE weights"),
        (["--config", "generator={base: none.safetensors}"], "generator.base: none.safetensors does not exist"),
    ],
)
def test_what_would_fail_hours_later_stops_the_plan(project, arguments, sentence):
    project.write("pairs.csv", "target,driver\nbob,bobb\n")
    done = project.snakemake("-n", *arguments)
    assert done.returncode == 1
    assert sentence in done.stdout and "Traceback" not in done.stdout


BARE = "manifest=my.csv results=run1"
NOT_THERE = "generator={base: none} evaluate={arcface: none}"


@pytest.mark.parametrize(
    ("asked", "config", "stages"),
    [
        ("--until crop", BARE, {"crop", "demo"}),
        ("--until control", f"{BARE} geometry={{estimator:embedded}} {NOT_THERE}",
         {"crop", "landmarks", "geometry", "proxy", "control", "demo"}),
        ("--omit-from latents geometry", f"{BARE} {NOT_THERE}", {"crop", "landmarks", "demo"}),
        ("--omit-from generator", f"{BARE} geometry={{estimator:embedded}} latents={{codec:linear}} {NOT_THERE}",
         {"crop", "landmarks", "geometry", "proxy", "control", "latents", "transfer", "drive", "appearance",
          "demo"}),
        ("run1/landmarks/films-0000.json", f"{BARE} head={{file:none.npz}}", {"crop", "landmarks"}),
    ],
)  # fmt: skip
def test_only_rules_that_will_run_ask_for_their_files(project, asked, config, stages):
    project.write("my.csv", project.read("data_manifest.csv"))
    shutil.rmtree(project.folder / "data")
    config = [entry.replace(":", ": ") for entry in re.findall(r"\S+?=(?:\{[^}]*\}|\S+)", config)]
    assert {*project.plan(*asked.split(), "--config", *config)} == stages


@pytest.mark.parametrize(
    ("asked", "config", "sentence"),
    [
        ("--until geometry", BARE, "geometry.estimator is david, but geometry.normals is empty"),
        ("--until latents", BARE, "latents.vae is empty: give the file of Wan's VAE weights"),
        ("--omit-from latents", BARE, "geometry.estimator is david, but geometry.normals is empty"),
        ("--until generator", "generator={base:none}", "generator.base: none does not exist"),
        ("all", "evaluate={arcface:none}", "evaluate.arcface: none does not exist; take w600k_r50.onnx"),
    ],
)
def test_rules_that_will_run_ask_before_anything_runs(project, asked, config, sentence):
    project.write("my.csv", project.read("data_manifest.csv"))
    given = ["--config", *(entry.replace(":", ": ") for entry in config.split())]
    dry = [] if asked == "--until latents" else ["-n"]
    done = project.snakemake(*dry, *asked.split(), *given)
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith(f"expportrait: {sentence}")], done.stdout
    assert project.work() == []
