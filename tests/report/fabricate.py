"""A small run: real head, real rendering, made-up estimates and fits, written through the project's own stores."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import save_file

from expportrait.engine.looks import HELD_OUT, NOISE, write_looks
from expportrait.engine.record import Outcome, write_index, write_json
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.result import ProxyFit
from expportrait.fit.store import FittedHead, load_proxy, save_proxy
from expportrait.head import Head
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import pair_row
from expportrait.metrics.pair import CARRIED, COPY, FLOOR, METHODS, METRICS, NO_TRUTH, PICTURE, RUN, Scores
from expportrait.render import render
from expportrait.render.picture import shade_image
from expportrait.settings.config import Config
from expportrait.stages import PER_CLIP as ALL
from expportrait.stages import PER_PAIR, made
from expportrait.store import Store, StoreWriter, encode_normals
from expportrait.video.write import write_mp4

HEAD = {"subdivisions": 0, "shape_components": 4, "expression_components": 4}
NO_FACE = "no face in any frame; give the clip a box or remove it"
PER_CLIP = (*made(ALL, Config()),)  # at the shipped settings


def row(clip: str, dataset: str = "demo", person: str = "") -> Row:
    return Row(clip, dataset, f"{clip}.mp4", Path(f"{clip}.mp4"), person=person or clip)


@cache
def load_head() -> Head:
    return Head.load(**HEAD)


def make_proxy(file: Path, head: Head, frames: int, size: int, aside: slice = slice(0, 0)) -> FittedHead:
    """A head that turns, with a bump on its scalp, and a loss that falls; frames ``aside`` have guessed landmarks."""
    parameters = HeadParameters.neutral(head, frames, size, 3.0 * size)
    turns = torch.zeros(frames, 10, 3)
    turns[:, 2, 1] = 0.4 * torch.sin(torch.arange(frames) / max(1, frames - 1) * 6.28)
    parameters.set_pose(turns, torch.tensor([[0.0, -0.08, -1.6]]).expand(frames, 3))
    static = 0.01 * (head.dense.template[:, 1:2] > 0.2) * torch.tensor([0.0, 1.0, 0.0])
    vertices = torch.arange(5)
    plan = [("rigid", 20), ("landmarks", 20), ("coarse", 30), ("static", 30), ("dynamic", 30)]
    steps = [(name, k) for name, count in plan for k in range(count)]
    surface = ("coarse", "static", "dynamic")
    own = {"normal": surface, "expression": ("landmarks", "coarse"), "temporal_pose": ("rigid", "landmarks", "coarse")}
    own |= {"static_laplacian": ("static", "dynamic")}
    losses = [
        (
            name,
            {"total": 3 * math.exp(-i / 40) + 0.1}
            | {term: 0.5 * math.exp(-k / 20) for term, where in own.items() if name in where},
        )
        for i, (name, k) in enumerate(steps)
    ]
    noise = torch.rand(frames, generator=torch.Generator().manual_seed(0))
    errors = {"landmark": 0.015 + 0.01 * noise, "normal_deg": 8 + 2 * noise, "overlap": 0.95 - 0.02 * noise}
    fit = ProxyFit(parameters, static, torch.zeros(frames, 5, 3), vertices, losses, errors)
    fit.landmarks_aside = torch.zeros(frames, dtype=torch.bool)
    fit.landmarks_aside[aside] = True
    with StoreWriter(file, {"key": f"proxy-{file.stem}", "settings": {"head": HEAD}}) as out:
        save_proxy(out, fit, head)
        out.attrs(seconds={"landmarks": 1.5, "coarse": 4.0})
    return load_proxy(Store(file), head)


def make_clip(
    results: Path, clip: str, frames: int = 6, size: int = 96, stages: tuple[str, ...] = PER_CLIP, fps: float = 25.0
) -> None:
    """The stores of one clip, up to the last of ``stages``."""
    head = load_head()
    posed = make_proxy(results / "proxy" / f"{clip}.zarr", head, frames, size)
    maps = render(posed.vertices(), head.dense_faces, posed.camera)
    normals, coverage = maps.normals.numpy(), maps.coverage.numpy()
    backdrop = np.array([70, 110, 150], np.uint8)
    images = np.stack(
        [np.where(c[..., None] > 0, shade_image(n, c), backdrop) for n, c in zip(normals, coverage, strict=True)]
    )
    points = np.zeros((frames, 478, 3), np.float32)
    seen = posed.camera.project(posed.vertices()[:, :: len(head.dense.template) // 477][:, :478])
    points[..., :2] = seen.numpy()
    interpolated = np.arange(frames) == 1
    written = {
        "crop": {"frames": images, "timestamps": np.arange(frames) / fps},
        "landmarks": {"points": points, "confidence": np.ones(frames, np.float32), "interpolated": interpolated},
        "geometry": {"normals": encode_normals(normals), "mask": (255 * coverage).astype(np.uint8)},
        "control": {"normals": encode_normals(normals), "coverage": (255 * coverage).astype(np.uint8)},
        "latents": {"windows": np.zeros((1, 4, 1, 2, 2), np.float16)},
    }
    attrs = {
        "crop": {
            "source": f"{clip}.mp4",
            "source_size": [640, 360],
            "fps": fps,
            "box": [100.4, 20.0, 420.0, 339.6],
            "rotated": 90,
            "padded": [0, 0, 0, 4],
            "shots": [[0, 30], [30, 60]],
            "shot": [30, 30 + frames],
            "face": 150.2,
            "face_coverage": 0.9,
        },
        "landmarks": {"detector": "mediapipe 0.10.14"},
    }
    for stage in stages:
        if stage in written:
            with StoreWriter(
                results / stage / f"{clip}.zarr", {"key": f"{stage}-{clip}"} | attrs.get(stage, {})
            ) as out:
                for name, array in written[stage].items():
                    out.array(name, array)


def index_all(results: Path, shards: dict[str, list[Row]], made: dict[str, dict[str, Outcome]]) -> None:
    """Write indexes: clips in ``made`` as given there (stages left out are not in the index), others ok throughout."""
    for stage in PER_CLIP:
        for shard, members in shards.items():
            index = {r.clip: made.get(r.clip, {}).get(stage, Outcome("ok", f"{stage}-{r.clip}")) for r in members}
            write_index(results / stage / f"{shard}.json", index)


def failed_at(stage: str, why: str) -> dict[str, Outcome]:
    """Failed in ``stage``, skipped afterwards."""
    at = PER_CLIP.index(stage)
    return {stage: Outcome("failed", "k", why)} | {
        s: Outcome("skipped", None, f"{stage}: {why}") for s in PER_CLIP[at + 1 :]
    }


# the second half: trainings, pairs, evaluation


def pair(target: str, driver: str) -> Row:
    return pair_row(row(target), row(driver))


def make_pair(
    results: Path, target: str, driver: str, stages: tuple[str, ...] = PER_PAIR, fps: float = 25.0, seen: int = 255,
    name: str = "", **drive: object,
) -> None:  # fmt: skip
    """The stores of a pair of clips from ``make_clip``, up to the last of ``stages``, by its ``name``, with further
    settings of the section ``drive``. The generator turns the driver upside down."""
    name = name or f"{target}__{driver}"
    control, crop = (Store(results / stage / f"{driver}.zarr") for stage in ("control", "crop"))
    about = {"target": target, "driver": driver, "reference": 0}
    settings = {"drive": {"offsets": "transfer", "target_proxy": "image", "pose": "absolute"} | drive}
    with StoreWriter(results / "drive" / f"{name}.zarr", {"key": f"drive-{name}", "settings": settings}) as out:
        out.array("normals", control["normals"])
        out.array("coverage", control["coverage"])
        out.attrs(**about)
    if "appearance" in stages:
        with StoreWriter(results / "appearance" / f"{name}.zarr", {"key": f"appearance-{name}"}) as out:
            out.array("appearance", crop["frames"])
            out.array("seen", np.full(crop["frames"].shape[:3], seen, np.uint8))
            out.attrs(fps=fps, **about)
    if "reenact" in stages:
        made = crop["frames"][:, ::-1]
        settings = {"reenact": {"steps": 8, "seed": 3}}
        with StoreWriter(results / "reenact" / f"{name}.zarr", {"key": f"reenact-{name}", "settings": settings}) as out:
            out.array("frames", made)
            out.attrs(fps=fps, **about)


def index_pairs(results: Path, shards: dict[str, list[Row]], made: dict[str, dict[str, Outcome]]) -> None:
    """Like ``index_all``."""
    for stage in PER_PAIR:
        for shard, members in shards.items():
            index = {r.clip: made.get(r.clip, {}).get(stage, Outcome("ok", f"{stage}-{r.clip}")) for r in members}
            write_index(results / stage / f"{shard}.json", index)


def make_trainings(results: Path, steps: int = 60) -> None:
    """What the stages transfer and generator leave behind, without a network."""
    at = np.arange(steps)
    curves = {"loss": 0.03 + 0.1 * np.exp(-at / 9), "offset": 0.02 + 0.09 * np.exp(-at / 9), "zero": 0.11 + 0 * at}
    figures = {
        "train": {"clips": 2, "error": 0.02, "zero": 0.1, "explained": 0.8},
        "held_out_persons": {"clips": 1, "error": 0.07, "zero": 0.1, "explained": 0.3},
        "unseen_clips": "not available: no other clip",
    }
    weights = {"a": np.zeros((300, 100), np.float16), "b": np.zeros(7, np.float32)}
    index = {"status": "ok", "why": "", "clips": {"full": "k", "second": "k"}}
    home = results / "transfer"
    curves = {name: values.tolist() for name, values in curves.items()}
    write_json(home / "model" / "training.json", {"key": "t", "unit": "mm", "curves": curves, "figures": figures})
    save_file(weights, home / "model" / "model.safetensors")
    write_json(home / "index.json", index | {"key": "t", "evaluated": {}})
    home = results / "generator"
    about = {
        "model": {"preset": "tiny", "prediction": "x0", "reference": "both"},
        "codec": {"codec": "linear", "channels": 96, "time": 4, "space": 8},
        "key": "g", "maps": ["normals", "coverage"], "precision": "no", "steps": steps, "window": 9, "size": 96,
        "control_sensitivity": {"right": 0.02, "wrong": 0.03, "difference": 0.01},
    }  # fmt: skip
    write_json(home / "model" / "generator.json", about)
    write_log(home / "model" / "loss.csv", steps)
    (home / "model" / "transformer").mkdir()
    save_file(weights, home / "model" / "transformer" / "weights.safetensors")
    save_file(weights, home / "model" / "encoders.safetensors")
    write_json(home / "index.json", index | {"key": "g"})


def write_log(file: Path, steps: int) -> None:
    """The generator's log; its last line is cut short."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{k},{0.04 + 0.1 * math.exp(-k / 9)},0.3,0.001,2.0,0.5" for k in range(steps)]
    head = "step,loss,gradient,learning_rate,seconds,waiting"
    file.write_text("\n".join([head, *lines, f"{steps},0.0"]), "utf-8")


