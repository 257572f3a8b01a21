import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from benchmarks.pretend_gpu import pretend_gpu
from safetensors.torch import load_file, save_file

import expportrait
from expportrait.engine.checkpoints import Checkpoints
from expportrait.engine.log import read_log
from expportrait.errors import UserError
from expportrait.generator.data import Windows, training_batch
from expportrait.generator.files import build
from expportrait.generator.model import ModelConfig
from expportrait.generator.train import (
    choose_attention,
    choose_checkpointing,
    control_sensitivity,
    flow_losses,
    reading_threads,
    train,
)
from expportrait.manifest.clips import Row
from expportrait.stages import generator as stage
from expportrait.store import StoreError

from . import make

SRC = str(Path(expportrait.__file__).parents[1])


def generator(**changes):
    return make.config("results", generator=changes).generator


def fresh(**changes):
    made = {"latent_channels": 16, "control_channels": 4, "reference": "conv", "prediction": "x0"} | changes
    return build(ModelConfig("tiny", time=4, space=4, **made), None)


def batch(windows, step=0):
    return training_batch(windows, 0, step, 2, shift=3.0, drop_reference=0, drop_control=0, drop_both=0)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_training_learns_to_follow_the_control(windows, tmp_path):
    settings = generator(steps=60, save_every=60, schedule="cosine", batch=4, micro=4, learning_rate=6e-3)
    model = train(fresh(), windows, settings, tmp_path, "cpu")
    losses = [row["loss"] for row in read_log(tmp_path / "loss.csv")]
    assert len(losses) == 60
    assert sum(losses[-8:]) < sum(losses[:8]) / 2
    sensitivity = control_sensitivity(model, windows, settings)
    assert sensitivity["wrong"] > 1.3 * sensitivity["right"]
    assert sensitivity["difference"] == pytest.approx(sensitivity["wrong"] - sensitivity["right"])


def test_an_untrained_model_is_not_sensitive_to_its_control(windows):
    assert control_sensitivity(fresh(), windows, generator())["difference"] == 0


@torch.no_grad()
def test_noise_weighting_is_the_loss_of_equation_10(windows):
    model, some = fresh(prediction="velocity"), batch(windows)
    sigma = some.sigma.view(-1, 1, 1, 1, 1)
    noised = (1 - sigma) * some.latents + sigma * some.noise
    velocity = model(noised, some.sigma, some.given)
    predicted_noise = noised + (1 - sigma) * velocity
    predicted_latents = noised - sigma * velocity
    expected = {
        "noise": (predicted_noise - some.noise).square().mean((1, 2, 3, 4)),
        "sample": (predicted_latents - some.latents).square().mean((1, 2, 3, 4)),
        "velocity": (velocity - (some.noise - some.latents)).square().mean((1, 2, 3, 4)),
    }
    for name, value in expected.items():
        torch.testing.assert_close(flow_losses(model, some, name), value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["full", "selective"])
def test_checkpointing_changes_no_gradient(windows, kind):
    gradients = []
    for choice in ("none", kind):
        model = fresh(prediction="velocity", reference="both")
        choose_checkpointing(model, choice)
        flow_losses(model.train(), batch(windows), "velocity").mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_selective_checkpointing_does_not_run_attention_again(windows):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            Count.calls += "scaled_dot_product" in str(op) and "backward" not in str(op)
            return op(*args, **(kwargs or {}))

    calls = {}
    for kind in ("none", "full", "selective"):
        model, Count.calls = fresh(), 0
        choose_checkpointing(model, kind)
        with Count():
            flow_losses(model.train(), batch(windows), "sample").mean().backward()
        calls[kind] = Count.calls
    assert calls["selective"] == calls["none"] < calls["full"]


def test_attention_backends_that_cannot_work_are_refused():
    model = fresh()
    choose_attention(model, "_native_math", "cpu", training=True)
    choose_attention(model, "native", "cpu", training=True)
    for name, why in (
        ("sage", "no backward pass"),
        ("_flash_3", "no backward pass"),
        ("flash", "needs a GPU"),
        ("_native_cudnn", "needs a GPU"),
    ):
        with pytest.raises(UserError, match=why):
            choose_attention(model, name, "cpu", training=True)


