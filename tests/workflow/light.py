"""The pipeline with code of no weight, for jobs of workflow tests: they run the real commands and the real loop.

A file ``orders/<clip>`` in the working folder, such as "landmarks crash", disturbs one stage of a clip.
"""

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from expportrait import cli
from expportrait.engine.models import Model, there
from expportrait.engine.record import write_json
from expportrait.errors import ClipError
from expportrait.stages import PIPELINE


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


def process(clip, out):
    stage = clip.work.title.split()[0]
    orders = Path("orders", clip.row.clip)
    order = orders.read_text().split() if orders.exists() else []
    if order[:1] == [stage]:
        out.array("half", np.ones(3))
        if order[1] == "wait":
            Path("waiting").write_text(str(os.getpid()))
            while not Path("go").exists():
                time.sleep(0.1)
        else:
            memory = OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
            raise {"reject": ClipError("ordered"), "crash": ValueError("ordered"), "gpu": memory,
                   "full": OSError(28, "disk full")}[order[1]]  # fmt: skip
    for parent in clip.parents.values():
        assert parent["x"].sum() == 3
    worked(clip.work.title)
    out.array("x", np.ones(3))


def measure(clip, out):
    out.write(rows=[], parents=sorted(clip.parents))


def finish(rows, index, config):
    write_json(config.results / PIPELINE["evaluate"].table, {name: outcome.status for name, outcome in index.items()})


def train(stage, rows, config, device):
    made = Model(stage, config, there(stage, rows, config))
    if not made.folder.exists() or made.folder.read_text() != made.key:
        worked(stage.name)
        made.home.mkdir(parents=True, exist_ok=True)
        made.folder.write_text(made.key)
    made.write_index()


def source(clip, out, settings, device):
    worked(f"demo {clip}")
    out.write_text(str(settings))
    out.with_suffix(".npz").write_text(clip)


def page(rows, results, settings, shards, pair_shards):
    file = results / "report" / "index.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(" ".join(sorted(row.clip for row in rows)))
    return file


def worked(what):
    with open("work.log", "a") as log:
        log.write(f"{what}\n")


def main(heavy=()):
    """The command line, on stages of no weight except for those that are ``heavy``."""
    for name, stage in PIPELINE.items():
        code = {"process": process} if stage.form == "zarr" else {"process": measure, "finish": finish}
        if stage.kind not in ("clip", "pair"):
            code = {"run": {"source": source, "model": partial(train, stage), "page": page}[stage.kind]}
        if name not in heavy:
            PIPELINE[name] = replace(stage, **code)
    os.environ["EXPPORTRAIT_DEVICE"] = "cpu"  # so that nobody loads torch to find out
    cli.main()
