"""What re-runs when: the promises of docs/workflow.md."""

import re
import shutil

import pytest

from tests.workflow.project import ROOT

HEAD = ["landmarks", "geometry", "proxy", "control", "carry"]
PER_CLIP = ["crop", *HEAD, "latents"]
TRAINED = ["transfer", "drive", "appearance", "generator", "reenact", "evaluate", "report"]
CHANGES = {
    "demo": ("yaw: 10", ["demo", *PER_CLIP, *TRAINED]),
    "head": ("subdivisions: 0", [*HEAD[1:], *TRAINED]),
    "crop": ("scale: 2.5", [*PER_CLIP, *TRAINED]),
    "landmarks": ("max_gap: 3", [*HEAD, *TRAINED]),
    "geometry": ("grid: 64", [*HEAD[1:], *TRAINED]),
    "proxy": ("batch: 5", ["proxy", "control", "carry", *TRAINED]),
    "control": ("maps: [depth]", ["control", "drive", "appearance", "generator", "reenact", "evaluate", "report"]),
    "latents": ("stride: 8", ["latents", "carry", "generator", "reenact", "evaluate", "report"]),
    "carry": ("portraits: 3", ["carry", "generator", "reenact", "evaluate", "report"]),
    "transfer": ("steps: 9", ["transfer", "drive", "appearance", "reenact", "evaluate", "report"]),
    "drive": ("pose: relative", ["drive", "appearance", "reenact", "evaluate", "report"]),
    "appearance": ("rim: 12", ["carry", "appearance", "generator", "reenact", "evaluate", "report"]),
    "generator": ("steps: 9", ["generator", "reenact", "evaluate", "report"]),
    "reenact": ("steps: 3", ["reenact", "evaluate", "report"]),
    "evaluate": ("stride: 2", ["evaluate", "report"]),
    "report": ("frames: 4", ["report"]),
    "split": ("min_seconds: 3", ["report"]),  # which shows all settings
}


def jobs(rules, shards):
    """Each per-clip rule runs once a shard; of the others there is one job each."""
    return {rule: shards if rule in PER_CLIP else 1 for rule in rules}


def work(stages, clip):
    return sorted(f"{stage} {clip}" for stage in stages)


def edit(project, change):
    project.write("data_manifest.csv", change(project.read("data_manifest.csv")))


def test_a_second_run_plans_nothing(finished):
    assert finished.plan() == {}


@pytest.mark.parametrize("section", CHANGES)
def test_a_setting_reruns_exactly_the_stages_that_read_it(finished, section, tmp_path):
    setting, rules = CHANGES[section]
    over = tmp_path / "over.yaml"
    over.write_text(f"{section}: {{{setting}}}")
    # the films have nothing to do with the demo's settings
    expected = jobs(rules, shards=1 if section == "demo" else 2)
    assert finished.plan("--configfile", str(over)) == expected


def test_writing_out_a_default_reruns_nothing(finished):
    assert finished.plan("--config", "crop={scale: '2.20'}", "shards={films: 1}") == {}


@pytest.mark.parametrize(("stage", "file", "number", "computed"), [
    ("proxy", "stages/__init__.py", r"^(PROXY, DRIVE = )(\d+)", ["proxy", "control"]),
    ("drive", "stages/__init__.py", r"^(PROXY, DRIVE = \d+, )(\d+)", ["drive", "drive/targets"]),
    ("geometry", "estimators/geometry/versions.py", r'("embedded": )(\d+)', ["geometry"]),
])  # fmt: skip
def test_a_bumped_version_reruns_the_stage_and_what_stands_on_it(project, stage, file, number, computed):
    edited = project.folder / "edited"
    shutil.copytree(ROOT / "src", edited, ignore=shutil.ignore_patterns("__pycache__"))
    project.use(edited)
    assert project.plan() == {}
    source = edited / "expportrait" / file
    text, numbers = re.subn(number, lambda old: f"{old[1]}{int(old[2]) + 1}", source.read_text(), flags=re.MULTILINE)
    assert numbers == 1
    source.write_text(text)
    assert project.plan() == jobs(CHANGES[stage][1], shards=2)
    project.run("--until", "control" if stage == "proxy" else stage)
    assert {line.split()[0] for line in project.work()} == set(computed)


def test_rows_reordered_or_spaced_or_with_another_column_rerun_nothing(project):
    lines = project.read("data_manifest.csv").splitlines()
    rows = [line.replace(",", " , ") for line in reversed(lines[1:])]
    project.write("data_manifest.csv", "\ufeff" + "\n".join([lines[0], "", *rows]) + "\n\n")
    assert project.plan() == {}


def test_who_is_in_a_clip_is_asked_by_the_transfer_and_the_report_alone(project):
    edit(project, lambda text: text.replace(",bob,test", ",bert,test"))
    assert project.plan() == jobs(["transfer", "drive", "appearance", "reenact", "evaluate", "report"], shards=0)
    project.run()
    assert project.work() == [], "nothing that was trained depends on it"


def test_a_clip_that_changes_the_split_trains_anew(project):
    edit(project, lambda text: text.replace(",ann,train", ",ann,val"))
    assert project.plan() == jobs(TRAINED, shards=0)
    project.run()
    assert [line.split()[0] for line in project.work()] == [
        "appearance",
        "appearance",
        "drive",
        "drive",
        "generator",
        "reenact",
        "reenact",
        "transfer",
    ]