def test_a_run_in_parts_is_the_unbroken_run(windows, tmp_path):
    class Stop(Exception):
        pass

    def save(self, step, *rest, original=Checkpoints.save):
        if step == 4:  # its log is written, its checkpoint not yet
            raise Stop
        original(self, step, *rest)

    unbroken = train(fresh(), windows, generator(), tmp_path / "whole", "cpu")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Checkpoints, "save", save)
        train(fresh(), windows, generator(), tmp_path / "parts", "cpu")
    resumed = train(fresh(), windows, generator(), tmp_path / "parts", "cpu")
    assert same(unbroken, resumed)
    losses = [
        [(row["step"], row["loss"]) for row in read_log(tmp_path / name / "loss.csv")] for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1] and [step for step, _ in losses[0]] == list(range(6))
    assert sorted(path.name for path in (tmp_path / "parts" / "checkpoints").iterdir()) == ["step-4", "step-6"]


@pytest.mark.parametrize("cache", [0, 1 << 30], ids=["read", "held"])
def test_workers_change_neither_batches_nor_losses(prepared, tmp_path, monkeypatch, cache):
    monkeypatch.setattr("expportrait.generator.data.CACHE_BYTES", cache)
    seen, make_batch = {}, training_batch

    def noted(*given, **options):
        made = make_batch(*given, **options)
        batches[given[2]] = made
        return made

    monkeypatch.setattr("expportrait.generator.train.training_batch", noted)
    drops = {"drop_reference": 0.2, "drop_control": 0.2, "drop_both": 0.1, "workers": 0}
    for workers in (0, 1, 2, 4):
        batches = {}
        settings = generator(**drops | {"workers": workers})
        train(fresh(), made_windows(prepared), settings, tmp_path / str(workers), "cpu")
        seen[workers] = [flat(batches[step]) for step in range(6)], losses(tmp_path / str(workers))
    for found, others in seen.values():
        assert others == seen[0][1]
        for one, other in zip(found, seen[0][0], strict=True):
            assert one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


def made_windows(prepared):
    paths = [{clip: prepared / stage / f"{clip}.zarr" for clip in make.CLIPS} for stage in ("latents", "control")]
    return Windows(*paths, ["normals", "coverage"])


def flat(some):
    """Where a batch comes from, and its tensors."""
    parts = [part for value in vars(some).values() for part in (value.values() if isinstance(value, dict) else [value])]
    return (some.clips, some.starts), [part for part in parts if isinstance(part, torch.Tensor)]


