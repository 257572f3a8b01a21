"""What is sharded over processes learns what one process learns, and goes on on any number of them."""

import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from expportrait.errors import UserError
from expportrait.generator.files import build
from expportrait.generator.model import ModelConfig
from expportrait.generator.shard import COPIED, sharded, state_bytes

from . import make
from .several import together
from .test_several import SETTINGS, folder, log, run_stage, same, work

INDUCTOR = 2e-6  # relative, of losses and norms: its kernels sum in another order (measured: 2.4e-7)
SHARD = {"micro": 1, "sharding": "shard", "steps": 6}
# Each is trained on one process and on two.
KINDS = {
    # from velocities: around the portrait, a frozen network of random weights gives nothing but it
    "lora": {
        "steps": 3,
        "lora_rank": 2,
        "reference": "both",
        "prediction": "velocity",
        "rate_new": 0.5,
        "rate_lora": 2,
    },
    "eight bits": {"steps": 3, "optimizer": "adamw8bit"},
    "compiled": {"steps": 3, "compile": "aot_eager", "checkpointing": "selective"},
}


def weights(results):
    """Of the model as it is handed on. Queries and keys of the one row of text have no influence: their gradients are
    rounding, which AdamW makes steps of."""
    home = results / "generator" / "model"
    files = "transformer/diffusion_pytorch_model.safetensors", "encoders.safetensors"
    found = [(name, values) for file in files for name, values in load_file(home / file).items()]
    return {name: values for name, values in found if not re.search(r"attn2\.(to|norm)_[qk]", name)}


