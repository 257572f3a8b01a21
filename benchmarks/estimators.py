"""Frames a second of the geometry estimators, of their bare model calls, and of the path from crop to geometry.

``python benchmarks/estimators.py [--frames 16] [--clips 2] [--device cpu] [--settings my.yaml] [--busy 60]``: with the
files that the settings name for their estimator; without settings, files of the published interfaces that hold no
weights, so that the figures are those of everything around the model, and a stand-in for a device that is busy
(slow_networks.py; networks of the real ones' arithmetic: estimator_cost.py). The estimators are timed in one process,
one after the other; the better of two times counts. The path is timed once, its stages one after the other
(clip_path.py), and then all at once on different clips, as a workflow runs them when the processor's jobs of some
shards stand beside the device's job of another.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.geometry_scenes import make_scene
from benchmarks.slow_networks import Busy

from benchmarks import clip_path
from benchmarks import stand_in_networks as networks
from expportrait.estimators.geometry.base import GeometryEstimator
from expportrait.estimators.geometry.david import SIDE, DavidEstimator
from expportrait.estimators.geometry.dense import BATCH
from expportrait.estimators.geometry.registry import load_estimator
from expportrait.estimators.geometry.sapiens import SapiensEstimator
from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.estimators.sapiens_network import HEIGHT, WIDTH
from expportrait.settings.config import Config
from expportrait.settings.files import read_config, read_yaml

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
    busy: Annotated[float, typer.Option(help="Stand-in for a device: ms a frame that it is busy; 0: none.")] = 60,
    clips: Annotated[int, typer.Option(min=1, help="On the path from crop to geometry, one after the other.")] = 2,
    only_path: bool = False,
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

        listed = {} if only_path else estimators(config, folder, device)
        for title, estimator in listed.items():
            alone = row(title, estimator, frames)
        stand_in = None
        if config is None and busy:
            stand_in = networks.david_multitask(folder / "all.onnx"), busy / 1e3
            given = DavidEstimator({"model": stand_in[0]}, device)
            given.networks = {"model": Busy(given.networks["model"], stand_in[1])}
            alone = row(f"david, multi-task, a device that is busy for {busy:g} ms a frame", given, frames)

        files = {} if config else networks.david(folder)
        config = (config or Config(geometry=files)).model_copy(update={"results": folder / "results"})
        films, total = clip_path.films(pictures, clips, folder), clips * frames
        print(
            "\n| stage, store written | frames/s | CPU ms a frame | model calls alone over it |\n" + "| --- " * 4 + "|"
        )

        def line(title: str, wall: float, cpu: float, counts: bool) -> None:
            ratio = f"{alone * clips / wall:.2f}" if alone and counts else "–"
            print(f"| {title} | {total / wall:.1f} | {1e3 * cpu / total:.0f} | {ratio} |", flush=True)

        for where, measure in (("", clip_path.alone), (", all at once", clip_path.at_once)):
            spent = measure(config, films, device, stand_in)
            for title, (wall, cpu) in spent.items():
                line(title + where, wall, cpu, title == "geometry")
            walls = [wall for wall, _ in spent.values()]
            wall = max(walls) if where else sum(walls)
            line(
                f"crop to geometry{where or ', one after the other'}", wall, sum(cpu for _, cpu in spent.values()), True
            )
        print(f"\n{clips} clips, {clip_path.load()}")


if __name__ == "__main__":
    typer.run(main)
