"""What a step takes, beside its floor."""

import time

import pytest
import torch
from benchmarks.pretend_gpu import PretendGpu, pretend_gpu

from expportrait.engine.log import read_log
from expportrait.generator import flop
from expportrait.generator.flop import documented, measured, peak, step_flop, window_tokens
from expportrait.generator.meter import Meter
from expportrait.generator.train import flow_losses, train

from .test_train import batch, fresh, generator


def test_each_row_has_what_the_step_took(windows, tmp_path):
    model, settings = fresh(reference="both"), generator(batch=4, micro=2)
    train(model, windows, settings, tmp_path, "cpu")
    tokens = 4 * (1 + 2) * 4 * 4  # windows; latents of 5 frames and the portrait's; 32 px by 4 by 2 a side
    assert 4 * window_tokens(model.config, 32, 5) == tokens
    arithmetic = step_flop(settings, tokens // 4)
    for row in read_log(tmp_path / "loss.csv"):
        assert row["tokens"] == tokens
        assert row["tflops"] == pytest.approx(arithmetic / row["seconds"] / 1e12)
        assert row["floor"] == pytest.approx(peak("cpu", "no")[0] / 1e12 / row["tflops"]) and row["floor"] > 1
        assert 0.05 < row["memory"] < 50
        assert row["waiting"] < row["other"] < row["seconds"], "the rest is what the transformer took"


@pytest.mark.parametrize("where", ["forward", "backward", "beside"])
def test_only_the_transformers_time_is_the_transformers(windows, where):
    model, settings = fresh().train(), generator()
    meter = Meter(model, settings, 48, 1, "cpu")

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            time.sleep(0.3 * (where == "forward"))
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            time.sleep(0.3 * (where == "backward"))
            return gradient

    block = model.transformer.blocks[1]
    block.register_forward_pre_hook(lambda _, given: (Slow.apply(given[0]), *given[1:]))
    model.pose_encoder.register_forward_hook(lambda *_: time.sleep(0.3 * (where == "beside")))
    began = time.perf_counter()
    flow_losses(model, batch(windows), "sample").mean().backward()
    seconds = time.perf_counter() - began
    other = meter.figures(seconds)["other"]
    assert other > 0.3 if where == "beside" else other < seconds - 0.3
    with torch.no_grad():
        flow_losses(model, batch(windows), "sample")
    assert meter.figures(1.0)["other"] == 1, "what is only looked at is no part of a step"


def test_peaks_are_known_by_name_and_only_of_the_very_gpu():
    known = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA A100-SXM4-40GB": 312e12,
             "NVIDIA H200": 989e12, "NVIDIA GeForce RTX 4090": 165e12, "NVIDIA A10": 125e12}  # fmt: skip
    assert {name: documented(name) for name in known} == known
    for unknown in ("NVIDIA A10G", "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 Laptop GPU", "Tesla T4",
                    "NVIDIA H100 80GB HBM3 MIG 1g.10gb"):  # fmt: skip
        assert documented(unknown) is None, unknown


def test_which_peak_it_is_stands_beside_it(monkeypatch):
    rate, source = peak("cpu", "no")
    assert rate == measured("cpu", torch.float32)[0] and "measured on this CPU" in source and "in float32" in source
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert peak("cuda:0", "bf16") == (
        989e12, "the stated peak of NVIDIA H100 80GB HBM3, 989 TFLOP/s of dense bfloat16"
    )  # fmt: skip
    monkeypatch.setattr(flop, "measured", lambda device, kind: (5e12, 4096))
    assert peak("cuda:0", "no")[1].startswith(
        "5 TFLOP/s, measured on NVIDIA H100 80GB HBM3 by a product of 4096 x 4096"
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "pretended")
    assert peak("cuda:0", "bf16")[0] == 5e12


def test_on_a_gpu_events_are_read_and_nothing_more_is_waited_for(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(flop, "measured", lambda device, kind: (1e11, 1024))
    settings = generator(steps=3)
    with pretend_gpu():
        counts = [PretendGpu.waits]
        train(fresh(), windows, settings, tmp_path / "with", "cuda")
        counts.append(PretendGpu.waits)
        monkeypatch.setattr(Meter, "figures", lambda meter, seconds: {})
        train(fresh(), windows, settings, tmp_path / "without", "cuda")
        counts.append(PretendGpu.waits)
    assert counts[1] - counts[0] == counts[2] - counts[1] > 0
    rows = read_log(tmp_path / "with" / "loss.csv")
    assert len(rows) == 3 and all(0 < row["other"] < row["seconds"] for row in rows)
