"""What re-runs when: the promises of docs/workflow.md."""

import pytest

from expportrait.manifest import Row, shards

PER_CLIP = ["crop", "landmarks", "geometry", "proxy", "control"]
CHANGES = {
    "demo": ("yaw: 10", ["demo", *PER_CLIP, "report"]),
    "head": ("subdivisions: 0", ["demo", *PER_CLIP, "report"]),
    "crop": ("scale: 2.5", [*PER_CLIP, "report"]),
    "landmarks": ("max_gap: 3", [*PER_CLIP[1:], "report"]),
    "geometry": ("grid: 64", [*PER_CLIP[2:], "report"]),
    "proxy": ("batch: 5", ["proxy", "control", "report"]),
    "control": ("maps: [depth]", ["control", "report"]),
    "report": ("frames: 4", ["report"]),
}


def jobs(rules, each=3):
    return {rule: 1 if rule == "report" else each for rule in rules}


def neighbour(project, clip="hopper-talk"):
    """A clip id that falls into the same shard as ``clip``."""

    def shard(name):
        return [*shards([Row(name, "demo", "", None)], {"demo": 6})][0]  # fmt: skip

    return next(name for name in map("new{}".format, range(1000)) if shard(name) == shard(clip))


def edit(project, change):
    project.write("data_manifest.csv", change(project.read("data_manifest.csv")))


def test_a_second_run_plans_nothing(finished):
    assert finished.plan() == {}


@pytest.mark.parametrize("section", CHANGES)
def test_a_setting_reruns_exactly_the_stages_that_read_it(finished, section, tmp_path):
    setting, rules = CHANGES[section]
    over = tmp_path / "over.yaml"
    over.write_text(f"{section}: {{{setting}}}")
    assert finished.plan("--configfile", str(over)) == jobs(rules)


def test_writing_out_a_default_reruns_nothing(finished):
    assert finished.plan("--config", "crop={scale: '2.20'}", "shards={demo: 6}") == {}


def test_rows_reordered_or_spaced_or_with_another_column_rerun_nothing(project):
    lines = project.read("data_manifest.csv").splitlines()
    rows = [line.replace(",", " , ") for line in reversed(lines[1:])]
    project.write("data_manifest.csv", "\ufeff" + "\n".join([lines[0], "", *rows]) + "\n\n")
    assert project.plan() == {}


def test_who_is_in_a_clip_and_notes_on_it_touch_the_report_alone(project):
    edit(project, lambda text: text.replace(",hopper,train", ",grace,val"))
    assert project.plan() == {"report": 1}


def test_an_added_row_costs_one_clip_and_a_removed_one_nothing(project):
    before = project.read("data_manifest.csv")
    new = neighbour(project)
    edit(project, lambda text: text + f"{new},demo,elsewhere/{new}.mp4,me,test\n")
    assert project.plan() == jobs([*PER_CLIP, "report"], each=1)
    project.run()
    assert project.work() == sorted(f"{stage} {new}" for stage in PER_CLIP)
    project.write("data_manifest.csv", before)
    assert project.plan() == jobs([*PER_CLIP, "report"], each=1)
    project.run()
    assert project.work() == []


def test_a_bumped_rev_recomputes_the_clip(project):
    edit(project, lambda text: "\n".join(line + ("," if i else ",rev") for i, line in enumerate(text.splitlines())))
    assert project.plan() == {}
    edit(project, lambda text: text.replace("hopper,train,", "hopper,train,2"))
    assert project.plan() == jobs([*PER_CLIP, "report"], each=1)
    project.run()
    assert project.work() == sorted(f"{stage} hopper-talk" for stage in PER_CLIP)


def test_other_shards_recompute_nothing(project):
    project.run("--config", "shards={demo: 2}")
    assert project.work() == []


def test_another_place_of_the_manifest_reruns_nothing(project):
    project.write("same.csv", project.read("data_manifest.csv"))
    project.write("same.yaml", project.read("data_manifest.yaml"))
    assert project.plan("--config", "manifest=same.csv") == {}


def test_a_remade_source_is_cropped_again(project):
    (project.folder / "data/demo/hopper-talk.mp4").unlink()
    over = ["--config", "demo={yaw: 10}"]
    project.run(*over)
    assert len(project.work()) == 3 * (1 + len(PER_CLIP))
    assert project.plan(*over) == {}


def test_a_file_named_in_the_settings_counts_by_content(project):
    project.write("head.npz", "one")
    over = ["--config", "head={file: head.npz}"]
    assert project.plan(*over) == jobs(["demo", *PER_CLIP, "report"])
    project.run(*over)
    project.work()
    project.write("moved.npz", "one")
    project.run("--config", "head={file: moved.npz}")
    # the demo is a rule of its own, so it runs; its key is the same, so nothing follows
    assert [line for line in project.work() if not line.startswith("demo")] == []
    project.write("moved.npz", "two")
    project.run("--config", "head={file: moved.npz}")
    assert len(project.work()) == 3 * (1 + len(PER_CLIP))


def test_a_damaged_store_is_remade(project):
    (project.folder / "results/crop/hopper-talk.zarr/x/c/0").unlink()
    assert project.plan() == {}
    project.run("--forcerun", "crop")
    assert project.work() == ["crop hopper-talk"]
