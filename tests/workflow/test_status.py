"""What ``status`` says, against what runs do; ``retry``, ``prune``, ``watch``."""

import json
import os
import shutil
import time
from collections import Counter
from dataclasses import replace

import pytest
import typer

from expportrait.engine.heartbeat import Heartbeat, at_work, training
from expportrait.engine.loop import run
from expportrait.errors import MachineFault, UserError
from expportrait.estimators.geometry.versions import VERSIONS
from expportrait.options import configuration
from expportrait.stages import PER_CLIP, PER_PAIR, PIPELINE
from expportrait.status import commands
from expportrait.status.survey import survey
from expportrait.status.text import general, plan, table, todo
from expportrait.store import StoreError
from tests.workflow.light import measure

TRAINED = {"transfer", "drive/targets", "drive", "appearance", "generator", "reenact", "evaluate"}
LANDMARKS = "results/landmarks/films-0000.json"


def look(project, *sets, deep=False, pairs=None):
    folder = project.folder
    return survey(configuration(folder / "data_manifest.csv", folder / "results", None, [*sets], pairs), deep)


@pytest.fixture
def say(project, capsys):
    """A command's output."""

    def command(name, **options):
        given = {"manifest": project.folder / "data_manifest.csv", "results": project.folder / "results"}
        getattr(commands, name)(**given | options)
        return capsys.readouterr().out

    return command


def add(project, name="new"):
    project.write(
        "data_manifest.csv", project.read("data_manifest.csv") + f"{name},films,films/{name}.mp4,{name},train\n"
    )


def fail(project, clip, why="no face in films/bob.mp4: 3 of 60 frames"):
    """As if landmarks had refused the clip, with the key that it has."""
    index = json.loads(project.read(LANDMARKS))
    index[clip] |= {"status": "failed", "why": why}
    project.write(LANDMARKS, json.dumps(index))
    project.write(f"results/landmarks/{clip}.failed.json", json.dumps(index[clip]))


def test_a_finished_run_has_nothing_to_do(finished):
    seen = look(finished, deep=True)
    assert [*seen.stages] == [name for name in PIPELINE if name not in ("demo", "report")]
    assert {cell.status for cells in seen.cells.values() for cell in cells.values()} == {"ok"}
    assert plan(seen) == "A run would compute nothing."


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("crop.scale=2.5", {*PER_CLIP, *TRAINED}),
        ("proxy.batch=5", {"proxy", "control", "carry", *TRAINED}),
        ("drive.pose=relative", {"drive", "appearance", "reenact", "evaluate"}),
        ("drive.offsets=copy", {"drive", "appearance", "reenact", "evaluate"}),
        ("generator.steps=9", {"generator", "reenact", "evaluate"}),
        ("generator.save_every=9", set()),
        ("generator.micro=2", set()),
        ("report.size=99", set()),
    ],
)
def test_stale_is_what_a_changed_setting_makes_stale(finished, change, stages):
    seen = look(finished, change)
    assert {stage for stage, _, _ in seen.having("stale")} == stages == {*todo(seen)}


def test_what_is_said_is_what_a_run_does(project):
    add(project)
    said = todo(look(project))
    assert {stage: said[stage] for stage in (*PER_CLIP, "transfer")} == dict.fromkeys((*PER_CLIP, "transfer"), 1)
    project.run()
    done = Counter(line.split()[0] for line in project.work())
    del said["evaluate"]  # its work is not written down
    assert done == said and todo(look(project)) == {}


