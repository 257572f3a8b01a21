"""Whether the generator earns its place on real footage: trained on the first 70 % of two clips, tested on the rest.

    python benchmarks/earn.py CLIPS [--work FOLDER] [--every 3] [--steps 300] [--seeds 3] [--json FILE] [--picture FILE]

CLIPS has the films that real_films.py names. Both clips train one tiny generator of the demo's settings; windows and
reference portraits lie in the first 70 % of the frames. Then each clip's first frame is its portrait, its own motion
drives it, and the last 30 % are compared with the truth: by the generator, by the appearance alone, by the portrait
held still.
"""

import json
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import real_films as films
from expportrait.engine.loop import run
from expportrait.files import new_folder
from expportrait.generator.codec import resize
from expportrait.generator.data import CARRIED, Windows, control_channels
from expportrait.generator.files import build, save_generator
from expportrait.generator.model import ModelConfig
from expportrait.generator.train import train
from expportrait.manifest.clips import read_manifest
from expportrait.manifest.pairs import read_pairs
from expportrait.metrics.pair import measure
from expportrait.metrics.tools import Tools
from expportrait.settings.config import Config
from expportrait.settings.files import read_config
from expportrait.stages import job, reenact, with_code
from expportrait.store import Store
from expportrait.video.write import write_mp4

ROOT = Path(__file__).resolve().parents[1]
CLIPS = {"expressive": "expressive_512.mp4", "landscape": "landscape_1280x720.mp4"}
TRAINED_ON = 0.7  # of a clip's frames
METHODS = ("generated", "appearance alone", "copy reference")


def prepared(source: Path, work: Path, every: int, steps: int) -> tuple[Config, list, list]:
    """The settings, clips and pairs of a run in ``work``: every so many frames of each film, driven by itself."""
    lines = ["clip,dataset,source,person,split"]
    for clip, name in CLIPS.items():
        short = work / f"{clip}.mp4"
        if not short.exists():
            write_mp4(short, [np.ascontiguousarray(f) for f in films.film(str(source / name), every)], 30 / every)
        lines.append(f"{clip},earn,{short},{clip},train")
    (work / "clips.csv").write_text("\n".join(lines) + "\n")
    (work / "pairs.csv").write_text("target,driver\n" + "".join(f"{clip},{clip}\n" for clip in CLIPS))
    settings = yaml.safe_load((ROOT / "data_manifest.yaml").read_text("utf-8"))
    tables = {"manifest": str(work / "clips.csv"), "pairs": str(work / "pairs.csv")}
    settings |= tables | {"results": str(work / "results"), "shards": {}}
    settings["generator"] |= {"steps": steps}
    settings["drive"] = {"offsets": "copy"}  # its own
    config = read_config(("data_manifest.yaml", settings))
    rows = read_manifest(config.manifest)
    return config, rows, read_pairs(config.pairs, rows)


def early(config: Config) -> Windows:
    """The windows, with the references, of the first part of each clip alone."""
    paths = [
        {clip: config.results / name / f"{clip}.zarr" for clip in CLIPS} for name in ("latents", "control", "carry")
    ]
    windows = Windows(*paths[:2], config.generator.maps, paths[2])
    known = {}
    for clip in CLIPS:
        about = Store(paths[0][clip]).attrs
        end = int(TRAINED_ON * about["frames"])
        for window, start in enumerate(about["starts"]):
            seen = [about["references"][r] < end for r in Store(paths[2][clip]).attrs["portraits"][window]]
            known[clip, window] = start + about["window"] <= end and all(seen)
    windows.table = [row for row in windows.table if known[row]]
    return windows


def trained(config: Config, windows: Windows, work: Path) -> float:
    """Trains the generator where the stage would have put it; returns CPU seconds."""
    s, codec, clock = config.generator, windows.made_by["codec"], time.process_time()
    grid = codec["channels"], control_channels(s.maps), codec["time"], codec["space"]
    carried = {name: name in s.maps for name in CARRIED}
    model = build(ModelConfig(s.preset, *grid, s.reference, s.prediction, **carried), None, s.seed)
    model, key = train(model, windows, s, work / f"train-{s.steps}-{s.seed}", "cpu"), f"earn {s.steps} {s.seed}"
    home = config.results / "generator"
    with new_folder(home / "model") as folder:
        save_generator(folder, model, {"key": key, "maps": s.maps, "precision": s.precision, **windows.made_by})
    (home / "index.json").write_text(json.dumps({"status": "ok", "key": key, "why": "", "clips": {}}))
    return time.process_time() - clock


def psnr(error: np.ndarray) -> float:
    return float(-10 * np.log10(error.mean() / 255**2)) if error.size else float("nan")