def same_model(results, others):
    same(log(results / "generator" / "model"), log(others / "generator" / "model"))
    one, other = weights(results), weights(others)
    assert {*one} == {*other} and len(one) > 60
    for name, values in one.items():
        torch.testing.assert_close(values, other[name], rtol=0, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def place(prepared, tmp_path_factory):
    home = tmp_path_factory.mktemp("shard")
    return lambda name: home / name if (home / name).exists() else folder(prepared, home / name)


@pytest.fixture(scope="module")
def whole(place):
    """Trained on one process."""
    run_stage(place("whole"), micro=4, steps=6)
    return place("whole")


@pytest.fixture(scope="module")
def on_two(place, whole):
    """On two processes: a run that ended when the second one got SIGTERM in step 3, one that goes on from step 4 of the
    ``whole`` one, one in mixed precision, and those of ``KINDS``."""
    ended = SHARD | {"results": place("ended"), "until": 2, "how": signal.SIGTERM, "last": True}
    shutil.copytree(whole / "generator", place("gone on") / "generator", ignore=lambda *_: ["step-6", "model"])
    mixed = SHARD | {"results": place("mixed"), "precision": "bf16", "steps": 3}
    kinds = [SHARD | {"results": place(name)} | kind for name, kind in KINDS.items()]
    done = together(2, ended, SHARD | {"results": place("gone on")}, mixed, *kinds)
    assert [status for status, _ in done] == [0, 0], done
    return [text for _, text in done]


def test_told_to_end_on_two_processes_it_saves_the_step_it_is_at(on_two, place):
    assert "generator: told to end; the next try goes on from step 3 of 6" in on_two[0]
    assert "generator" not in on_two[1]
    steps = {path.name: sorted(file.name for file in path.iterdir()) for path in work(place("ended")).glob("*/step-*")}
    assert steps["step-3"] == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    assert len(log(work(place("ended")))) == 3


def test_ended_on_two_processes_it_goes_on_whole_on_one(on_two, whole, place, tmp_path, capsys):
    shutil.copytree(place("ended"), tmp_path / "results", symlinks=True)
    run_stage(tmp_path / "results", micro=2, steps=6)
    assert "goes on from step 3 of 6" in capsys.readouterr().err
    same_model(tmp_path / "results", whole)


def launched(results, gpus, **settings):
    """The rule's command, with so many GPUs."""
    manifest = results / "manifest.csv"
    manifest.write_text("clip,dataset,source\n" + "".join(f"{clip},test,{clip}.mp4\n" for clip in make.CLIPS))
    asked = make.config(results, generator=SETTINGS | SHARD | settings).canonical("generator")
    command = [sys.executable, "-m", "expportrait", "generator", "--processes", gpus, "--manifest", manifest,
               "--results", results, "--settings", asked, "--device", "cpu"]  # fmt: skip
    return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_ended_on_two_processes_it_goes_on_on_four_in_two_copies(on_two, whole, place, tmp_path):
    shutil.copytree(place("ended"), tmp_path / "results", symlinks=True)
    done = together(4, SHARD | {"results": tmp_path / "results", "shard_over": 2})
    assert [status for status, _ in done] == [0] * 4, done
    told = [text for _, text in done]
    assert "goes on from step 3 of 6" in told[0] and not any("generator" in text for text in told[1:])
    same_model(tmp_path / "results", whole)


@pytest.mark.slow
def test_a_job_that_is_told_to_end_saves_and_says_so_once(prepared, tmp_path):
    results = folder(prepared, tmp_path / "results")
    started = launched(results, 2, steps=10**6, save_every=1, keep=1, look_every=0,
                       workers=3)  # fmt: skip
    deadline = time.monotonic() + 200
    while not [*results.glob("generator/work-*/*/step-*")] and time.monotonic() < deadline and started.poll() is None:
        time.sleep(0.1)
    started.send_signal(signal.SIGUSR1)
    told = started.communicate(timeout=200)[1]
    assert started.returncode == 128 + signal.SIGUSR1, told
    (step,) = work(results).glob("checkpoints/step-*")
    lines = [line for line in told.splitlines()[1:] if " gone, " not in line]  # of the progress, which is slow at times
    assert lines[-1] == f"generator: told to end; the next try goes on from step {step.name[5:]} of 1000000"
    assert len({*lines}) == len(lines), "one process talks"


@pytest.mark.long
@pytest.mark.slow
def test_a_mistake_is_told_once(prepared, tmp_path):
    started = launched(folder(prepared, tmp_path / "results"), 2, micro=4)
    told = started.communicate(timeout=200)[1]
    assert started.returncode == 1 and told.startswith("expportrait: generator.batch is 4, but 2 processes take 8")
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_sharded_it_learns_what_one_process_learns(on_two, kind, prepared, place, tmp_path, request):
    if kind == "eight bits":
        request.getfixturevalue("eight_bits")
    alone = folder(prepared, tmp_path / "alone")
    run_stage(alone, **KINDS[kind] | {"compile": "none", "micro": 4})
    same_model(place(kind), alone)


@pytest.mark.long
@pytest.mark.slow
def test_compiled_by_inductor_on_two_processes_it_learns_the_same(whole, place):
    made = SHARD | {"results": place("inductor"), "compile": "inductor", "checkpointing": "selective"}
    done = together(2, made)
    assert [status for status, _ in done] == [0, 0], done
    found, expected = ([row[1:] for row in log(place(name) / "generator" / "model")] for name in ("inductor", "whole"))
    assert found == [pytest.approx(row, rel=INDUCTOR) for row in expected]
    assert found != expected, "nothing was compiled"


def test_a_checkpoint_of_one_process_is_gone_on_with_in_parts(on_two, whole, place):
    assert "goes on from step 4 of 6" in on_two[0]
    same_model(place("gone on"), whole)


def test_sharded_in_mixed_precision_it_learns_nearly_the_same(on_two, whole, place):
    found, exact = log(place("mixed") / "generator" / "model"), log(whole / "generator" / "model")[:3]
    assert [row[1] for row in found] == pytest.approx([row[1] for row in exact], rel=0.02)
    assert found != exact
    assert {values.dtype for values in weights(place("mixed")).values()} == {torch.float32}


def test_a_damaged_checkpoint_of_parts_costs_only_itself(on_two, whole, place, tmp_path, capsys):
    shutil.copytree(place("ended"), tmp_path / "results", symlinks=True)
    (part,) = work(tmp_path / "results").glob("checkpoints/step-3/__1_0.distcp")
    part.write_bytes(part.read_bytes()[:1000])
    run_stage(tmp_path / "results", micro=4, steps=6)
    text = capsys.readouterr().err
    assert "step-3 is damaged" in text and "goes on from step 2 of 6" in text
    same_model(tmp_path / "results", whole)


def test_what_is_large_is_sharded_where_there_are_several():
    settings = make.config("results", generator={"preset": "tiny"}).generator
    small = build(ModelConfig("tiny", 16, 4, 4, 4), None, empty=True)
    large = build(ModelConfig("1.3B", 16, 4, 4, 8), None, empty=True)
    assert state_bytes(small) < 32 << 20 < COPIED < state_bytes(large) < 24 << 30
    assert [sharded(settings, model, count) for model in (small, large) for count in (1, 2)] == [False] * 3 + [True]
    always, never = (settings.model_copy(update={"sharding": choice}) for choice in ("shard", "replicate"))
    assert sharded(always, small, 2) and not sharded(always, small, 1) and not sharded(never, large, 8)
    with pytest.raises(UserError, match="shard_over is 3, which does not divide the 8 processes"):
        sharded(settings.model_copy(update={"shard_over": 3}), large, 8)
