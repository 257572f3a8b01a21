"""Whether a training of which a process was killed, and which a retry ended, is what an unbroken one is."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from safetensors.torch import load_file

from expportrait.engine.log import read_log
from expportrait.engine.models import Model, there
from expportrait.manifest.clips import read_manifest
from expportrait.settings.config import Config
from expportrait.settings.files import merge
from expportrait.stages import PIPELINE

# Bounds of a loss, and of a weight by its tensor's largest. After a kill in the first steps, round-off grows for fifty.
LOSSES, WEIGHTS = 5e-5, 1e-3
FAR = 100  # times a bound: what a wrong retry has to be apart
# With one row of text the cross-attention's softmax is 1 whatever its queries and keys are: round-off alone moves them.
MOVED_BY_NOTHING = re.compile(r"(norm2|attn2\.(to_q|to_k|norm_q|norm_k))\.")
FILES = "transformer/diffusion_pytorch_model.safetensors", "encoders.safetensors"


def check(project: Path, processes: int = 2) -> None:
    """The training in ``project``'s results against one trained anew, on as many processes, on the same latents and
    maps; and against two that a wrong retry could have made, which the comparison has to tell from it."""
    settings = merge(*(yaml.safe_load((project / name).read_text()) for name in ("config.yaml", "short.yaml")))
    settings["generator"]["keep"] = 1000
    (log,) = (project / "results/logs").glob("generator.log")
    step, steps = map(int, re.search(r"goes on from step (\d+) of (\d+)", log.read_text()).groups())
    assert 0 < step < steps
    alone = trained(project, "alone", settings, processes)
    moves(alone, step)
    losses, weights = apart(project / "results", alone, step)
    print(f"gone on with from step {step} of {steps}: losses within {losses:.1e} of an unbroken run's, weights within "
          f"{weights:.1e}, relatively")  # fmt: skip
    assert losses <= LOSSES and weights <= WEIGHTS
    (checkpoints,) = alone.glob("generator/work-*/checkpoints")
    early = min(checkpoints.glob("step-*"), key=lambda folder: int(folder.name[5:]))
    assert int(early.name[5:]) < step
    others = {
        "early weights": (settings, early),  # as if the retry had them at its step
        "other windows": (merge(settings, {"generator": {"seed": 1}}), checkpoints / f"step-{step}"),
    }
    for name, (changed, checkpoint) in others.items():
        wrong = trained(project, name, changed, processes, checkpoint, step)
        losses, weights = apart(wrong, alone, step)
        print(f"{name} from step {step} on: losses {losses:.1e} apart, weights {weights:.1e}")
        assert losses > FAR * LOSSES and weights > FAR * WEIGHTS, f"{name} would not have been noticed"


def moves(home: Path, step: int) -> None:
    """The learning rate is one at which the weights learn, also after ``step``."""
    losses = [row["loss"] for row in read_log(home / "generator/model/loss.csv")]
    first, last = (sum(part) / len(part) for part in (losses[: len(losses) // 4], losses[-(len(losses) // 4) :]))
    print(f"loss {first:.3f} in the first quarter, {last:.3f} in the last one")
    assert last < 0.8 * first


def apart(results: Path, others: Path, step: int) -> tuple[float, float]:
    """The largest relative difference of the losses from ``step`` on, and of a weight that the losses depend on, by its
    tensor's largest. Jobs of a cluster may have other numbers of threads, whose sums round otherwise."""
    homes = [place / "generator" / "model" for place in (results, others)]
    rows = [{row["step"]: row["loss"] for row in read_log(home / "loss.csv") if row["step"] >= step} for home in homes]
    assert rows[0].keys() == rows[1].keys() and len(rows[0]) > 2
    losses = max(abs(loss - rows[1][number]) / abs(rows[1][number]) for number, loss in rows[0].items())
    found, expected = ({name: load_file(home / name) for name in FILES} for home in homes)
    weights = 0.0
    for file, tensors in expected.items():
        assert tensors.keys() == found[file].keys()
        for name, value in tensors.items():
            if MOVED_BY_NOTHING.search(name):
                continue
            off, largest = (found[file][name] - value).abs().max(), value.abs().max()
            weights = max(weights, float(off / largest) if off else 0.0)
    return losses, weights


def trained(
    project: Path, name: str, settings: dict, processes: int, checkpoint: Path | None = None, step: int = 0
) -> Path:
    """A folder of results with a training of its own, which goes on from ``checkpoint`` as the one of ``step``."""
    results, file = project / name, project / f"{name}.yaml"
    results.mkdir()
    for stage in ("latents", "control"):
        (results / stage).symlink_to(project / "results" / stage)
    file.write_text(yaml.safe_dump(settings | {"manifest": "short.csv"}))
    if checkpoint:
        config = Config(**settings | {"results": results})
        parts = there(PIPELINE["generator"], read_manifest(project / "short.csv"), config)
        shutil.copytree(checkpoint, Model(PIPELINE["generator"], config, parts).work / "checkpoints" / f"step-{step}")
    command = [sys.executable, "-m", "expportrait", "generator", "--processes", processes, "--settings", file,
               "--results", results, "--device", "cpu"]  # fmt: skip
    done = subprocess.run([*map(str, command)], cwd=project, env=os.environ | {"OMP_NUM_THREADS": "1"},
                          stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert done.returncode == 0 and (not checkpoint or f"goes on from step {step} of" in done.stderr), done.stderr
    return results
