"""Every line of a code block in README.md and docs/workflow.md is taken from the page and run in a scratch checkout."""

import re

import pytest

from expportrait.stages import STAGES
from tests.animate.made import untrained
from tests.report.fabricate import make_clip
from tests.workflow.typed import ALL, Checkout, command, lines

PAGES = ("README.md", "docs/workflow.md")
NOT_RUN = re.compile(r"make test(-\w+)?|.*[─│].*")  # what runs these tests; the picture of the pipeline
# A line as it stands on the page, its comment left out: what is put for what before it is run. ALL stands for the line.
ANIMATE = (
    "expportrait animate --portrait data/demo/hopper-talk.mp4 --driver data/demo/astronaut-smile.mp4 --out film.mp4"
)
QUICK = " ".join(
    f"--set {name}"
    for name in (
        "crop.size=256",
        "crop.min_face=10",
        "proxy.rigid_steps=20",
        "proxy.landmark_steps=20",
        "proxy.coarse_passes=1",
    )
)
RUNS = {
    "make demo": {"make": "make -n"},
    "source .venv/bin/activate": {},
    ANIMATE: {
        "data/demo/hopper-talk.mp4": "videos/anna.mp4",
        "data/demo/astronaut-smile.mp4": f"videos/anna.mp4 {QUICK}",
    },
    f"{ANIMATE} --generator results/generator --expression 1.3": {
        "data/demo/hopper-talk.mp4": "videos/anna.mp4",
        "data/demo/astronaut-smile.mp4": f"videos/anna.mp4 {QUICK}",
        "results/generator": "trained",
    },
    "expportrait import folder /videos --out my.csv": {"/videos": "videos"},
    "expportrait import split /films --out my.csv": {
        "/films": "videos --min-seconds .3 --min-face 60",
        "my.csv": "cut.csv",
    },
    "echo 'geometry: {estimator: embedded}' > my.yaml": {},
    "snakemake --config manifest=my.csv results=/data/run1 --until control": {"/data": "data", "control": "control -n"},
    "expportrait show proxy anna-01 --manifest my.csv --results /data/run1": {"anna-01": "anna", "/data": "made"},
    "expportrait people --manifest my.csv --results /data/run1": {
        "expportrait": "expportrait crop --manifest my.csv --results people/run1 && expportrait",
        "/data": "people",
    },
    "clip,dataset,source": {ALL: r"echo '\g<0>' > hand.csv"},
    "anna-01,mine,/videos/anna.mp4": {
        ALL: r"echo '\g<0>' >> hand.csv && snakemake -n --until crop --config manifest=hand.csv results=hand",
        "/videos": "videos",
    },
    "snakemake --config manifest=my.csv results=/data/run1": {"/data/run1": "data/run1 'latents={codec: linear}' -n"},
    "snakemake -n": {},
    "snakemake -n --quiet host": {},
    "snakemake results/landmarks/hdtf-0003.json": {"hdtf-0003": "films-0000"},
    "snakemake --until control": {"control": "control -n"},
    "expportrait retry --stage crop && snakemake": {},
    "snakemake --workflow-profile profiles/slurm --config manifest=my.csv results=/data/run1": {
        "/data": "slurm",
        "--config": "--until crop --slurm-init-seconds-before-status-checks 1 --config",
    },
    "snakemake --workflow-profile profiles/kubernetes --config manifest=my.csv results=/data/run1": {
        "/data": "kubernetes",
        "--config": "--until crop --seconds-between-status-checks 1 --config",
    },
    "expportrait crop --help": {},
    "expportrait crop --manifest my.csv --results /data/run1": {"/data": "direct"},
    "expportrait proxy --clip Radio11_0 --set proxy.batch=8": {
        "Radio11_0": "anna --manifest my.csv --results direct/run1",
    },
    "expportrait control --shard hdtf-0003 --device cuda": {"hdtf-0003": "films-0000", "cuda": "cpu"},
}
# For the long check: these lines with all that they compute.
WHOLE = {
    "expportrait people --manifest my.csv --results /data/run1": {"/data": "data"},
    "snakemake --config manifest=my.csv results=/data/run1 --until control": {"/data": "data"},
    "expportrait show proxy anna-01 --manifest my.csv --results /data/run1": {"anna-01": "anna", "/data": "data"},
    "expportrait proxy --clip Radio11_0 --set proxy.batch=8": {
        "Radio11_0": "anna --manifest my.csv --results data/run1",
    },
}


@pytest.fixture(scope="module")
def checkout(finished, tmp_path_factory):
    """With light stages behind Snakemake, finished on its own manifest. Lines are run in the pages' order."""
    checkout = Checkout(finished.copy(tmp_path_factory.mktemp("checkout")))
    checkout.stand_in("kubectl.py", "kubectl")
    checkout.stand_in("slurm.py", "sbatch", "srun", "squeue", "sacct", "sacctmgr")
    make_clip(checkout.folder / "made" / "run1", "anna", frames=2)
    untrained(checkout.folder / "trained")
    return checkout


@pytest.mark.parametrize("page", PAGES)
def test_the_table_knows_every_line(page):
    unknown = [line for line in lines(page) if line not in RUNS and not NOT_RUN.fullmatch(line)]
    assert not unknown, f"{page}: say in RUNS how these lines are to be run"


def test_the_table_has_no_lines_that_no_page_has():
    assert {*RUNS} | {*WHOLE} <= {line for page in PAGES for line in lines(page)}


def test_the_picture_of_the_pipeline_shows_all_stages():
    picture = "\n".join(line for line in lines("README.md") if re.search("[─│]", line))
    assert {*STAGES} | {"demo"} <= {*re.findall(r"[a-z]+", picture)}


@pytest.mark.slow
def test_lines_do_what_the_pages_say(checkout):
    for line in (line for page in PAGES for line in lines(page)):
        if not NOT_RUN.fullmatch(line):
            checkout.run(command(line, RUNS))
    for place in ("slurm", "kubernetes"):
        assert [*(checkout.folder / place / "run1" / "crop").glob("*.json")], "jobs ran where the line says"
    assert (checkout.folder / "bin" / "jobs" / "1").read_text().startswith("COMPLETED")
    assert [*(checkout.folder / "bin" / "cluster").iterdir()], "jobs went through kubectl"


@pytest.mark.long
def test_own_videos_as_the_readme_says_to_the_end(tmp_path):
    checkout = Checkout.whole(tmp_path)
    own = lines("README.md")
    start, end = own.index("source .venv/bin/activate"), own.index("clip,dataset,source")
    for line in [*own[start:end], "expportrait proxy --clip Radio11_0 --set proxy.batch=8"]:
        said = checkout.run(command(line, RUNS | WHOLE))
    assert "1 ok, 0 failed, 0 skipped, 1 computed" in said
    for stage in ("crop", "landmarks", "geometry", "proxy", "control"):
        assert (tmp_path / "data/run1" / stage / "anna.zarr").is_dir(), stage
    assert not (tmp_path / "data/run1/latents").exists()
    assert {file.suffix for file in (tmp_path / "data/run1/show").iterdir()} == {".mp4", ".glb"}
