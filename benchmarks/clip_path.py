"""The stages from crop to geometry, for ``estimators.py``: one after the other, and all at once on different clips."""

import multiprocessing
import os
import shutil
import sys
import time
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from benchmarks.slow_networks import Busy

from expportrait.engine.loop import run
from expportrait.engine.stage import Stage
from expportrait.estimators.geometry.david import DavidEstimator
from expportrait.estimators.occlusion import Occlusion
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.video.write import write_mp4

STAGES = {name: with_code(name) for name in ("crop", "landmarks", "geometry")}


def films(pictures: np.ndarray, clips: int, folder: Path) -> list[Path]:
    """Clips of the same (T,S,S,3) u8."""
    files = [folder / f"clip{k}.mp4" for k in range(clips)]
    for file in files:
        write_mp4(file, pictures, 25)
    return files


def prepared(name: str, config: Config, device: str, stand_in: tuple[Path, float] | None) -> tuple[Stage, str]:
    """A stage with its models in memory, and its device. ``stand_in``: a file, and the seconds a frame for which a
    device is busy with it. The stage is told that this is a GPU, for which it reads, packs and computes at once."""
    stage = STAGES[name]
    if name == "geometry" and stand_in:
        estimator = DavidEstimator({"model": stand_in[0]})
        estimator.networks = {"model": Busy(estimator.networks["model"], stand_in[1])}
        loaded = SimpleNamespace(estimator=estimator, occlusion=Occlusion(config.geometry.hands_every))
        device = "cuda"
    else:
        loaded = stage.load(stage.settings(config), device)
    return replace(stage, load=lambda *_: loaded), device


def seconds(stage: Stage, device: str, config: Config, clips: list[Path]) -> tuple[float, float]:
    """Wall and CPU, stores written."""
    rows = [Row(file.stem, "test", "clip", file) for file in clips]
    start, cpu = time.perf_counter(), time.process_time()
    for clip, outcome in run(stage, rows, config, device).items():
        if outcome.status != "ok":
            sys.exit(f"{stage.name} {clip}: {outcome.why}")
    return time.perf_counter() - start, time.process_time() - cpu


def alone(config: Config, clips: list[Path], device: str, stand_in: tuple[Path, float] | None) -> dict:
    """(wall, CPU) s of each stage, one after the other."""
    return {name: seconds(*prepared(name, config, device, stand_in), config, clips) for name in STAGES}


def at_once(config: Config, clips: list[Path], device: str, stand_in: tuple[Path, float] | None) -> dict:
    """(wall, CPU) s of each stage in a process of its own, each over all clips, whose parents ``alone`` has left."""
    spawn = multiprocessing.get_context("spawn")
    start, found = spawn.Barrier(len(STAGES)), spawn.Queue()
    jobs = []
    for name, stage in STAGES.items():
        own = config.model_copy(update={"results": config.results.with_name(f"for-{name}")})
        for parent in stage.parents:
            shutil.copytree(config.results / parent, own.results / parent)
        jobs.append(spawn.Process(target=_job, args=(name, own, clips, device, stand_in, start, found)))
        jobs[-1].start()
    out = dict(found.get() for _ in jobs)
    for job in jobs:
        job.join()
    return out


def _job(
    name: str, config: Config, clips: list[Path], device: str, stand_in: tuple[Path, float] | None, start: Barrier,
    found: Queue,
) -> None:  # fmt: skip
    try:
        ready = prepared(name, config, device, stand_in)
        start.wait()
        found.put((name, seconds(*ready, config, clips)))
    except BaseException:
        start.abort()
        found.put((name, (np.nan, np.nan)))
        raise


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"