def test_failures_reach_their_children_and_are_tried_again_when_asked(project, say):
    fail(project, "bob")
    seen = look(project)
    assert seen.cells["landmarks"]["bob"].status == "failed"
    assert seen.cells["proxy"]["bob"] == ("skipped", None, "landmarks: no face in films/bob.mp4: 3 of 60 frames",
                                          seen.cells["proxy"]["bob"].found)  # fmt: skip
    text = say("status")
    assert "no face in films/bob.mp4: 3 of 60 frames" in text and "bob" in text
    assert say("retry", reason="too small").startswith("No failure is like that")
    assert say("retry", reason="NO FACE", dry_run=True) == "landmarks 1 would be tried again\n"
    assert (project.folder / "results/landmarks/bob.failed.json").exists()
    assert (
        say("retry", reason="NO FACE", clip=["bob"]) == "landmarks 1 will be tried again by the next run: snakemake\n"
    )
    assert not (project.folder / "results/landmarks/bob.failed.json").exists()
    (project.folder / "results/landmarks/bob.zarr/zarr.json").unlink()  # there is none where a clip failed
    project.run(LANDMARKS)
    assert project.work() == ["landmarks bob"] and todo(look(project)) == {}


def test_a_pair_that_evaluate_gave_up_is_failed_and_tried_again_when_asked(project, say):
    pairs = project.folder / "results/evaluate/pairs"
    pair, other = (row.clip for row in look(project).pairs[:2])
    key = json.loads((pairs / f"{pair}.json").read_text())["key"]
    failure = {"status": "failed", "key": key, "why": "there is nothing to measure"}
    (pairs / f"{pair}.failed.json").write_text(json.dumps(failure))
    assert look(project).cells["evaluate"][pair] == ("failed", key, "there is nothing to measure", key)
    assert "there is nothing to measure" in say("status") and todo(look(project)) == {}
    assert say("retry", stage=["evaluate"]) == "evaluate 1 will be tried again by the next run: snakemake\n"
    assert not [*pairs.glob(f"{pair}.*")] and (pairs / f"{other}.json").exists()
    assert todo(look(project)) == {"evaluate": 1} and project.plan() == {"evaluate": 1, "report": 1}


@pytest.mark.parametrize("options", [{}, {"stage": ["landmark"], "everything": True}])
def test_retry_wants_to_know_what(say, options):
    with pytest.raises(UserError, match=r"say which failures|there is no stage 'landmark'"):
        say("retry", **options)


def test_one_clips_story(project, say):
    fail(project, "ann", "too dark")
    text = say("status", clip="ann", sets=["crop.scale=2.5"])
    assert "because crop.scale was 2.2 and is 2.5" in text and "results/logs/crop/films-0000.log" in text
    assert "pairs with it: bob__bob, bob__" in say("status", clip="bob")
    assert "landmarks: failed, too dark" in say("status", clip="ann") and "quality" not in say("status", clip="ann")
    record = project.folder / "results/landmarks/ann.failed.json"
    figures = {"found": 0.5, "yaw": [-70.25, 3.0], "turned": {"yaw": 40.0, "pitch": 9.5}, "longest_gap": 12}
    record.write_text(json.dumps(json.loads(record.read_text()) | {"quality": figures}))
    told = "quality found 0.5, yaw -70.2 to 3, turned (yaw 40, pitch 9.5), longest_gap 12"
    assert f"ann.failed.json\n    {told}\n" in say("status", clip="ann")
    chunk = project.folder / "results/crop/bob.zarr/x/c/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    assert "DAMAGED" in say("status", clip="bob") and say("retry", clip=["ann"], dry_run=True).startswith(
        "landmarks 1 "
    )
    assert say("retry", clip=["bob"]) == "crop 1 will be tried again by the next run: snakemake\n"
    project.run("results/crop/films-0000.json")
    assert project.work() == ["crop bob"] and "DAMAGED" not in say("status", clip="bob")
    with pytest.raises(UserError, match="has no clip 'an'; did you mean 'ann'"):
        say("status", clip="an")


def test_settings_that_a_store_did_not_know_yet_are_no_change(project, say):
    header = project.folder / "results/proxy/ann.zarr/zarr.json"
    data = json.loads(header.read_text())
    del data["attributes"]["settings"]["proxy"]["max_aside"]
    header.write_text(json.dumps(data))
    assert "max_aside" not in say("status", clip="ann")
    assert "because proxy.max_aside was 0.8 and is 0.5" in say("status", clip="ann", sets=["proxy.max_aside=0.5"])