def test_pairs_are_made_when_asked_for(project):
    project.write("pairs.csv", "target,driver\nbob,bob\nbob,hopper-talk\n")
    assert project.plan("--config", "pairs=pairs.csv") == {}, "what the manifest has by default, written out"
    project.write("pairs.csv", "target,driver\nbob,bob\nann,hopper-talk\n")
    project.run("--config", "pairs=pairs.csv")
    assert project.work() == [
        "appearance ann__hopper-talk",
        "drive ann__hopper-talk",
        "drive/targets ann",
        "reenact ann__hopper-talk",
    ]


def test_a_pairs_own_columns_concern_that_pair_alone(project):
    more, head = ["--config", "pairs=pairs.csv"], "target,driver,pair,gain_mouth,reference,pose_from\nbob,bob\n"
    project.write("pairs.csv", head + "bob,hopper-talk\nbob,hopper-talk,soft,0.5\nbob,bob,turned,,3,ann\n")
    project.run(*more)
    pairs = ["appearance", "drive", "reenact"]
    assert project.work() == sorted([*work(pairs, "soft"), *work(pairs, "turned"), "drive/targets bob@3"])
    assert project.plan(*more) == {}
    project.write("pairs.csv", head + "bob,hopper-talk\nbob,hopper-talk,soft,0.4\nbob,bob,turned,,3,ann\n")
    assert project.plan(*more) == jobs(["drive", "appearance", "reenact", "evaluate", "report"], shards=0)
    project.run(*more)
    assert project.work() == work(pairs, "soft")


def test_clips_that_a_motion_is_from_are_read_where_they_are(project):
    """bob's own shard has the films; hopper-talk is in the demo's."""
    for cells, there in (("bob,bob,hopper-talk", True), ("bob,bob,", False)):
        project.write("pairs.csv", f"target,driver,expression_from\n{cells}\n")
        text = project.run("-n", "--forceall", "--quiet", "host", "--until", "drive", "--config", "pairs=pairs.csv")
        (inputs,) = re.findall(r"^rule drive:\n *input: (.*)$", text, re.MULTILINE)
        for stage in ("proxy", "crop"):
            assert f"results/{stage}/films-0000.json" in inputs
            assert (f"results/{stage}/demo-0000.json" in inputs) == there


def test_a_wrong_cell_of_the_pairs_ends_a_plan_with_one_sentence(project):
    project.write("pairs.csv", "target,driver,gain_mouth\nbob,bob,loud\n")
    done = project.snakemake("-n", "--config", "pairs=pairs.csv")
    assert done.returncode and "pairs.csv, line 2, column gain_mouth: 'loud': input should be" in done.stdout
    assert "Traceback" not in done.stdout


def test_copied_offsets_need_no_transfer_module(project):
    plan = project.plan("--config", "drive={offsets: copy}", "transfer={steps: 9}", "--until", "reenact")
    assert plan == {"drive": 1, "appearance": 1, "reenact": 1}


def test_an_added_row_costs_one_clip_and_a_removed_one_nothing(project):
    before = project.read("data_manifest.csv")
    edit(project, lambda text: text + "new,films,elsewhere/new.mp4,me,val\n")
    assert project.plan() == jobs([*PER_CLIP, *TRAINED], shards=1)
    project.run()
    assert project.work() == work(PER_CLIP, "new")
    project.write("data_manifest.csv", before)
    assert project.plan() == jobs([*PER_CLIP, *TRAINED], shards=1)
    project.run("results/landmarks/films-0000.json")
    assert project.work() == []


def test_a_bumped_rev_recomputes_the_clip(project):
    edit(project, lambda text: text.replace("split\n", "split,rev\n").replace(",test\n", ",test,2\n"))
    assert project.plan() == jobs([*PER_CLIP, *TRAINED], shards=1)
    project.run("results/landmarks/films-0000.json")
    assert project.work() == work(["crop", "landmarks"], "bob")


def test_other_shards_recompute_nothing(project):
    more = ["--config", "shards={films: 3}"]
    assert project.plan(*more) == jobs([*PER_CLIP, *TRAINED], shards=2)
    project.run("results/landmarks/films-0000.json", "results/landmarks/films-0002.json", *more)
    assert project.work() == []


def test_another_place_of_the_manifest_reruns_nothing(project):
    project.write("same.csv", project.read("data_manifest.csv"))
    project.write("same.yaml", project.read("data_manifest.yaml"))
    assert project.plan("--config", "manifest=same.csv") == {}


def test_a_remade_demo_clip_is_cropped_again(project):
    project.run("results/crop/demo-0000.json", "--config", "demo={yaw: 10}")
    assert project.work() == work(["crop", "demo"], "hopper-talk")


def test_a_file_named_in_the_settings_counts_by_content(project):
    target = "results/geometry/films-0000.json"
    project.write("head.npz", "one")
    project.run(target, "--config", "head={file: head.npz}")
    assert project.work() == ["geometry ann", "geometry bob"]
    (project.folder / "head.npz").rename(project.folder / "moved.npz")
    project.run(target, "--config", "head={file: moved.npz}")
    assert project.work() == []
    project.write("moved.npz", "two")
    project.run(target, "--config", "head={file: moved.npz}")
    assert project.work() == ["geometry ann", "geometry bob"]


def test_a_damaged_store_is_remade(project):
    (project.folder / "results/crop/bob.zarr/x/c/0").unlink()
    assert project.plan() == {}
    project.run("results/crop/films-0000.json", "--forcerun", "crop")
    assert project.work() == ["crop bob"]
