"""Steps of the generator's own training, on stores or on noise; on a GPU, a row of figures a kind of step."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from expportrait.engine.log import Rows
from expportrait.generator.bill import make_bill, model_config
from expportrait.generator.data import Batch, Windows
from expportrait.generator.files import build
from expportrait.generator.train import train
from expportrait.settings.config import Config

GIB = 1 << 30
DRAWN = ["normals", "coverage"]
WARM = 3  # first steps, which do not count


class Enough(Exception):
    """Raised to leave a training before it writes a checkpoint."""


def trained(config: Config, some: Windows, steps: int, device: str, seen: Callable[[Rows], None] = len) -> Rows:
    """The log of the first ``steps`` of a training; ``seen`` is told of it after each of them."""
    rows: Rows = []

    def note(row: dict[str, float]) -> None:
        rows.append(row)
        seen(rows)
        if len(rows) == steps:
            raise Enough

    s = config.generator.model_copy(update={"steps": steps + 1, "save_every": steps + 1})
    with torch.device(device):
        model = build(model_config(config), None)
    with tempfile.TemporaryDirectory() as folder:
        try:
            train(model, some, s, Path(folder) / "work", device, seen=note)
        except Enough:
            return rows
    raise AssertionError("the training ended by itself")


class Noise:
    """Windows of noise, for a machine without stores: what a training asks of ``Windows``."""

    def __init__(self, config: Config):
        latents, of = config.latents, model_config(config)
        self.made_by = {"size": latents.size, "window": latents.window}
        grid = of.latent_channels, 1 + (latents.window - 1) // of.time, *[latents.size // of.space] * 2
        self.latents, self.image_latent = torch.randn(1, *grid), torch.randn(1, grid[0], 1, *grid[2:])
        self.image = torch.rand(1, 3, latents.size, latents.size)
        self.control, self.image_control = (
            {"normals": torch.randint(-127, 127, (1, count, latents.size, latents.size, 3), dtype=torch.int8),
             "coverage": torch.randint(0, 255, (1, count, latents.size, latents.size, 1), dtype=torch.uint8)}
            for count in (latents.window, 1)
        )  # fmt: skip

    def __len__(self) -> int:
        return 1000

    def batch(self, indices: Sequence[int], sigma: Tensor, noises: Sequence[torch.Generator],
              references: Sequence[int], kept: Tensor) -> Batch:  # fmt: skip
        noise = torch.randn(self.latents.shape, generator=noises[0])
        return Batch(self.latents, noise, sigma, self.control, self.image, self.image_control, self.image_latent, {},
                     kept, ["noise"], [0])  # fmt: skip


# Frames of a window, attention, what is compiled, what is recomputed: the first two are what is promised
PLANS = [(49, "auto", "none", "selective"), (81, "auto", "none", "selective"), (81, "auto", "inductor", "selective"),
         (81, "_native_cudnn", "none", "selective"), (49, "auto", "none", "none"), (81, "auto", "none", "none"),
         (81, "flash", "none", "selective")]  # fmt: skip


def on_gpu(found: dict, tiny: bool, seconds: float, device: str) -> None:
    """Steps of the training as it is, on random weights and noise, at batch 1: into ``found["steps"]``, a row a plan;
    none is begun after ``seconds``. Then the memory that the bill says, which takes the CPU a while."""
    until, found["steps"] = time.monotonic() + seconds, []
    configs = [planned(tiny, *plan) for plan in PLANS]
    for config in configs:
        s = config.generator
        row = {"frames": config.latents.window, "attention": s.attention, "compiled": s.compile,
               "checkpointing": s.checkpointing}  # fmt: skip
        found["steps"].append(row)
        getattr(found, "keep", lambda: None)()
        if time.monotonic() > until:
            row["error"] = "left out: no time was left"
            continue
        try:
            row |= figures(trained(config, Noise(config), WARM + (2 if tiny else 15), device))
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
    for row, config in zip(found["steps"], configs, strict=True):
        if "error" not in row and time.monotonic() < until:
            bill = make_bill(config, 1)
            row |= {"planned_gib": sum(bill.memory.values()) / GIB, "step_tflop": bill.flop / 1e12}


def planned(tiny: bool, frames: int, attention: str, backend: str, kept: str) -> Config:
    """The settings of one of ``PLANS``."""
    backend = "aot_eager" if tiny and backend == "inductor" else backend
    chosen = {"preset": "tiny" if tiny else "1.3B", "maps": DRAWN, "batch": 1, "attention": attention,
              "compile": backend, "checkpointing": kept}  # fmt: skip
    return Config(latents={"size": 64 if tiny else 512, "window": 9 if tiny else frames}, generator=chosen)


def figures(rows: Rows) -> dict[str, float]:
    """Medians of the log, and the first step's seconds."""
    rest = rows[WARM:]
    middle = {name: statistics.median(row[name] for row in rest) for name in rest[0]}
    seconds = middle["seconds"]
    return {"tokens": int(middle["tokens"]), "seconds": seconds, "tflops": middle["tflops"],
            "times_the_floor": middle["floor"], "peak_gib": max(row["memory"] for row in rows),
            "waiting": middle["waiting"] / seconds, "other": middle["other"] / seconds,
            "first_step_seconds": rows[0]["seconds"]}  # fmt: skip
