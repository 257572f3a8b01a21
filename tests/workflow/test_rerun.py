"""What re-runs when: the promises of docs/workflow.md."""

import pytest

PER_CLIP = ["crop", "landmarks", "geometry", "proxy", "control"]
CHANGES = {
    "demo": ("yaw: 10", ["demo", *PER_CLIP, "report"]),
    "head": ("subdivisions: 0", [*PER_CLIP[2:], "report"]),
    "crop": ("scale: 2.5", [*PER_CLIP, "report"]),
    "landmarks": ("max_gap: 3", [*PER_CLIP[1:], "report"]),
    "geometry": ("grid: 64", [*PER_CLIP[2:], "report"]),
    "proxy": ("batch: 5", ["proxy", "control", "report"]),
    "control": ("maps: [depth]", ["control", "report"]),
    "report": ("frames: 4", ["report"]),
}


def jobs(rules, shards):
    """Each per-clip rule runs once a shard; there is one demo clip and one report."""
    return {rule: 1 if rule in ("demo", "report") else shards for rule in rules}


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


def test_rows_reordered_or_spaced_or_with_another_column_rerun_nothing(project):
    lines = project.read("data_manifest.csv").splitlines()
    rows = [line.replace(",", " , ") for line in reversed(lines[1:])]
    project.write("data_manifest.csv", "\ufeff" + "\n".join([lines[0], "", *rows]) + "\n\n")
    assert project.plan() == {}


def test_who_is_in_a_clip_touches_the_report_alone(project):
    edit(project, lambda text: text.replace(",bob,test", ",bert,val"))
    assert project.plan() == {"report": 1}


def test_an_added_row_costs_one_clip_and_a_removed_one_nothing(project):
    before = project.read("data_manifest.csv")
    edit(project, lambda text: text + "new,films,elsewhere/new.mp4,me,test\n")
    assert project.plan() == jobs([*PER_CLIP, "report"], shards=1)
    project.run()
    assert project.work() == work(PER_CLIP, "new")
    project.write("data_manifest.csv", before)
    assert project.plan() == jobs([*PER_CLIP, "report"], shards=1)
    project.run("results/landmarks/films-0000.json")
    assert project.work() == []


def test_a_bumped_rev_recomputes_the_clip(project):
    edit(project, lambda text: text.replace("split\n", "split,rev\n").replace(",test\n", ",test,2\n"))
    assert project.plan() == jobs([*PER_CLIP, "report"], shards=1)
    project.run("results/landmarks/films-0000.json")
    assert project.work() == work(["crop", "landmarks"], "bob")


def test_other_shards_recompute_nothing(project):
    more = ["--config", "shards={films: 3}"]
    assert project.plan(*more) == jobs([*PER_CLIP, "report"], shards=2)
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
