"""The rules themselves: complete, in step with the stages, and affordable at scale."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from expportrait.options import configuration
from expportrait.stages import PIPELINE, STAGES
from expportrait.status.story import story
from expportrait.status.survey import survey
from tests.workflow.project import ROOT, Project
from tests.workflow.test_rerun import CHANGES

CONTROL = ("results/control/films-0000.json", "--config", "control={maps: [depth]}", "--quiet", "host")


def rule_text(name):
    return (ROOT / "rules" / f"{name}.smk").read_text()


@pytest.fixture(scope="module")
def planned(finished, tmp_path_factory):
    """Rule -> the text of a job of it, in a plan for which each section has a setting that is not the default."""
    over = tmp_path_factory.mktemp("settings") / "over.yaml"
    over.write_text("".join(f"{section}: {{{setting}}}\n" for section, (setting, _) in CHANGES.items()))
    text = finished.run("-n", "--forceall", "--printshellcmds", "--quiet", "host", "--configfile", str(over))
    return dict(re.findall(r"^ *(?:local)?rule (\w+):\n(.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", STAGES)
def test_a_rule_says_what_the_list_of_stages_says(planned, name):
    stages = [stage for stage in PIPELINE.values() if name in (stage.name, stage.by)]
    parents = {parent for stage in stages for parent in stage.parents}
    sections = {section for stage in stages for section in stage.sections}
    if name == "report":
        parents = {*PIPELINE} - {"demo", "report"}
    read = re.search(r"^ *input: (.*)$", planned[name], re.MULTILINE)
    found = re.findall(r"results/([^,]+)/[^/,]+\.json", read[1] if read else "")
    assert {*found} == parents - {stage.name for stage in PIPELINE.values() if stage.by}
    passed = json.loads(re.search(r"--settings '(.*?)'", planned[name])[1])
    assert passed.keys() - {"shards"} == sections
    text = rule_text(name)
    assert re.findall(r'version=stage_version\("(\w+)"\)', text) == [name]
    named = [{*re.findall(r"\w+", given)} for given in re.findall(r"(?:settings_files|once_given)\(([^)]*)\)", text)]
    assert named == ([] if name == "report" else [sections] * 2)


@pytest.mark.parametrize("name", STAGES)
def test_rules_look_alike(name):
    text = rule_text(name)
    directives = re.findall(r"^    (\w+):", text, re.M)
    order = ["input", "output", "log", "wildcard_constraints", "priority", "conda", "threads", "resources", "params",
             "shell"]  # fmt: skip
    assert directives == [directive for directive in order if directive in directives]
    assert set(order) - set(directives) <= {"wildcard_constraints"} | ({"priority"} if name == "report" else set())
    assert re.match(rf'rule {name}:\n    """.+\."""\n', text)


def test_logs_of_earlier_tries_are_kept_as_far_as_four(tmp_path):
    log = tmp_path / "a b-0000.log"
    for number in range(7):
        log.unlink(missing_ok=True)  # as Snakemake does
        line = f"set -euo pipefail; . {ROOT}/rules/logged.sh; echo try {number} | logged '{log}'"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        assert done.stdout == f"try {number}\n", "what a person sees in the terminal stays as it was"
    names = [log, *(log.with_suffix(f".{n}.log") for n in range(1, 5))]
    assert sorted(tmp_path.glob("[!.]*")) == sorted(names)
    assert [path.read_text().splitlines()[1] for path in names] == [f"try {number}" for number in (6, 5, 4, 3, 2)]


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path):
    line = f"set -euo pipefail; . {ROOT}/rules/logged.sh; (echo words; exit 3) | logged '{tmp_path}/no/x.log'"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stdout == "words\n" and done.returncode != 0


def test_lint_and_format():
    project = Project(ROOT)
    done = project.snakemake("--lint")
    assert done.returncode == 0, done.stdout
    done = subprocess.run([sys.executable, "-m", "snakefmt", "--check", "Snakefile", "rules"], cwd=ROOT,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("profile", ["slurm", "kubernetes"])
def test_rules_with_a_gpu_get_one(finished, profile):
    assert finished.plan("--workflow-profile", f"profiles/{profile}") == {}
    text = finished.run("-n", "--forceall", "--quiet", "host", "--workflow-profile", f"profiles/{profile}")
    asked = dict(re.findall(r"^ *(?:local)?rule (\w+):.*?^ *resources: ([^\n]*)", text, re.MULTILINE | re.DOTALL))
    asked.pop("all", None)
    assert asked.keys() == {*STAGES}
    assert all("mem_mb=" in resources and "runtime=" in resources for resources in asked.values()), asked
    # evaluate's figures are made on the CPU unless they are given a network
    on_gpu = {name for name in STAGES if "envs/gpu.yaml" in rule_text(name)} - {"evaluate"}
    assert {name for name, resources in asked.items() if "gpu=1" in resources} == on_gpu
    assert {*yaml.safe_load((ROOT / "profiles" / profile / "profile.v9+.yaml").read_text())["set-threads"]} == on_gpu
    if profile == "slurm":
        assert {name for name, resources in asked.items() if "slurm_partition=gpu" in resources} == on_gpu


def test_retries_get_more_memory(project):
    project.write("orders/ann", "control full")
    done = project.snakemake(*CONTROL, "--workflow-profile", "profiles/slurm", "--executor", "local", "--cores", "1")
    assert done.returncode == 1
    assert re.findall(r"mem_mb=(\d+)", done.stdout) == ["8000", "16000", "24000"]
    assert set(re.findall(r"runtime=(\d+)", done.stdout)) == {"240"}
    logs = [project.read(f"results/logs/control/films-0000{number}.log") for number in ("", ".1", ".2")]
    assert all("OSError: [Errno 28] disk full" in log and len(log.splitlines()) < 20 for log in logs), "one try in each"
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+ on \S+\n", log) for log in logs)
    assert "0 failed" in project.read("results/logs/control/films-0000.3.log"), "of the run before"
    told = story(survey(configuration(project.folder / "data_manifest.csv", project.folder / "results")), "ann")
    assert "control/films-0000.log (earlier tries: .1, .2, .3)" in told


def test_jobs_on_kubernetes(project, monkeypatch):
    kubectl = project.folder / "bin" / "kubectl"
    kubectl.parent.mkdir()
    shutil.copy(ROOT / "tests" / "workflow" / "kubectl.py", kubectl)
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}")
    project.write("orders/ann", "control full")
    command = (*CONTROL, "--workflow-profile", "profiles/kubernetes", "--seconds-between-status-checks", "1")
    assert project.snakemake(*command, "--retries", "1").returncode == 1
    project.write("orders/ann", "nothing")
    project.run(*command)
    jobs = [json.loads(file.read_text()) for file in sorted((kubectl.parent / "cluster").iterdir())]
    assert [job["ended"] for job in jobs] == [1, 1, 0]
    for job, memory in zip(jobs, ("8000M", "16000M", "8000M"), strict=True):
        assert job["metadata"]["generateName"] == "expportrait-control-"
        assert job["spec"]["activeDeadlineSeconds"] == 240 * 60 and job["spec"]["backoffLimit"] == 0
        container = job["spec"]["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"] == {"memory": memory, "nvidia.com/gpu": "1"}
        assert container["resources"]["requests"] == container["resources"]["limits"] | {"cpu": "2"}


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_conda_environments_hold_what_rules_import(name):
    wanted = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    held = dict(re.findall(r"^ +- ([\w.-]+)==(\S+)", (ROOT / "envs" / f"{name}.yaml").read_text(), re.MULTILINE))
    assert held.pop("opencv-python") == held["opencv-contrib-python"], "pip brings it along with scenedetect"
    assert held.items() <= wanted.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", text)[0].lower() for text in project["dependencies"]} - {"snakemake"}
    if name == "cpu":
        needed -= {"accelerate", "diffusers", "peft", "safetensors", "transformers"}
    assert {package.lower() for package in held} == needed
