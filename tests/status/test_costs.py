"""What ``status --cost`` makes of bills: sums, means, and rules that ask for too much or too little."""

import json
import re

import pytest

from expportrait.engine.costs import append
from expportrait.settings.config import Config
from expportrait.status.commands import status
from expportrait.status.costs import Advice, _rounded_up, advice, bill, costs

LINE = {"stage": "crop", "clip": "a", "dataset": "films", "made": True, "wall": 30.0, "cpu": 60.0, "peak_mib": 1000,
        "peak_of": "clip", "device": "cpu", "host": "node1", "time": 0}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A folder of results, and the rules of crop, drive, evaluate and transfer."""
    rules = {"crop": (4000, 120), "drive": (12000, 480), "evaluate": (8000, 240), "transfer": (16000, 720)}
    for name, (memory, minutes) in rules.items():
        (tmp_path / f"{name}.smk").write_text(f"        mem_mb=memory({memory}),\n        runtime={minutes},\n")
    rows = "".join(f"c{n},films,{n}.mp4\n" for n in range(40))
    (tmp_path / "m.csv").write_text("clip,dataset,source\n" + rows)
    return Config(results=tmp_path / "r", manifest=tmp_path / "m.csv")


def spend(config, **more):
    line = LINE | more
    append(config.results / line["stage"] / "films-0000.costs.jsonl", line)


def many(config, **more):
    for n in range(16):
        spend(config, clip=f"c{n}", **more)


def told(config):
    return advice(costs(config.results), config, config.manifest.parent)


def test_sums_and_means_by_stage_data_set_and_device(run):
    spend(run)
    spend(run, clip="b", wall=90, cpu=120, peak_mib=1500)
    spend(run, clip="c", made=False, wall=3600, cpu=0)
    spend(run, clip="d", dataset="talks")
    spend(run, clip="e", device="cuda:1")
    spend(run, stage="drive/targets", peak_of="process")
    found = {(one.stage, one.dataset, one.device): one for one in costs(run.results)}
    assert [*found] == [("crop", "films", "cpu"), ("crop", "films", "cuda"), ("crop", "talks", "cpu"),
                        ("drive/targets", "films", "cpu")]  # fmt: skip
    films = found["crop", "films", "cpu"]
    assert (films.made, films.not_made, films.wall_seconds, films.cpu_seconds, films.peak_mib) == (2, 1, 60, 90, 1500)
    assert films.wall_hours == pytest.approx(3720 / 3600) and films.cpu_hours == pytest.approx(0.05)
    lines = [line.split() for line in bill(run).splitlines()]
    assert ["crop", "films", "cpu", "2", "1", "1.03", "0.05", "60.0", "90.0", "1,500"] in lines
    assert ["drive/targets", "films", "cpu", "1", "0", "0.01", "0.02", "30.0", "60.0", "1,000*"] in lines
    assert ["all", "1.06", "0.10", "1,500"] in lines and "the peak of the process so far" in bill(run)


@pytest.mark.parametrize(
    ("spent", "expected"),
    [
        ({"wall": 60, "peak_mib": 3800}, []),
        ({"wall": 120, "peak_mib": 3800}, [Advice("crop", "runtime", 120, 256.0, 390)]),
        ({"wall": 20, "peak_mib": 3800}, [Advice("crop", "runtime", 120, pytest.approx(42.67, abs=0.01), 64)]),
        ({"wall": 60, "peak_mib": 1800}, [Advice("crop", "mem_mb", 4000, pytest.approx(1887.4, abs=0.1), 2900)]),
        ({"wall": 60, "peak_mib": 9000}, [Advice("crop", "mem_mb", 4000, pytest.approx(9437.2, abs=0.1), 15000)]),
    ],
)
def test_a_rule_that_is_off_by_more_than_a_factor_of_two_is_told_what_to_say(run, spent, expected):
    many(run, **spent)
    assert told(run) == expected
    for one in expected:
        file = run.manifest.parent / "crop.smk"
        file.write_text(re.sub(rf"({one.setting}=\D*)\d+", rf"\g<1>{one.write}", file.read_text()))
    assert told(run) == [], "what is to be written is right"


def test_a_job_has_as_many_clips_as_the_settings_make_it(run):
    many(run, wall=420, peak_mib=3800)
    assert told(run.model_copy(update={"shards": {"films": 1}}))[0].needed == 280, "40 clips"
    assert told(run.model_copy(update={"shards": {"others": 1}}))[0].needed == 896


def test_jobs_of_drive_fit_targets_too_and_evaluate_measures_all_pairs(run):
    many(run, stage="drive", dataset="pairs", wall=60, peak_mib=11000)
    many(run, stage="drive/targets", dataset="films", wall=400, peak_mib=11000)
    many(run, stage="evaluate", dataset="pairs", wall=3600, peak_mib=7000)
    found = [(one.rule, one.needed) for one in told(run)]
    assert found == [("drive", pytest.approx(128 * 460 / 60)), ("evaluate", 960)]


def test_a_training_needs_what_all_its_tries_took(run):
    for made in (False, False, True):
        spend(run, stage="transfer", clip="", dataset="", made=made, wall=36000, peak_mib=15000)
    assert [(one.rule, one.setting, one.needed) for one in told(run)] == [("transfer", "runtime", 1800)]


def test_little_is_not_worth_a_word(run):
    (run.manifest.parent / "crop.smk").write_text("        mem_mb=memory(1500),\n        runtime=20,\n")
    many(run, wall=0.1, peak_mib=100)
    assert told(run) == []


def test_few_clips_are_not_judged_by(run):
    for n in range(15):
        spend(run, clip=f"c{n}", wall=3600, peak_mib=9000)
    assert told(run) == []
    spend(run, clip="c15", wall=3600, peak_mib=9000)
    assert [(one.rule, one.setting) for one in told(run)] == [("crop", "mem_mb"), ("crop", "runtime")]


def test_without_a_bill_or_rules_nothing_is_made_up(run):
    assert bill(run).startswith(f"There is no bill in {run.results}")
    many(run, stage="unknown")
    assert told(run) == []


def test_the_command(run, capsys, monkeypatch):
    many(run, wall=1000)
    status(manifest=run.manifest, results=run.results, cost=True)
    text = capsys.readouterr().out
    assert re.search(r"^crop +runtime +120 +2,133 +3,200$", text, re.MULTILINE), text
    status(manifest=run.manifest, results=run.results, cost=True, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["costs"][0]["made"] == 16 and found["rules"][0]["rule"] == "crop"


@pytest.mark.parametrize(("number", "up"), [(7, 7), (15, 15), (64.1, 65), (123.4, 130), (2000, 2000), (2001, 2100)])
def test_rounding_up(number, up):
    assert _rounded_up(number) == up
