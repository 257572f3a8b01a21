"""What is measured on a borrowed GPU: parts that fail say so, and the tables hold what was found."""

import json
import sys

from benchmarks import gpu, gpu_tables, launches
from expportrait.generator.train import flow_losses


def run(monkeypatch, part: str, out) -> dict:
    monkeypatch.setattr(sys, "argv", ["gpu.py", part, "--out", str(out), "--tiny"])
    gpu.main()
    return json.loads((out / f"{part}.json").read_text())


def test_a_part_writes_what_it_found_and_the_tables_show_it(monkeypatch, tmp_path):
    found = run(monkeypatch, "raster", tmp_path)
    assert found["machine"]["versions"]["torch"] and "error" not in found and found["64"]["fragments"] > 0
    text = "\n".join(gpu_tables.report(tmp_path))
    assert "TINY SIZES" in text and "| fragments |" in text


def test_a_part_that_fails_keeps_what_was_found_before(monkeypatch, tmp_path):
    def fails(found, tiny, seconds):
        found["steps"] = [{"frames": 49, "seconds": 0.5}]
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setitem(gpu.PARTS, "generator", fails)
    found = run(monkeypatch, "generator", tmp_path)
    assert "illegal memory access" in found["error"] and found["steps"][0]["frames"] == 49
    text = "\n".join(gpu_tables.report(tmp_path))
    assert "illegal memory access" in text and "| 49 |" in text and "0.5" in text


def test_slope_and_offset_of_two_lengths():
    assert launches.per_frame((25, 100), (350, 1100)) == {"per_frame": 11, "slope": 10, "offset": 100}


def test_the_generators_batch_is_one_that_it_can_be_trained_on():
    losses = flow_losses(gpu.generator_model(tiny=True), gpu.generator_batch(5, 32).to("cpu"), "velocity")
    assert losses.shape == (1,) and losses.isfinite().all()
