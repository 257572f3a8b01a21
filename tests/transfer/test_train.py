import json
import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import made_people as make
from expportrait.engine.heartbeat import read_heartbeat
from expportrait.errors import UserError
from expportrait.fit.store import load_proxy
from expportrait.stages import transfer
from expportrait.store import Store
from expportrait.transfer.data import FittedClips
from expportrait.transfer.drive import transferred
from expportrait.transfer.model import Transfer
from expportrait.transfer.motion import motion
from expportrait.transfer.train import evaluate, mean_free, train


@pytest.fixture(scope="module")
def trained(fitted):
    transfer.run(make.rows(), make.config(fitted), "cpu")
    return fitted / "transfer"


def figures(home):
    return json.loads((home / "model" / "training.json").read_text())["figures"]


def test_learns_the_rule_for_a_person_never_seen(trained):
    found = figures(trained)
    assert found["train"]["explained"] > 0.6
    assert found["held_out_persons"]["explained"] > 0.4
    assert found["unseen_clips"].startswith("not available")


def test_beats_copying_the_drivers_offsets(trained, head, fitted):
    model = Transfer.from_pretrained(trained / "model")
    target = load_proxy(Store(fitted / "proxy" / "dee-1.zarr"), head)
    errors = {"copy": 0.0, "transfer": 0.0}
    for clip in ("ann-1", "bob-1", "fay-1"):
        driver = load_proxy(Store(fitted / "proxy" / f"{clip}.zarr"), head)
        truth = mean_free(make.rule(head, target.neutral(), driver.expression))
        errors["copy"] += float((driver.dynamic[:] - truth).abs().mean())
        errors["transfer"] += float((mean_free(transferred(target, motion(driver), model)[:]) - truth).abs().mean())
    assert errors["transfer"] < 0.8 * errors["copy"], errors


def test_explained_is_against_no_offsets(trained, head, fitted):
    clips = FittedClips({"dee-1": fitted / "proxy" / "dee-1.zarr"}, head)
    untrained = Transfer(Transfer.from_pretrained(trained / "model").config)
    found = evaluate(untrained, clips)  # its last layer is zero
    assert found["explained"] == 0
    assert found["zero"] == pytest.approx(1e3 * mean_free(clips.offsets("dee-1")).abs().mean().item(), rel=1e-5)


def test_nothing_to_do_the_second_time(trained, fitted):
    before = (trained / "model" / "model.safetensors").stat().st_mtime_ns
    transfer.run(make.rows(), make.config(fitted, transfer={"save_every": 7}), "cpu")
    assert (trained / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_without_a_held_out_person_it_says_so(fitted, tmp_path):
    shutil.copytree(fitted / "proxy", tmp_path / "proxy")
    people = make.PEOPLE | {"dee-1": ("ann", "test")}
    transfer.run(make.rows(people), make.config(tmp_path, transfer={"steps": 2}), "cpu")
    found = figures(tmp_path / "transfer")
    assert found["held_out_persons"].startswith("not available")
    assert found["unseen_clips"]["clips"] == 1
    beat = read_heartbeat(tmp_path / "logs" / "transfer.progress.json")
    assert (beat["done"], beat["total"], beat["computed"], beat["ended"]) == (2, 2, 2, True)


def test_no_fitted_clip_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no clip of the split train has a fitted head"):
        transfer.run(make.rows(), make.config(tmp_path), "cpu")


def test_a_gradient_that_is_lost_at_a_saving_step_is_not_kept(fitted, head, tmp_path):
    clips = FittedClips({clip: fitted / "proxy" / f"{clip}.zarr" for clip in ("ann-1", "bob-1")}, head)
    config = make.config(tmp_path, transfer={"steps": 6, "save_every": 2, "clips": 2, "vertices": 64})

    def trained(work, at=0):
        model, seen = transfer.build(clips, config, head.sha256), []

        def lost(gradient):
            seen.append(gradient)
            return gradient * torch.nan if len(seen) == at else gradient

        next(model.parameters()).register_hook(lost)
        train(model, clips, config.transfer, work, "cpu")
        return model.state_dict()

    with pytest.raises(UserError, match=r"transfer diverged at step 3 .*gradient nan.*lower transfer.learning_rate"):
        trained(tmp_path, at=4)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-2"]
    whole, again = trained(tmp_path / "whole"), trained(tmp_path)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


RUN = """
import sys, torch
from pathlib import Path
from benchmarks import made_people as make
from expportrait.fit.store import load_proxy
from expportrait.stages import transfer
torch.set_num_threads(1)
transfer.run(make.rows(), make.config(Path(sys.argv[1]), transfer=make.SHORT), "cpu")
"""


def test_killed_and_run_again_ends_with_the_same_weights(fitted, tmp_path):
    homes = []
    for name in ("broken", "whole"):
        shutil.copytree(fitted / "proxy", tmp_path / name / "proxy")
        homes.append(tmp_path / name / "transfer")
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / "broken")])
    until = time.monotonic() + 60
    while not list(homes[0].glob("work-*/checkpoints/step-*")) and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = max(int(path.name[5:]) for path in homes[0].glob("work-*/checkpoints/step-*"))
    assert 0 < done < make.SHORT["steps"]
    assert not (homes[0] / "index.json").exists()
    for name in ("broken", "whole"):
        transfer.run(make.rows(), make.config(tmp_path / name, transfer=make.SHORT), "cpu")
    broken, whole = (load_file(home / "model" / "model.safetensors") for home in homes)
    assert all(torch.equal(broken[name], whole[name]) for name in whole)
    curves = [json.loads((home / "model" / "training.json").read_text())["curves"] for home in homes]
    assert curves[0] == curves[1]
