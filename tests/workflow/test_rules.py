"""The rules themselves: complete, in step with the stages, and affordable at scale."""

import os
import re
import subprocess
import sys
from importlib import import_module

import pytest

from expportrait.config import SECTIONS
from expportrait.stages import PER_CLIP, STAGES, version
from tests.workflow.project import MANIFEST, ROOT, Project
from tests.workflow.project import PARENTS as LIGHT_PARENTS
from tests.workflow.project import SECTIONS as LIGHT_SECTIONS


def rule_text(name):
    return (ROOT / "rules" / f"{name}.smk").read_text()


@pytest.mark.parametrize("name", STAGES)
def test_a_rule_passes_what_its_stage_reads(name):
    stage = import_module(f"expportrait.stages.{name}").STAGE
    text = rule_text(name)
    passed = re.search(r"        settings=settings\(([^)]*)\)", text)[1].replace("*SECTIONS", ", ".join(SECTIONS))
    passed = set(passed.replace('"', "").split(", ")) - {"shards"}
    assert passed == (set(SECTIONS) if name == "report" else set(stage.sections))
    assert stage.version == version(name)
    assert stage.name == name and f'version=stage_version("{name}")' in text
    assert name == "report" or stage.sections == LIGHT_SECTIONS[name]
    if name in PER_CLIP:
        inputs = re.findall(r'^        (\w+)="<results>/(\w+)/\{shard\}.json",', text.partition("output:")[0], re.M)
        assert inputs == [(parent, parent) for parent in stage.parents]
        assert stage.parents == LIGHT_PARENTS[name]


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
    log = tmp_path / "plan.log"
    command = project.command("-n", "--config", "manifest=big.csv", "results=big")
    with log.open(
        "w"
    ) as out:  # wait4 tells this process's own memory; getrusage would tell the suite's largest child's
        process = subprocess.Popen(
            command, cwd=project.folder, env=project.environment(), stdout=out, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, log.read_text()[-2000:]
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", log.read_text(), re.MULTILINE))
    assert {rule: int(jobs[rule]) for rule in (*PER_CLIP, "report")} == dict.fromkeys(PER_CLIP, 512) | {"report": 1}
    assert used.ru_utime < 40, "CPU seconds; about 8 on an idle core"
    assert used.ru_maxrss < 1_000_000, "KiB; about 250 MiB"
