"""Frames a second of the geometry estimators, of their bare model calls, and of the path from crop to geometry.

``python benchmarks/estimators.py [--frames 16] [--device cpu] [--settings my.yaml] [--busy 60] [--large 2]``: with the
files that the settings name for their estimator; without settings, files of the published interfaces that hold no
weights, so that the figures are those of everything around the model, and stand-ins that cost what a real one costs
(slow_networks.py). Everything is timed in one process, one after the other; the better of two times counts.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import cv2
import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.geometry_scenes import make_scene
from benchmarks.slow_networks import Busy, vit_base
from tests.estimators import networks

from expportrait.config import Config
from expportrait.configfile import read_config, read_yaml
from expportrait.estimators.david import SIDE, DavidEstimator
from expportrait.estimators.dense import BATCH
from expportrait.estimators.geometry import GeometryEstimator, load_estimator
from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.mediapipe import LandmarkDetector
from expportrait.estimators.occlusion import Occlusion
from expportrait.estimators.sapiens import HEIGHT, WIDTH, SapiensEstimator
from expportrait.manifest import Row
from expportrait.stage import run
from expportrait.stages import crop, geometry, landmarks

SIZE = 512


def clip(count: int) -> np.ndarray:
    """(T,S,S,3) u8: a dressed rendered head, drifting by a pixel a frame."""
    frame = make_scene(load_head(), 1, SIZE).frame
    return np.stack([np.roll(frame, t % 8, 1) for t in range(count)])


def seconds(call: Callable[[], object]) -> float:
    """The better of two, after one that does not count."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def bare(estimator: GeometryEstimator, count: int) -> Callable[[], object] | None:
    """The same number of frames through the networks alone, in the estimator's batches, from inputs that are ready."""
    steps = [min(BATCH, count - first) for first in range(0, count, BATCH)]
    if isinstance(estimator, DavidEstimator):
        images = np.full((BATCH, 3, SIDE, SIDE), 0.5, np.float32)
        return lambda: [net(images[:n]) for n in steps for net in estimator.networks.values()]
    if isinstance(estimator, SapiensEstimator):
        images = torch.zeros(BATCH, 3, HEIGHT, WIDTH, device=estimator.device)

        @torch.inference_mode()
        def call() -> None:
            for n in steps:
                for net in estimator.networks.values():
                    net(images[:n]).cpu()

        return call
    return None


def estimators(config: Config | None, folder: Path, device: str) -> dict[str, GeometryEstimator]:
    """By what the table calls them."""
    if config is not None:
        name = config.geometry.estimator
        return {name: load_estimator(name, config.head, config.geometry, device)}
    empty = Config(geometry={"estimator": "embedded"})
    return {
        "embedded": load_estimator("embedded", empty.head, empty.geometry, device),
        "david, three files without weights": DavidEstimator(networks.david(folder), device),
        "david, multi-task file without weights": DavidEstimator(
            {"model": networks.david_multitask(folder / "all.onnx")}, device
        ),
        "sapiens, files without weights": SapiensEstimator(networks.sapiens(folder), device),
    }


def path(pictures: np.ndarray, config: Config, device: str, estimator: GeometryEstimator | None) -> dict[str, float]:
    """Seconds of each stage from crop to geometry, stores written; of geometry with its own models, loaded before."""
    source = config.results / "clip"
    source.mkdir(parents=True)
    for t, frame in enumerate(pictures):
        cv2.imwrite(str(source / f"{t:05}.png"), frame[..., ::-1])
    last = geometry.STAGE
    if estimator is not None:
        tools = SimpleNamespace(estimator=estimator, occlusion=Occlusion(config.geometry.hands_every))
        last = replace(last, load=lambda *_: tools)
    spent = {}
    for stage in (crop.STAGE, landmarks.STAGE, last):
        start = time.perf_counter()
        outcome = run(stage, [Row("clip", "test", "clip", source)], config, device)["clip"]
        if outcome.status != "ok":
            sys.exit(f"{stage.name}: {outcome.why}")
        spent[stage.name] = time.perf_counter() - start
    return spent


def main(
    frames: Annotated[int, typer.Option(min=2)] = 16,
    device: str = "cpu",
    settings: Annotated[Path | None, typer.Option(help="YAML that names an estimator and its files.")] = None,
    busy: Annotated[float, typer.Option(help="Stand-in for a device: ms a frame that it is busy; 0: none.")] = 60,
    large: Annotated[int, typer.Option(help="Frames through a stand-in of DAViD's base size; 0: none.")] = 2,
) -> None:
    """Print the tables."""
    config = None if settings is None else read_config((str(settings), read_yaml(settings)))
    pictures = clip(frames)
    points, found, certainty = LandmarkDetector().detect(pictures)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{frames} frames of {SIZE} px, {torch.get_num_threads()} threads, {device}\n")
        print("| estimator | frames/s | its model calls alone, frames/s | ratio |\n| --- | --- | --- | --- |")

        def row(title: str, estimator: GeometryEstimator, count: int) -> float | None:
            given = pictures[:count], points[:count], ~found[:count], certainty[:count]
            whole = seconds(lambda: list(estimator.batches(*given)))
            call = bare(estimator, count)
            alone = seconds(call) if call else None
            text = f"{count / alone:.2f} | {alone / whole:.2f}" if alone else "– | –"
            print(f"| {title} | {count / whole:.2f} | {text} |", flush=True)
            return alone

        for title, estimator in estimators(config, folder, device).items():
            alone = row(title, estimator, frames)
        if config is None and large:
            slow = DavidEstimator({"model": vit_base(folder / "base.onnx")}, device)
            row(f"david, multi-task, a transformer of base size without weights ({large} frames)", slow, large)
        given = None
        if config is None and busy:
            given = DavidEstimator({"model": folder / "all.onnx"}, device)
            given.networks = {"model": Busy(given.networks["model"], busy / 1e3)}
            alone = row(f"david, multi-task, a device that is busy for {busy:g} ms a frame", given, frames)

        files = {} if config else networks.david(folder)
        config = config or Config(geometry=files)
        config = config.model_copy(update={"results": folder / "results"})
        spent = path(pictures, config, device, given)
        print("\n| stage, store written | frames/s | model calls alone over it |\n| --- | --- | --- |")
        for title, total in [*spent.items(), ("crop to geometry", sum(spent.values()))]:
            ratio = f"{alone / total:.2f}" if alone and title not in ("crop", "landmarks") else "–"
            print(f"| {title} | {frames / total:.1f} | {ratio} |")


if __name__ == "__main__":
    typer.run(main)
