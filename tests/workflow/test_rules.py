"""The rules themselves: complete, in step with the stages, and affordable at scale."""

import re
import subprocess
import sys
from importlib import import_module

import pytest

from expportrait.config import SECTIONS
from expportrait.stages import PER_CLIP, STAGES, version
from tests.workflow.project import MANIFEST, ROOT, Project


def rule_text(name):
    return (ROOT / "rules" / f"{name}.smk").read_text()


@pytest.mark.parametrize("name", STAGES)
def test_a_rule_passes_what_its_stage_reads(name):
    module = import_module(f"expportrait.stages.{name}")
    stage = module.STAGE
    read = {*stage.sections, *module.TARGETS.sections} if name == "drive" else {*stage.sections}
    text = rule_text(name)
    passed = re.search(r"        settings=settings\(([^)]*)\)", text)[1].replace("*SECTIONS", ", ".join(SECTIONS))
    passed = set(passed.replace('"', "").split(", ")) - {"shards"}
    assert passed == (set(SECTIONS) if name == "report" else read)
    assert stage.version == version(name)
    assert stage.name == name and f'version=stage_version("{name}")' in text
    if name in PER_CLIP:
        inputs = re.findall(r'^        (\w+)="<results>/(\w+)/\{shard\}.json",', text.partition("output:")[0], re.M)
        assert inputs == [(parent, parent) for parent in stage.parents]


@pytest.mark.parametrize("name", STAGES)
def test_rules_look_alike(name):
    text = rule_text(name)
    directives = re.findall(r"^    (\w+):", text, re.M)
    order = ["input", "output", "log", "wildcard_constraints", "conda", "threads", "resources", "params", "shell"]
    assert directives == [directive for directive in order if directive in directives]
    assert set(order) - set(directives) <= {"wildcard_constraints"}
    assert re.match(rf'rule {name}:\n    """.+\."""\n', text)


def test_lint_and_format():
    project = Project(ROOT)
    done = project.snakemake("--lint")
    assert done.returncode == 0, done.stdout
    done = subprocess.run([sys.executable, "-m", "snakefmt", "--check", "Snakefile", "rules"], cwd=ROOT,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_slurm_profile_is_complete(finished):
    assert finished.plan("--workflow-profile", "profiles/slurm") == {}


def test_36000_clips_plan_in_seconds(tmp_path):
    project = Project.create(tmp_path)
    rows = [f"clip{i},{('vfhq', 'celebv')[i % 2]},videos/{i}.mp4,p{i},train\n" for i in range(36000)]
    project.write("big.csv", MANIFEST.splitlines(keepends=True)[0] + "".join(rows))
    command = project.command("-n", "--config", "manifest=big.csv", "results=big")
    # A process starts with its parent's peak memory, so the plan is started by a small one and not by the whole suite.
    start = (
        "import resource, subprocess, sys; status = subprocess.run(sys.argv[1:]).returncode; "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print('used', used.ru_utime, used.ru_maxrss); "
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, *command],
        cwd=project.folder,
        env=project.environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    assert {rule: int(jobs[rule]) for rule in (*PER_CLIP, "report")} == dict.fromkeys(PER_CLIP, 256) | {"report": 1}
    seconds, kibibytes = map(float, re.search(r"used (\S+) (\S+)", done.stdout).groups())
    assert seconds < 40, "CPU seconds; about 8 on an idle core"
    assert kibibytes < 1_000_000, "about 250 MiB"
