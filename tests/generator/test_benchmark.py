"""The benchmark of a training step (benchmarks/generator_step.py), on a pretended GPU."""

import pytest
import torch
from benchmarks.generator_step import computed
from benchmarks.pretend_gpu import pretend_gpu
from benchmarks.training_steps import Noise, figures, on_gpu, trained

from benchmarks import training_steps
from expportrait.settings.config import Config

KEYS = {"tokens", "seconds", "tflops", "times_the_floor", "peak_gib", "planned_gib", "waiting", "other"}


def test_its_steps_run_on_a_gpu(monkeypatch):
    monkeypatch.setattr(training_steps, "PLANS", [(81, "auto", "none", "selective"), (81, "flash", "none", "none")])
    with pretend_gpu() as gpu:
        on_gpu(found := {}, True, 600, "cuda")
        assert gpu.launches > 1000
    first, refused = found["steps"]
    assert first.keys() >= KEYS and first["checkpointing"] == "selective" and first["frames"] == 9
    assert 0 <= first["waiting"] <= first["other"] < 1 < first["times_the_floor"]
    assert "flash does not work here" in refused["error"]


def test_a_plan_for_which_no_time_is_left_is_named():
    on_gpu(found := {}, True, -1, "cpu")
    assert [row["error"] for row in found["steps"]] == ["left out: no time was left"] * len(training_steps.PLANS)


def test_its_steps_are_those_of_the_training():
    config = Config(latents={"size": 64, "window": 9}, generator={"preset": "tiny", "batch": 1, "precision": "no"})
    torch.manual_seed(0)
    rows = trained(config, Noise(config), 5, "cpu")
    assert [row["step"] for row in rows] == [*range(5)]
    assert figures(rows)["first_step_seconds"] == rows[0]["seconds"]


@pytest.mark.parametrize(
    ("seconds", "workers", "share"),
    [(0.5, 0, 0.5), (0.25, 1, 0.0), (1.0, 1, 0.5), (1.0, 2, 0.0), (2.0, 2, 0.5), (2.0, 4, 0.0)],
)
def test_the_waiting_that_it_computes(seconds, workers, share):
    assert computed([seconds] * 2000, workers) == pytest.approx(share, abs=0.005)