def losses(work):
    return [(row["loss"], row["gradient"]) for row in read_log(work / "loss.csv")]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_damaged_store_ends_the_training_with_its_own_sentence(prepared, tmp_path, monkeypatch, workers):
    monkeypatch.setattr("expportrait.generator.data.CACHE_BYTES", 0)
    shutil.copytree(prepared, tmp_path / "results")
    windows, before = made_windows(tmp_path / "results"), threading.active_count()
    for chunk in (tmp_path / "results/control/b.zarr/normals/c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    with pytest.raises(StoreError, match=r"^\S+/control/b.zarr is damaged: chunks of 'normals' are missing$"):
        train(fresh(), windows, generator(workers=workers), tmp_path / "work", "cpu")
    assert threading.active_count() == before


def test_a_core_each_beside_a_gpu_and_one_thread_else(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert [reading_threads(None, gpu) for gpu in (True, False)] == [2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    assert [reading_threads(asked, True) for asked in (None, 0, 7)] == [4, 0, 7]


def test_a_pinned_batch_travels_while_the_program_goes_on(windows):
    with pretend_gpu() as gpu:
        waits = []
        for some in (batch(windows), batch(windows).pinned()):
            before = gpu.waits
            there = some.to("cuda")
            waits.append(gpu.waits - before)
    assert waits == [len(flat(there)[1]), 0]
    assert all(torch.equal(one.held, other) for one, other in zip(flat(there)[1], flat(batch(windows))[1], strict=True))


def test_training_ends_with_the_average_of_its_weights(windows, tmp_path):
    settings = generator(ema=0.5)
    model = train(fresh(), windows, settings, tmp_path, "cpu")
    last = load_file(tmp_path / "checkpoints" / "step-6" / "weights.safetensors")
    averaged = load_file(tmp_path / "checkpoints" / "step-6" / "average.safetensors")
    found = dict(model.named_parameters())
    assert all(torch.equal(value, found[name]) for name, value in averaged.items()) and {*found} == {*averaged}
    assert not all(torch.equal(value, found[name]) for name, value in last.items())
    again = train(fresh(), windows, settings, tmp_path, "cpu")  # nothing is left to be done
    assert same(again, model)
    off = train(fresh(), windows, generator(ema=0), tmp_path / "off", "cpu")
    assert all(torch.equal(value, last[name]) for name, value in off.named_parameters())


def test_with_low_rank_updates_only_what_is_trained_is_averaged(windows, tmp_path):
    config = ModelConfig("tiny", time=4, space=4, latent_channels=16, control_channels=4, reference="conv",
                         prediction="x0")  # fmt: skip
    model = build(config, None, lora_rank=2)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    train(model, windows, generator(steps=2), tmp_path, "cpu")
    averaged = load_file(tmp_path / "checkpoints" / "step-2" / "average.safetensors")
    assert {*averaged} == trained and len(trained) < len([*model.parameters()])


def test_mixed_precision_changes_little(windows, tmp_path):
    losses = {}
    for precision in ("no", "bf16"):
        train(fresh(), windows, generator(steps=3, precision=precision), tmp_path / precision, "cpu")
        losses[precision] = [row["loss"] for row in read_log(tmp_path / precision / "loss.csv")]
    assert losses["no"] != losses["bf16"]
    assert losses["bf16"] == pytest.approx(losses["no"], rel=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_runs_on_a_gpu(windows, tmp_path):
    settings = generator(steps=6, precision="bf16", attention="_native_cudnn", checkpointing="selective")
    train(fresh(reference="both"), windows, settings, tmp_path, "cuda")
    assert len(read_log(tmp_path / "loss.csv")) == 6


def test_a_damaged_checkpoint_costs_only_itself(windows, tmp_path, capsys):
    whole = train(fresh(), windows, generator(), tmp_path, "cpu")
    (tmp_path / "checkpoints" / "step-6" / "weights.safetensors").write_bytes(b"cut off")
    again = train(fresh(), windows, generator(), tmp_path, "cpu")
    assert same(whole, again)
    assert "step-6 is damaged" in capsys.readouterr().err


def test_a_gradient_that_is_lost_at_a_saving_step_is_not_kept(windows, tmp_path):
    model, seen = fresh(), []

    def lost(gradient):
        seen.append(gradient)
        return gradient * torch.nan if len(seen) == 4 else gradient

    model.transformer.patch_embedding.weight.register_hook(lost)
    with pytest.raises(UserError, match=r"diverged at step 3 \(loss \d\.\d+, gradient nan\)"):
        train(model, windows, generator(), tmp_path, "cpu")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-2"]
    whole = train(fresh(), windows, generator(), tmp_path / "whole", "cpu")
    assert same(train(fresh(), windows, generator(), tmp_path, "cpu"), whole)


def test_a_poisoned_checkpoint_of_an_earlier_version_is_passed_over(windows, tmp_path, capsys):
    whole = train(fresh(), windows, generator(), tmp_path, "cpu")
    file = tmp_path / "checkpoints" / "step-6" / "weights.safetensors"
    save_file({name: values * torch.nan for name, values in load_file(file).items()}, file)
    assert same(train(fresh(), windows, generator(), tmp_path, "cpu"), whole)
    assert "step-6 holds numbers that are not finite" in capsys.readouterr().err


def test_a_training_that_diverges_says_so(windows, tmp_path):
    with pytest.raises(UserError, match=r"diverged at step .*lower generator.learning_rate"):
        train(fresh(), windows, generator(learning_rate=1e20, clip=1e30), tmp_path, "cpu")


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.generator.test_train import run_stage
run_stage(Path({results!r}))
"""


def run_stage(results):
    torch.set_num_threads(1)
    rows = [Row(clip, "test", clip, results / clip) for clip in make.CLIPS]
    stage.run(rows, make.config(results, generator={"steps": 24}), "cpu")
    model = results / "generator" / "model"
    return [
        (model / file).read_bytes()
        for file in ("transformer/diffusion_pytorch_model.safetensors", "encoders.safetensors")
    ]


def test_killed_in_mid_training_ends_with_the_same_weights(prepared, pytestconfig, tmp_path, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for results in (whole, killed):
        results.mkdir()
        for name in ("latents", "control"):
            (results / name).symlink_to(prepared / name)
    script = SCRIPT.format(root=str(pytestconfig.rootpath), results=str(killed))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": SRC}
    )
    deadline = time.monotonic() + 300
    while (
        not list(killed.glob("generator/work-*/checkpoints/step-*"))
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    steps = [int(path.name[5:]) for path in killed.glob("generator/work-*/checkpoints/step-*")]
    assert 0 < max(steps) < 24 and not (killed / "generator" / "index.json").exists()
    weights = run_stage(killed)
    assert f"goes on from step {max(steps)} of 24" in capsys.readouterr().err
    assert weights == run_stage(whole)