def test_an_estimator_of_another_version_is_named(project, say, monkeypatch):
    header = project.folder / "results/geometry/ann.zarr/zarr.json"
    data = json.loads(header.read_text())
    data["attributes"]["estimator_version"] = 3
    header.write_text(json.dumps(data))
    monkeypatch.setitem(VERSIONS, "embedded", 98)
    assert "because the estimator's version was 3 and is 98" in say("status", clip="ann")


def test_what_a_run_has_spent(project, say):
    text = say("status", cost=True)
    rows = {tuple(line.split()[:3]): line.split()[3] for line in text.splitlines() if " cpu " in line}
    assert rows["crop", "films", "cpu"] == "2" and rows["crop", "demo", "cpu"] == "1"
    assert (
        rows["reenact", "pairs", "cpu"] == str(len(look(project).pairs)) and ("drive/targets", "films", "cpu") in rows
    )
    project.run("--forceall")
    assert say("status", cost=True) == text, "jobs that computed nothing have spent nothing"
    for file in project.folder.glob("results/*/*.costs.jsonl"):
        with file.open("a") as bill:
            bill.write("\n")
    assert project.plan() == {}, "bills make nothing run"


def test_deep_sees_stores_that_are_gone(project, say):
    (project.folder / "results/crop/bob.zarr/x/c/0").unlink()
    assert todo(look(project)) == {} and todo(look(project, deep=True)) == {"crop": 1}
    assert say("retry", deep=True) == "crop 1 will be tried again by the next run: snakemake\n"
    project.run("results/crop/films-0000.json")
    assert project.work() == ["crop bob"]
    shutil.rmtree(project.folder / "results/crop/bob.zarr")
    assert say("retry", deep=True, dry_run=True) == "crop 1 would be tried again\n"


def test_deep_reads_every_array_and_retry_agrees(project, say, capsys):
    for name in ("crop/bob", "control/ann"):
        chunk = project.folder / "results" / f"{name}.zarr/x/c/0"
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 1
        chunk.write_bytes(data)
    assert todo(look(project)) == {}
    text = say("status", deep=True)
    lines = [line.split()[:2] for line in text.partition("Damaged or lost")[2].splitlines()[2:4]]
    assert lines == [["crop", "bob"], ["control", "ann"]] and "'x' has changed since it was written" in text
    told = json.loads(say("status", deep=True, as_json=True))
    assert [(found["stage"], found["clip"]) for found in told["damaged"]] == [("crop", "bob"), ("control", "ann")]
    assert "Damaged" not in say("status") and "crop" not in say("status", deep=True, stage=["control"]).split("lost")[1]
    assert say("retry", deep=True, stage=["crop"], dry_run=True) == "crop 1 would be tried again\n"
    assert say("retry", deep=True) == "crop 1, control 1 will be tried again by the next run: snakemake\n"
    project.run("results/crop/films-0000.json", "results/control/films-0000.json")
    assert project.work() == ["control ann", "crop bob"] and "Damaged" not in say("status", deep=True)


def test_a_machine_that_cannot_read_finds_no_damage(project, say, monkeypatch):
    def fails(store):
        raise StoreError("x cannot be read", store.path) from OSError(5, "Input/output error")

    monkeypatch.setattr("expportrait.status.survey.verify", fails)
    with pytest.raises(MachineFault, match=r"results/crop/\w+\.zarr cannot be read: OSError: \[Errno 5\]"):
        say("retry", deep=True)