def compared(config: Config, clip: str, tools: Tools) -> tuple[dict[str, dict[str, float]], list[np.ndarray]]:
    """Method -> figures over the frames that were not trained on; and pictures of truth, appearance, generator."""
    name = f"{clip}__{clip}"
    made = Store(config.results / "reenact" / f"{name}.zarr")["frames"]
    carried, size = Store(config.results / "appearance" / f"{name}.zarr"), made.shape[1]
    truth = resize(Store(config.results / "crop" / f"{clip}.zarr")["frames"], size)
    rest = slice(int(TRAINED_ON * len(truth)), None)
    seen = resize(carried["seen"], size)[rest]
    moved = resize(carried["appearance"], size)
    pictures = {"generated": made, "appearance alone": moved, "copy reference": truth[:1].repeat(len(truth), 0)}
    scores = measure(tools, made[rest], truth[rest], truth[0], True, None, moved[rest])
    out = {}
    for method in METHODS:
        error = ((pictures[method][rest].astype(np.float32) - truth[rest]) ** 2).mean(-1)
        values = {key: float(np.nanmean(scores[method].values[key])) for key in ("lpips", "aed", "csim")}
        out[method] = {"psnr": psnr(error), "seen < .5": psnr(error[seen < 128]), "seen 1": psnr(error[seen >= 250]),
                       **values}  # fmt: skip
    strip = [np.hstack([film[t] for film in (truth, moved, made)])
             for t in np.linspace(rest.start, len(truth) - 1, 4).astype(int)]  # fmt: skip
    return out, strip


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """Clip -> method -> figures, as Markdown."""
    columns = [*next(iter(found.values()))["generated"]]
    lines = [f"| clip | | {' | '.join(columns)} |", f"| --- | --- |{' --- |' * len(columns)}"]
    lines += [f"| {clip} | {method} | {' | '.join(f'{values[c]:.3f}' for c in columns)} |"
              for clip, figures in found.items() for method, values in figures.items()]  # fmt: skip
    return "\n".join(lines)


def gains(by_seed: list[dict[str, dict[str, dict[str, float]]]]) -> str:
    """By how much the generator is better than the appearance, dB: each seed, and their mean."""
    lines = []
    for clip, part in product(CLIPS, ("seen < .5", "seen 1")):
        values = [one[clip]["generated"][part] - one[clip]["appearance alone"][part] for one in by_seed]
        lines.append(f"{clip}, {part}: {', '.join(f'{v:+.2f}' for v in values)}; mean {np.mean(values):+.2f} dB")
    return "\n".join(lines)


def main(
    clips: Path,
    work: Annotated[Path | None, typer.Option(help="kept, so that a second call goes on")] = None,
    every: int = 3,
    steps: int = 300,
    seeds: Annotated[int, typer.Option(help="trainings, each from other random numbers")] = 1,
    out: Annotated[Path | None, typer.Option("--json")] = None,
    picture: Annotated[Path | None, typer.Option(help="truth, appearance, generator of both clips, last seed")] = None,
) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = (work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        config, rows, pairs = prepared(clips.resolve(), work, every, steps)
        for name in ("crop", "landmarks", "geometry", "proxy", "control", "latents", "carry", "drive", "appearance"):
            for stage in job(name, config):
                for clip, outcome in run(stage, stage.members(rows, pairs), config).items():
                    if outcome.status != "ok":
                        raise SystemExit(f"{name} {clip}: {outcome.why}")
        windows, tools = early(config), Tools.load(config.evaluate, "cpu")
        by_seed, strips = [], {}
        for seed in range(seeds):
            own = config.model_copy(update={"generator": config.generator.model_copy(update={"seed": seed})})
            seconds = trained(own, windows, work)
            reenact.trained.cache_clear()
            run(with_code("reenact"), pairs, own)
            found = {clip: compared(own, clip, tools) for clip in CLIPS}
            by_seed.append({clip: figures for clip, (figures, _) in found.items()})
            strips = {clip: strip for clip, (_, strip) in found.items()}
            about = f"{len(windows)} windows, {steps} steps, seed {seed}, {seconds:.0f} CPU s"
            print(f"{about}, {time.strftime('%Y-%m-%d')}\n\n{table(by_seed[-1])}\n", flush=True)
    print(gains(by_seed))
    if out:
        out.write_text(json.dumps({"windows": len(windows), "steps": steps, "seeds": by_seed}, indent=1) + "\n")
    if picture:
        cv2.imwrite(str(picture), np.vstack([row for strip in strips.values() for row in strip])[..., ::-1])


if __name__ == "__main__":
    typer.run(main)
