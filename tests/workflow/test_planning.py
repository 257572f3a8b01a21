"""Plans of very many clips are affordable; Snakemake is used as it is, and of a version that is tested."""

import re
import subprocess
import sys
import tomllib

from packaging.requirements import Requirement

from expportrait.manifest.clips import read_manifest, shards
from expportrait.stages import PER_CLIP
from tests.workflow.project import CARRIED, MANIFEST, NO_FILES, ROOT, Project


def test_nothing_reaches_into_snakemake():
    """What is private there changes without notice; the workflow language and the command line are its interface."""
    sources = [*(ROOT / "src").rglob("*.py"), ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    reaching = re.compile(r"^\s*(import|from) snakemake\b", re.MULTILINE)
    assert len(sources) > 100 and [str(file) for file in sources if reaching.search(file.read_text())] == []


def test_the_snakemake_that_is_tested_is_the_newest_that_is_taken():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (taken,) = (need for need in map(Requirement, project["dependencies"]) if need.name == "snakemake")
    tested = re.search(r"^snakemake==(\d+)\.(\d+)\.(\d+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    major, minor, patch = map(int, tested.groups())
    assert taken.specifier.contains(f"{major}.{minor}.{patch}")
    assert not taken.specifier.contains(f"{major}.{minor + 1}.0") and not taken.specifier.contains(f"{major + 1}.0.0")


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
    project.write("big.yaml", NO_FILES + CARRIED + more)
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