def make_looks(folder: Path, steps: Sequence[int], of: str = HELD_OUT) -> list[dict]:
    """What was seen at looks at a training, with films of three frames; the last but one has no film, the first no
    face."""
    looks = []
    for step in steps:
        losses = {name: (k + 1) * 0.1 + 1 / step for k, name in enumerate(NOISE)}
        film, panels = f"look-{step}.mp4", "portrait control truth generated"
        look = {"step": step, "of": of, "clip": "ann", "loss": 0.2 + 1 / step, **losses, "right": 0.2, "wrong": 0.25,
                "psnr": 20.0 + step / 100, "aed": 0.05, "csim": 0.9, "film": film, "panels": panels, "frames": 3,
                "fps": 25.0, "width": 128, "height": 32, "seconds": 1.5}  # fmt: skip
        missing = ("aed", "csim") if step == steps[0] else ("film", "psnr") if step == steps[-2] else ()
        looks.append({name: value for name, value in look.items() if name not in missing})
        if "film" in looks[-1]:
            write_mp4(folder / film, np.full((3, 32, 128, 3), 80, np.uint8), 25)
            cv2.imwrite(str(folder / f"look-{step}.jpg"), np.full((32, 128, 3), 80, np.uint8))
    write_looks(folder / "looks.csv", looks)
    return looks