def test_coefficient_files_of_a_tracker_count_for_evaluate(project, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("tracks")
    told = "evaluate.tracker=smirk", f"evaluate.tracks={tmp_path}"
    missing = look(project, *told).cells["evaluate"]["bob__bob"]
    assert missing.status == "failed" and "has neither bob.npz nor bob.mat" in missing.why
    for name in ("ann", "bob", "bob__bob", "bob__ann", "hopper-talk"):
        (tmp_path / f"{name}.npz").write_text(name)
    seen = look(project, *told)
    index = run(replace(PIPELINE["evaluate"], process=measure), seen.pairs, seen.config)
    assert {name: cell.key for name, cell in seen.cells["evaluate"].items()} == {
        name: outcome.key for name, outcome in index.items()
    }
    assert {outcome.status for outcome in index.values()} == {"ok"}


def test_what_is_not_needed_is_counted_apart_and_not_tried_again(project, say):
    home, key = "results/latents", look(project).cells["latents"]["bob"].key
    index = json.loads(project.read(f"{home}/films-0000.json"))
    line = {"status": "skipped", "key": key, "why": "not needed: the clip is a single picture"}
    project.write(f"{home}/films-0000.json", json.dumps(index | {"bob": line}))
    seen = look(project)
    assert seen.counts("latents") == {"ok": 2, "not needed": 1} and plan(seen) == "A run would compute nothing."
    text = say("status")
    head, latents = (next(line for line in text.splitlines() if line.startswith(name)) for name in ("stage", "latents"))
    assert head.split() == ["stage", "ok", "failed", "skipped", "stale", "missing", "not", "needed"]
    assert latents.split() == ["latents", "2", "0", "0", "0", "0", "1"]
    assert "Failed:" not in text and "not needed: the clip is a single picture  bob" in text
    told = json.loads(say("status", as_json=True))
    assert told["stages"]["latents"]["skipped"] == 0 and told["failed"] == []
    assert [(one["stage"], one["clips"], one["such_as"]) for one in told["not_needed"]] == [("latents", 1, "bob")]
    assert "No failure is like that" in say("retry", everything=True)


def test_json(project, say):
    fail(project, "bob")
    told = json.loads(say("status", as_json=True))
    assert told["stages"]["landmarks"] == {"ok": 2, "failed": 1, "skipped": 0, "stale": 0, "missing": 0}
    assert told["not_ok"]["bob"]["control"]["status"] == "skipped"


def test_prune_takes_what_no_row_needs_and_nothing_else(project, say):
    folder, results = project.folder, project.folder / "results"
    lines = project.read("data_manifest.csv").splitlines(keepends=True)
    project.write("data_manifest.csv", "".join(line for line in lines if not line.startswith("hopper")))
    old, new = results / "crop/.ann.zarr.node.1.tmp", results / "crop/.bob.zarr.node.1.tmp"
    work = [results / f"generator/work-{digit * 32}" for digit in "ab"]
    for path in (old, new, *work, results / "mine/hopper-talk.zarr", results / "report/media/hopper-talk"):
        path.mkdir(parents=True)
    for path in (old, work[0]):
        os.utime(path, (0, time.time() - 2 * 86400))
    (results / "crop/link.zarr").symlink_to(folder / "src")
    before = {*folder.rglob("*")}
    text = say("prune", dry_run=True)
    assert "no clip of the manifest" in text and "generator/work-a" in text and before == {*folder.rglob("*")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer, "confirm", lambda *_, **__: (_ for _ in ()).throw(typer.Abort))
        with pytest.raises(typer.Abort):
            say("prune")
    assert before == {*folder.rglob("*")}
    say("prune", yes=True)
    gone = {path for path in before if not os.path.lexists(path)}
    tops = {str(path.relative_to(results)) for path in gone if path.parent not in gone}
    clip = {
        f"{stage}/{name}"
        for stage in PER_CLIP
        for name in ("hopper-talk.zarr", "demo-0000.json", "demo-0000.costs.jsonl")
    }
    pair = {f"{stage}/bob__hopper-talk.zarr" for stage in PER_PAIR} | {"evaluate/pairs/bob__hopper-talk.json"}
    rest = {"crop/.ann.zarr.node.1.tmp", f"generator/{work[0].name}", "report/media/hopper-talk"}
    assert tops == clip | pair | rest
    assert say("prune", yes=True).startswith("Nothing in")


@pytest.mark.parametrize("drivers", [("talk.side",), ("talk", "talk.side")])
def test_prune_tells_the_files_of_pairs_with_like_names_apart(project, say, drivers):
    for name in ("talk", "talk.side", "talk.failed"):
        add(project, name)
    project.write("pairs.csv", "".join(f"{line}\n" for line in ("target,driver", *(f"bob,{d}" for d in drivers))))
    options = {"pairs": project.folder / "pairs.csv", "yes": True}
    say("prune", **options)
    wanted = {pair.clip for pair in look(project, pairs=options["pairs"]).pairs}
    assert len(wanted) == len(drivers)
    files = {f"reenact/{pair}{end}" for pair in wanted for end in (".zarr", ".mp4", ".side.mp4", ".failed.json")}
    files |= {f"evaluate/pairs/{pair}.json" for pair in wanted}
    others = {"reenact/bob__talk.failed.mp4", "reenact/bob__ann.side.mp4", "evaluate/pairs/bob__talk.failed.zarr.json"}
    for name in files | others:
        project.write(f"results/{name}", "x")
    say("prune", **options)
    left = {str(path.relative_to(project.folder / "results")) for home in ("reenact", "evaluate/pairs")
            for path in (project.folder / "results" / home).iterdir()}  # fmt: skip
    assert left - {"reenact/pairs-0000.json"} == files


def test_prune_takes_stale_stores_only_when_asked(project, say):
    assert say("prune", sets=["control.maps=[depth]"], yes=True).startswith("Nothing in")
    say("prune", sets=["control.maps=[depth]"], stale=True, yes=True)
    assert not list(project.folder.glob("results/control/*.zarr"))
    assert len(list(project.folder.glob("results/proxy/*.zarr"))) == 3


def test_prune_sees_the_targets_heads_of_another_setting(project, say):
    homes = project.folder / "results/drive/targets"
    heads = {path.name for path in homes.glob("*.zarr")}
    now = ["drive.target_proxy=clip"]
    assert heads and say("prune", yes=True, sets=now).startswith("Nothing in"), "the setting may come back"
    shutil.copytree(homes / "bob.zarr", homes / "ann.zarr")
    assert "no target of a pair" in say("prune", yes=True, sets=now) and not (homes / "ann.zarr").exists()
    assert {path.name for path in homes.glob("*.zarr")} == heads
    assert "drive/targets/bob.zarr" in say("prune", dry_run=True, stale=True, sets=now)
    say("prune", yes=True, stale=True, sets=now)
    assert not [*homes.glob("*.zarr")] and [*homes.parents[1].glob("proxy/*.zarr")]


def test_heads_from_frames_of_their_own_are_seen_and_kept_as_long_as_a_pair_asks_for_them(project, say):
    table, homes = project.folder / "pairs.csv", project.folder / "results/drive/targets"
    project.write("pairs.csv", "target,driver,pair,reference\nbob,bob\nbob,bob,third,3\n")
    project.run("--until", "drive", "--config", "pairs=pairs.csv")
    assert (homes / "bob@3.zarr").exists()
    told = say("status", clip="bob", pairs=table)
    assert "drive/targets bob@3: ok" in told and "pairs with it: bob__bob, third" in told
    assert "drive.reference" not in told, "the store was made with what its own row says"
    say("prune", pairs=table, yes=True)
    assert (homes / "bob@3.zarr").exists() and not [*project.folder.glob("results/drive/bob__hopper*")]
    (homes / "bob@3.zarr" / "x" / "c" / "0").unlink()
    say("retry", clip=["bob"], pairs=table)
    assert (homes / "bob@3.damaged").exists() and not (project.folder / "results/drive/pairs-0000.json").exists()
    project.write("pairs.csv", "target,driver\nbob,bob\n")
    say("prune", pairs=table, yes=True)
    assert not (homes / "bob@3.zarr").exists() and (homes / "bob.zarr").exists()


def test_nothing_is_tidied_while_a_job_of_a_run_elsewhere_is_at_work(project, say, monkeypatch, tmp_path):
    fail(project, "bob")
    monkeypatch.chdir(tmp_path)  # Snakemake's locks are in the folder where it was started
    with at_work(project.folder / "results", "evaluate", 3, "pairs"):
        for command, options in (("retry", {"everything": True}), ("prune", {"stale": True, "yes": True})):
            with pytest.raises(UserError, match=r"^process \d+ on \S+ is at work on evaluate of all: wait for its end"):
                say(command, **options, sets=["drive.offsets=copy"])
    assert (project.folder / "results/landmarks/bob.failed.json").exists()
    assert "landmarks 1 will be tried again" in say("retry", everything=True)


def test_prune_refuses_a_manifest_of_other_clips(project, say):
    project.write("data_manifest.csv", "clip,dataset,source\nother,films,other.mp4\n")
    with pytest.raises(UserError, match="is this the right manifest"):
        say("prune", yes=True)


def test_watching(project, say):
    add(project)
    file = project.folder / "results/logs/proxy/films-0000.progress.json"
    beat = Heartbeat(file, "proxy", "films-0000", 10)
    beat.data |= {
        "done": 4,
        "computed": 2,
        "seconds": 60.0,
        "counts": {"ok": 3, "failed": 1},
        "now": "carl",
        "step": "fit: 3 of 9",
    }
    beat._write()
    text = say("watch", once=True)
    line = next(line.split() for line in text.splitlines() if line.startswith("proxy") and "films" in line)
    assert line[1:6] == ["films-0000", "4", "10", "1", "30.0"] and "3 min" in text and "fit: 3 of 9" in text
    page = project.read("results/report/status.html")
    assert '<meta http-equiv="refresh"' in page and "films-0000" in page and "http://" not in page
    with pytest.raises(UserError, match="is at work on proxy films-0000"):
        say("prune", yes=True, sets=["crop.scale=3"], stale=True)
    beat.end()
    assert "No job is at work." in say("watch", once=True)


def test_jobs_on_other_machines_are_shown_with_their_place(project, say):
    file = project.folder / "results/logs/proxy/films-0000.progress.json"
    beat = Heartbeat(file, "proxy", "films-0000", 10)
    beat.end()
    other = beat.data | {"host": "node7", "pid": 4711, "ended": False}
    file.write_text(json.dumps(other))
    lines = say("watch", once=True).splitlines()
    assert next(line for line in lines if line.startswith("proxy") and "films" in line).endswith("node7")
    assert "Jobs at work: proxy 1, on 1 other machine such as node7" in say("status")
    file.write_text(json.dumps(other | {"updated": time.time() - 3600}))
    assert "No job is at work." in say("watch", once=True) and "Jobs at work" not in say("status")


def test_the_page_is_written_without_a_terminal(project, say):
    page = project.folder / "results/report/status.html"
    assert "No job is at work." in page.read_text(), "the run's last job wrote it"
    page.unlink()
    assert say("watch", once=True, page_only=True) == "" and page.exists()


def test_watching_a_training(project, say):
    with training(project.folder / "results", "generator", 5000) as beat:
        beat.trained(1001, 0.5, "loss 0.5000")
        beat.trained(1002, 0.7, "loss 0.4000")
        beat._write()
        text, page = say("watch", once=True), project.read("results/report/status.html")
        line = next(line.split() for line in text.splitlines() if line.startswith("generator  steps"))
        assert line[1:4] == ["steps", "1002", "5000"] and "0.600" in line and "loss 0.4000" in text and "40 min" in text
        assert "1,002 of 5,000 steps" in page and "width:20.04%" in page
        with pytest.raises(UserError, match="is at work on generator training"):
            say("prune", yes=True, stale=True, sets=["crop.scale=3"])
    text = say("watch", once=True)
    assert "No job is at work." in text and "steps" not in project.read("results/report/status.html").split("<pre>")[0]


def test_text():
    assert general("no face in /a/b c.mp4: 3 of 60 frames, 0.25 s") == "no face in … c.mp4: N of N frames, N s"
    assert table([("a", "n"), ("long", "1,200"), ("b", "3")]) == "a         n\nlong  1,200\nb         3"
