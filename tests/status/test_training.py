"""What status and watch say of trainings."""

import json

import pytest

from expportrait.settings.config import Config
from expportrait.status.commands import status, watch
from expportrait.status.survey import survey
from expportrait.status.training import trainings, trainings_page
from tests.report.fabricate import make_looks, make_trainings, write_log


@pytest.fixture
def config(tmp_path):
    (tmp_path / "m.csv").write_text("clip,dataset,source,person,split\nann,films,ann.mp4,ann,train\n")
    return Config(results=tmp_path / "r", manifest=tmp_path / "m.csv")


def test_without_a_training_nothing_is_said(config):
    assert trainings(survey(config)) == "" and trainings_page(survey(config), config.results / "status.html") == ""


def test_a_training_at_work_is_told_in_words_with_its_last_looks(config):
    make_trainings(config.results)
    work = config.results / "generator" / "work-k"
    write_log(work / "loss.csv", 30)
    looks = make_looks(work, [*range(10, 80, 10)])
    lines = trainings(survey(config)).splitlines()
    assert lines[0].startswith(
        "generator at step 30, not finished: loss 0.04399, gradient 0.3, learning rate 0.001, 2 s"
    )
    assert lines[1].split() == ["look", "at", "step", "clip", "loss", "0-0.25", "0.25-0.5", "0.5-0.75", "0.75-1",
                                "control", "PSNR", "AED", "CSIM"]  # fmt: skip
    assert [line.split()[0] for line in lines[2:-1]] == ["30", "40", "50", "60", "70"]
    assert lines[-2].split()[1:] == ["ann", "(held-out)", "0.2143", "0.1143", "0.2143", "0.3143", "0.4143", "+25%",
                                     "20.70", "0.0500", "0.900"]  # fmt: skip
    assert lines[-1] == f"newest film: {work / looks[-1]['film']}"


def test_the_one_that_was_written_last_is_told_of(config):
    write_log(config.results / "generator" / "work-k" / "loss.csv", 30)
    make_trainings(config.results)
    assert trainings(survey(config)).startswith("generator at step 60: loss ")


def test_status_and_watch_show_it(config, capsys):
    work = config.results / "generator" / "work-k"
    write_log(work / "loss.csv", 30)
    make_looks(work, [10, 20, 30])
    given = {"manifest": config.manifest, "results": config.results}
    status(**given)
    assert "generator at step 30, not finished" in capsys.readouterr().out
    status(**given, as_json=True)
    told = json.loads(capsys.readouterr().out)["trainings"]["generator"]
    assert told["last"]["step"] == 29 and [look["step"] for look in told["looks"]] == [10, 20, 30]
    watch(**given, once=True)
    assert "newest film" in capsys.readouterr().out
    page = (config.results / "report" / "status.html").read_text("utf-8")
    assert page.count("<svg") == 5 and '<video src="../generator/work-k/look-30.mp4"' in page
    assert (config.results / "report" / "../generator/work-k/look-30.jpg").exists() and "NOT" not in page