def table_rows(target: str, driver: str, why: str = "", psnr: float = 24.5) -> list[dict]:
    """Rows of table.json, as the stage evaluate writes them; with ``why`` those of a pair that was not measured."""
    own = target == driver
    about = {"pair": f"{target}__{driver}", "target": target, "driver": driver, "mode": "self" if own else "cross"}
    if why:
        empty = dict.fromkeys(
            (*METRICS, "reference", "size", "frames", "identical", "no_face", "counted", "trained_on")
        )
        rest = {"backends": {}, "reasons": dict.fromkeys(METRICS, why)}
        return [{"method": method} | about | empty | rest for method in METHODS]
    rows = []
    lower = {RUN: 0, CARRIED: 2, COPY: 5, FLOOR: 10}  # dB
    for method in METHODS:
        values = {"aed": np.array([0.25, np.nan]), "apd": np.array([0.03, 0.05]), "jaw": np.array([0.1, 0.1])}
        values |= (
            {"psnr": np.array([psnr - lower[method]]), "ssim": np.array([0.75]), "l1": np.array([0.05])} if own else {}
        )
        reasons = {"gaze": "the eyes are shut"} | ({} if own else dict.fromkeys(PICTURE, NO_TRUTH))
        faces = {"result": np.array([True, False]), "driver": np.array([True, True])}
        scores = Scores(values, reasons, {"aed": {"tracker": "the project's own"}}, faces)
        measured = {"reference": 0, "size": 96, "frames": 2, "trained_on": ["driver"]}
        rows.append({"method": method} | about | measured | scores.fields())
    return rows
