"""Frames a second of the geometry estimators, of their bare model calls, and of the path from crop to geometry.

``python benchmarks/estimators.py [--frames 16] [--device cpu] [--settings my.yaml]``: with the files that the settings
name for their estimator; without settings, files of the published interfaces that hold no weights, so that the figures
are those of everything around the model. Everything is timed in one process, one after the other, twice; the better
time counts.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.geometry_scenes import make_scene
from tests.estimators import networks

from expportrait.config import Config
from expportrait.configfile import read_config, read_yaml
from expportrait.estimators.david import SIDE, DavidEstimator
from expportrait.estimators.dense import BATCH
from expportrait.estimators.geometry import GeometryEstimator, load_estimator
from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.mediapipe import LandmarkDetector
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


def main(
    frames: Annotated[int, typer.Option(min=2)] = 16,
    device: str = "cpu",
    settings: Annotated[Path | None, typer.Option(help="YAML that names an estimator and its files.")] = None,
) -> None:
    """Print the two tables."""
    config = None if settings is None else read_config((str(settings), read_yaml(settings)))
    pictures = clip(frames)
    points, found, certainty = LandmarkDetector().detect(pictures)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{frames} frames of {SIZE} px, {torch.get_num_threads()} threads, {device}\n")
        print("| estimator | frames/s | its model calls alone, frames/s | ratio |\n| --- | --- | --- | --- |")
        for title, estimator in estimators(config, folder, device).items():
            whole = seconds(lambda e=estimator: list(e.batches(pictures, points, ~found, certainty)))
            call = bare(estimator, frames)
            alone = seconds(call) if call else None
            text = f"{frames / alone:.1f} | {alone / whole:.2f}" if alone else "– | –"
            print(f"| {title} | {frames / whole:.1f} | {text} |", flush=True)

        source = folder / "clip"
        source.mkdir()
        for t, frame in enumerate(pictures):
            cv2.imwrite(str(source / f"{t:05}.png"), frame[..., ::-1])
        files = {} if config else networks.david(folder)
        config = config or Config(geometry=files)
        config = config.model_copy(update={"results": folder / "results"})
        print("\n| stage | frames/s |\n| --- | --- |")
        total = 0.0
        for stage in (crop, landmarks, geometry):
            start = time.perf_counter()
            outcome = run(stage.STAGE, [Row("clip", "test", "clip", source)], config, device)["clip"]
            if outcome.status != "ok":
                sys.exit(f"{stage.STAGE.name}: {outcome.why}")
            spent = time.perf_counter() - start
            total += spent
            print(f"| {stage.STAGE.name}, models loaded and stores written | {frames / spent:.1f} |")
        print(f"| crop to geometry | {frames / total:.1f} |")


if __name__ == "__main__":
    typer.run(main)
