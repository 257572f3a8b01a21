"""Plans of very many clips: affordable, and the same as without the shortcuts."""

import inspect
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake import common, jobs, rules
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.settings.enums import Quietness

from expportrait.manifest.clips import read_manifest, shards
from expportrait.planning import lighten
from expportrait.stages import PER_CLIP
from tests.workflow.project import MANIFEST, NO_FILES, Project


@pytest.fixture
def described(monkeypatch):
    """Snakemake as it is installed, lightened; the jobs that it describes."""
    made = []
    monkeypatch.setattr(common, "get_function_params", common.get_function_params)
    monkeypatch.setattr(rules, "get_function_params", rules.get_function_params)
    assert callable(jobs.Job.log_info)
    monkeypatch.setattr(jobs.Job, "log_info", lambda job, **options: made.append(options))
    monkeypatch.setattr(JobScheduler, "_free_resources", lambda scheduler, job: made.append(job))
    assert isinstance(jobs.Job.conda_env_spec, property)
    monkeypatch.setattr(jobs.Job, "conda_env_spec", property(lambda job: made.append(job)))
    lighten()
    lighten()
    return made


@pytest.mark.parametrize(
    "dryrun, quiet, shown",
    [(True, {Quietness.HOST, Quietness.RULES}, False), (True, {Quietness.HOST}, True), (True, None, True),
     (False, {Quietness.HOST, Quietness.RULES}, True)],
)  # fmt: skip
def test_only_jobs_that_a_plan_does_not_show_are_not_described(described, dryrun, quiet, shown):
    workflow = SimpleNamespace(dryrun=dryrun, output_settings=SimpleNamespace(quiet=quiet))
    jobs.Job.log_info(SimpleNamespace(dag=SimpleNamespace(workflow=workflow)), indent=True)
    assert described == [{"indent": True}] * shown


def test_a_functions_parameters_are_looked_up_once(described, monkeypatch):
    asked = []
    signature = inspect.signature
    monkeypatch.setattr(inspect, "signature", lambda function: asked.append(function) or signature(function))

    def rows(wildcards, input):
        return wildcards, input

    for _ in range(3):
        assert common.get_input_function_aux_params(rows, {"input": 1, "threads": 2}) == {"input": 1}
        assert [*rules.get_function_params(rows)] == ["wildcards", "input"]
    assert asked == [rows]


@pytest.mark.parametrize(("dryrun", "freed"), [(True, ["crop 1", "proxy 1"]), (False, ["crop 1", "proxy 1", "crop 2"])])
def test_a_dry_run_works_out_the_resources_of_one_job_a_rule(described, dryrun, freed):
    scheduler = SimpleNamespace(dryrun=dryrun)
    for job in ("crop 1", "proxy 1", "crop 2"):
        JobScheduler._free_resources(scheduler, SimpleNamespace(rule=job.split()[0], name=job))
    assert [job.name for job in described] == freed


def test_a_conda_environment_that_is_known_is_not_asked_for_again(described):
    class Spec:
        def apply_wildcards(self): ...

    known, unknown = (SimpleNamespace(rule=SimpleNamespace(_expanded_conda_env=env)) for env in (Spec(), object()))
    assert isinstance(jobs.Job.conda_env_spec.fget(known), Spec) and not described
    assert jobs.Job.conda_env_spec.fget(unknown) is None and described == [unknown]


def plan(project, *arguments):
    """What a plan prints; CPU seconds and KiB that it took."""
    # A process starts with its parent's peak memory, so the plan is started by a small one and not by the whole suite.
    start = (
        "import resource, subprocess, sys; status = subprocess.run(sys.argv[1:]).returncode; "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print('used', used.ru_utime, used.ru_maxrss); "
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", start, *project.command(*arguments, "--config", "manifest=big.csv", "results=big")]
    done = subprocess.run(command, cwd=project.folder, env=project.environment(), text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout, *map(float, re.search(r"^used ([\d.]+) ([\d.]+)$", done.stdout, re.MULTILINE).groups())


def counted(text):
    """Rule -> jobs."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}


def big(folder, more=""):
    project = Project.create(folder)
    rows = [f"clip{i},{('vfhq', 'celebv')[i % 2]},videos/{i}.mp4,p{i},train\n" for i in range(36000)]
    project.write("big.csv", MANIFEST.splitlines(keepends=True)[0] + "".join(rows))
    project.write("big.yaml", NO_FILES + more)
    return project


def test_36000_clips_plan_in_seconds(tmp_path):
    text, seconds, kibibytes = plan(big(tmp_path), "-n")
    found = counted(text)
    assert {rule: found[rule] for rule in (*PER_CLIP, "report")} == dict.fromkeys(PER_CLIP, 256) | {"report": 1}
    assert seconds < 35, "CPU seconds; about 4 to 5 on an idle core"
    assert kibibytes < 1_000_000, "about 185 MiB"


def test_36000_clips_that_are_done_plan_in_seconds_too(tmp_path):
    cut = {"vfhq": 2, "celebv": 2}  # larger shards: to write its records, Snakemake takes long for each job
    project = big(tmp_path, f"shards: {cut}\n")
    parts = shards(read_manifest(project.folder / "big.csv"), cut)
    files = [f"{stage}/{shard}.json" for stage in PER_CLIP for shard in parts]
    for file in (*files, "transfer/index.json", "generator/index.json", "evaluate/table.json", "report/index.html"):
        project.write(f"big/{file}", "{}")
    plan(project, "--touch", "--forceall", "--cores", "1")
    text, seconds, kibibytes = plan(project, "-n")
    assert "Nothing to be done" in text and seconds < 15 and kibibytes < 1_000_000, "about 2.7 CPU s, 160 MiB"
    project.write("over.yaml", "proxy: {batch: 5}")
    text, seconds, kibibytes = plan(project, "-n", "--configfile", "over.yaml")
    ran = counted(text)
    assert (ran["proxy"], ran["control"], ran["transfer"]) == (4, 4, 1) and "geometry" not in ran
    assert seconds < 15 and kibibytes < 1_000_000
