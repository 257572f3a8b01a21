"""Neither the number of processes nor what one of them holds at once changes what is learnt."""

import json
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from expportrait.engine.log import read_log
from expportrait.errors import UserError
from expportrait.manifest.clips import Row
from expportrait.stages import generator as stage

from . import make
from .several import together

STEPS = 8
SETTINGS = {"steps": STEPS, "batch": 4, "drop_reference": 0.2, "drop_control": 0.2, "drop_both": 0.1}


def run_stage(results, held_out="", **changes):
    """``held_out``: a clip that is not trained on."""
    splits = {clip: "val" if clip == held_out else "train" for clip in make.CLIPS}
    rows = [Row(clip, "test", clip, results / clip, person=clip, split=split) for clip, split in splits.items()]
    stage.run(rows, make.config(results, generator=SETTINGS | changes), "cpu")


def folder(prepared, results):
    results.mkdir()
    for name in ("latents", "control"):
        (results / name).symlink_to(prepared / name)
    return results


def log(home):
    """Loss and norm of the gradient by step; seconds and the like are not the same each time."""
    return [(row["step"], row["loss"], row["gradient"]) for row in read_log(home / "loss.csv")]


def same(rows, others):
    assert [row[0] for row in rows] == [row[0] for row in others]
    for row, other in zip(rows, others, strict=True):
        assert row[1:] == pytest.approx(other[1:], abs=1e-5), row[0]


def work(results):
    (found,) = results.glob("generator/work-*")
    return found


def averaged(results):
    return load_file(work(results) / "checkpoints" / f"step-{STEPS}" / "average.safetensors")


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """Trained on one process, all windows of a step at once."""
    results = folder(prepared, tmp_path_factory.mktemp("whole") / "results")
    run_stage(results, micro=4)
    return results / "generator"


@pytest.fixture(scope="module")
def killed(prepared, tmp_path_factory):
    """Killed on two processes in step 5, the last checkpoint being that of step 4; what they said."""
    results = folder(prepared, tmp_path_factory.mktemp("killed") / "results")
    done = together(2, {"results": results, "micro": 1, "until": 5})
    assert [status for status, _ in done] == [-signal.SIGKILL] * 2, done
    return results, [text for _, text in done]


@pytest.mark.parametrize("micro", [1, 2])
def test_how_many_windows_are_held_at_once_changes_no_loss(whole, prepared, tmp_path, micro):
    results = folder(prepared, tmp_path / "results")
    run_stage(results, micro=micro)
    same(log(results / "generator" / "model"), log(whole / "model"))


def test_two_processes_have_the_losses_of_one_and_the_first_one_talks(whole, killed):
    results, (first, second) = killed
    same(log(work(results)), log(whole / "model")[:4])
    assert "generator: 6 windows of 2 clips" in first and "generator" not in second


def test_killed_on_two_processes_it_goes_on_on_one(whole, killed, tmp_path, capsys):
    shutil.copytree(killed[0], tmp_path / "results", symlinks=True)
    run_stage(tmp_path / "results", micro=4)
    assert f"goes on from step 4 of {STEPS}" in capsys.readouterr().err
    same(log(tmp_path / "results" / "generator" / "model"), log(whole / "model"))
    torch.testing.assert_close(averaged(tmp_path / "results"), averaged(whole.parent), atol=1e-3, rtol=0)
    keys = [json.loads((home / "index.json").read_text())["key"] for home in (whole, tmp_path / "results/generator")]
    assert keys[0] == keys[1]


@pytest.mark.long
@pytest.mark.slow
def test_killed_on_two_processes_it_goes_on_on_four(whole, killed, tmp_path):
    shutil.copytree(killed[0], tmp_path / "results", symlinks=True)
    done = together(4, {"results": tmp_path / "results", "micro": 1})
    assert [status for status, _ in done] == [0] * 4, done
    assert f"goes on from step 4 of {STEPS}" in done[0][1]
    same(log(tmp_path / "results" / "generator" / "model"), log(whole / "model"))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("processes", "micro"), [(2, 2), (4, 1)])
def test_several_processes_train_to_the_end(whole, prepared, tmp_path, processes, micro):
    results = folder(prepared, tmp_path / "results")
    done = together(processes, {"results": results, "micro": micro})
    assert [status for status, _ in done] == [0] * processes, done
    same(log(results / "generator" / "model"), log(whole / "model"))
    assert json.loads((results / "generator" / "index.json").read_text())["status"] == "ok"
    assert all("generator" not in text for _, text in done[1:])


def test_a_batch_that_does_not_divide_is_refused_before_any_work(tmp_path):
    with pytest.raises(UserError, match=r"batch is 4, but one process takes 3 windows at once \(generator.micro is 3"):
        run_stage(tmp_path, micro=3)
    assert not [*tmp_path.iterdir()]
    with pytest.raises(UserError, match=r"batch is 4, but 8 processes take 8 windows at once"):
        make.config(tmp_path, generator=SETTINGS | {"micro": 1}).generator.rounds(8)


@pytest.mark.long
@pytest.mark.slow
def test_several_processes_that_do_not_divide_the_batch_are_refused_before_any_work(prepared, tmp_path):
    results = folder(prepared, tmp_path / "results")
    done = together(2, {"results": results, "micro": 4})
    assert all(status == 1 and "2 processes take 8 windows at once" in text for status, text in done), done
    assert sorted(path.name for path in results.iterdir()) == ["control", "latents"]
