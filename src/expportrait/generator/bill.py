"""What a training of the generator will take, before anything is loaded: memory by part, hours, disk.

Weights, gradients and moments are counted on the device ``meta``; what activations take is measured by torch's
MemTracker over one forward and backward pass on fake tensors, which know shapes and hold nothing. Time is a ratio to
that of the transformer's multiplications at the GPU's peak.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from expportrait.errors import UserError
from expportrait.generator.data import CARRIED, MAPS, Batch, control_channels
from expportrait.generator.files import build
from expportrait.generator.flop import PEAKS, step_flop, window_tokens
from expportrait.generator.model import PRESETS, ModelConfig, PortraitTransformer
from expportrait.generator.shard import choose_checkpointing, sharded
from expportrait.generator.train import flow_losses
from expportrait.settings.config import Config, Generator

GIB = 1 << 30
# Memory in bytes, as the driver gives it, and the peak in FLOP/s.
GPUS = {"h100": (79.6 * GIB, PEAKS["h100"]), "h200": (139.8 * GIB, PEAKS["h200"]),
        "a100": (79.3 * GIB, PEAKS["a100"]), "a100-40": (39.4 * GIB, PEAKS["a100"]),
        "l40s": (44.5 * GIB, PEAKS["l40s"]), "4090": (23.6 * GIB, PEAKS["4090"])}  # fmt: skip
OTHER = 2 * GIB  # of CUDA, its libraries and their workspaces
SPARE = 0.06  # of the sum: what an allocator has and cannot give
COUNTED = 1, 3  # blocks that are measured: all others add as much as these between them
# What may be changed where memory does not suffice, the cheapest first
REMEDIES: tuple[dict[str, Any], ...] = (
    {"micro": 1}, {"checkpointing": "selective"}, {"sharding": "shard"}, {"optimizer": "adamw8bit"},
    {"checkpointing": "full"}, {"lora_rank": 64},
)  # fmt: skip


@dataclass(frozen=True)
class Bill:
    """Bytes a GPU by part, and the rest of what a training takes."""

    parameters: int
    trained: int
    tokens: int  # of a window
    parts: bool  # whether sharded
    memory: dict[str, float]  # bytes a GPU: weights, gradients, optimizer, average, buffers, activations
    flop: float  # of a step, over all GPUs
    checkpoint: int  # bytes
    model: int  # bytes
    loading: int  # bytes of the first process's own memory

    @property
    def needed(self) -> float:
        """Bytes a GPU."""
        return sum(self.memory.values()) * (1 + SPARE) + OTHER

    def disk(self, keep: int) -> int:
        """Bytes at most: one checkpoint more than are kept while it is written, then the model."""
        return (keep + 1) * self.checkpoint + self.model


def model_config(config: Config) -> ModelConfig:
    """Of the model that these settings train."""
    s, latents = config.generator, config.latents
    grid = (16, 8) if latents.codec == "wan" else (latents.channels, latents.space)
    return ModelConfig(s.preset, grid[0], control_channels(s.maps), 4, grid[1], s.reference, s.prediction,
                       **{name: name in s.maps for name in CARRIED})  # fmt: skip


def empty_model(config: Config) -> PortraitTransformer:
    """On the device meta."""
    s = config.generator
    frozen = torch.bfloat16 if s.precision == "bf16" else torch.float32
    base = s.base or (Path() if s.lora_rank else None)  # frozen weights are a base's
    return build(model_config(config), base, s.seed, s.lora_rank, frozen, empty=True)


def tokens(config: Config) -> int:
    """Of a window."""
    return window_tokens(model_config(config), config.latents.size, config.latents.window)


def make_bill(config: Config, processes: int) -> Bill:
    """Raises UserError where the batch, or ``shard_over``, does not go with so many processes."""
    s, model = config.generator, empty_model(config)
    s.rounds(processes)
    parts = sharded(s, model, processes)
    share = (s.shard_over or processes) if parts else 1
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    moments = 2.03 if s.optimizer == "adamw8bit" else 8  # with a scale for each 256 numbers
    memory = {
        "weights": held / share,
        "gradients": 4 * trained / share,
        "optimizer": moments * trained / share,
        "average": 4 * trained * bool(s.ema) / share,
        "buffers": _gathered(model, s) if parts else (4 * trained if processes > 1 else 0),
        "activations": activations(config, parts),
    }
    whole = 4 * count
    return Bill(count, trained, tokens(config), parts, memory, step_flop(s, tokens(config)),
                (12 + 4 * bool(s.ema)) * trained, whole, max(held, whole))  # fmt: skip


def _gathered(model: PortraitTransformer, settings: Generator) -> float:
    """Of a sharded model, bytes of what is whole for a while: two blocks and what is no block, and two blocks'
    gradients."""
    kind = 2 if settings.precision == "bf16" else 4
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.transformer.blocks]
    rest = sum(p.numel() for p in model.parameters()) - sum(blocks)
    trained = sum(p.numel() for p in model.transformer.blocks[0].parameters() if p.requires_grad)
    return kind * (2 * max(blocks) + rest) + (kind + 4) * 2 * trained


def activations(config: Config, parts: bool, fake: bool = True) -> float:
    """Bytes at the fullest moment of a step beside weights, gradients and moments. ``fake``: on fake tensors, else on
    real ones."""
    depth, text = PRESETS[config.generator.preset]["num_layers"], _what_matters(config)
    one, three = (_measured(text, parts, layers, fake) for layers in COUNTED)
    return one + (depth - COUNTED[0]) * (three - one) / (COUNTED[1] - COUNTED[0])


def _what_matters(config: Config) -> str:
    """The settings on which activations depend, as text."""
    names = {"preset", "base", "lora_rank", "maps", "reference", "prediction", "loss_weight", "micro", "precision",
             "checkpointing"}  # fmt: skip
    return config.model_dump_json(include={"generator": names, "latents": True})


@lru_cache
def _measured(text: str, parts: bool, layers: int, fake: bool) -> int:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    config = Config.model_validate_json(text)
    s = config.generator
    with _fewer(s.preset, layers):
        model = empty_model(config)
    with FakeTensorMode() if fake else nullcontext():
        _fill(model, torch.bfloat16 if s.precision == "bf16" and parts else None)
        choose_checkpointing(model.train(), s.checkpointing)
        batch, tracker = _batch(config), MemTracker()
        tracker.track_external(model)
        with tracker, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kernels that are not run, and of hooks that give nothing
            flow_losses(model, batch, s.loss_weight, s.precision).mean().backward()
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    weights = sum(amount for part, amount in peak.items() if getattr(part, "name", "") in ("PARAM", "BUFFER"))
    return peak["Total"] - weights


def _fill(model: nn.Module, kind: torch.dtype | None) -> None:
    """Zeros in place of what lies on meta; of weights, of another ``kind`` where one is named, as when gathered."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                held = nn.Parameter(torch.zeros(value.shape, dtype=kind or value.dtype), value.requires_grad)
                if held.requires_grad:  # gradients are counted apart, so that none may be left
                    held.register_post_accumulate_grad_hook(_forget)
                else:  # MemTracker asks each weight for hooks, which a frozen one refuses
                    held.register_hook = held.register_post_accumulate_grad_hook = _no_hook
                module._parameters[name] = held
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = torch.zeros(value.shape, dtype=value.dtype)


def _no_hook(_: Callable) -> SimpleNamespace:
    return SimpleNamespace(remove=lambda: None)


def _forget(value: nn.Parameter) -> None:
    value.grad = None


@contextmanager
def _fewer(preset: str, layers: int) -> Iterator[None]:
    kept = PRESETS[preset]
    PRESETS[preset] = kept | {"num_layers": layers}
    try:
        yield
    finally:
        PRESETS[preset] = kept


def _batch(config: Config) -> Batch:
    """One process's, of zeros."""
    s, of, size, window = config.generator, model_config(config), config.latents.size, config.latents.window
    b, t, h = s.micro, 1 + (window - 1) // of.time, size // of.space

    def maps(frames: int) -> dict[str, torch.Tensor]:
        of_maps = [name for name in s.maps if name in MAPS]
        return {name: torch.zeros(b, frames, size, size, MAPS[name], dtype=torch.uint8) for name in of_maps}

    latents = torch.zeros(b, of.latent_channels, t, h, h)
    carried = {"appearance": latents, "seen": torch.zeros(b, of.time, t, h, h)}
    carried = {name: values for name, values in carried.items() if name in s.maps}
    image, image_latent = torch.zeros(b, 3, size, size), torch.zeros(b, of.latent_channels, 1, h, h)
    return Batch(latents, latents.clone(), torch.full((b,), 0.5), maps(window), image, maps(1), image_latent, carried,
                 torch.ones(b, 2), [], [])  # fmt: skip


def advice(config: Config, processes: int, memory: float) -> str:
    """What makes it fit: changes of settings, the cheapest first and as few as help; else that nothing here does."""
    taken: dict[str, Any] = {}
    for remedy in REMEDIES:
        (name, value), now = next(iter(remedy.items())), config.generator
        rank = {"none": 0, "selective": 1, "full": 2}
        weaker = name == "checkpointing" and rank[value] <= rank[{**now.model_dump(), **taken}["checkpointing"]]
        settled = getattr(now, name) == value or (name == "lora_rank" and now.lora_rank)
        if weaker or settled or (name == "sharding" and processes == 1):
            continue
        taken |= remedy
        changed = config.model_copy(update={"generator": config.generator.model_copy(update=taken)})
        if make_bill(changed, processes).needed <= memory:
            return "It fits with " + ", ".join(f"generator.{name}: {value}" for name, value in taken.items()) + "."
    changed = config.model_copy(update={"generator": config.generator.model_copy(update=taken | {"sharding": "shard"})})
    for more in (2, 4, 8, 16, 32):
        if changed.generator.batch % (more * processes) == 0 and make_bill(changed, more * processes).needed <= memory:
            return f"It fits on {more * processes} of these GPUs with generator.sharding: shard and " + ", ".join(
                f"generator.{name}: {value}" for name, value in taken.items()) + "."  # fmt: skip
    return "More or larger GPUs, smaller latents.size or a shorter latents.window are needed."


def told(config: Config, processes: int, gpu: str, ratio: float) -> str:
    """The bill as text. Raises UserError for a GPU that is not in the list."""
    if gpu not in GPUS:
        raise UserError(f"--gpu {gpu}: known are {', '.join(GPUS)}")
    s, (memory, peak), bill = config.generator, GPUS[gpu], make_bill(config, processes)
    floor = bill.flop / processes / peak
    hours = s.steps * floor * ratio / 3600
    way = "in parts" if bill.parts else "copied to each" if processes > 1 else "whole"
    copies = processes // (s.shard_over or processes) if bill.parts else 1
    shards = f", {copies} copies of the model" if copies > 1 else ""
    lines = [
        f"generator {s.preset} on {processes} {gpu}, weights {way}{shards}",
        f"parameters: {bill.parameters / 1e6:,.1f} M, of them trained {bill.trained / 1e6:,.1f} M",
        f"a window: {bill.tokens:,} tokens; each GPU holds {s.micro} at once, {s.rounds(processes)} times a step",
        "memory of a GPU, GiB:",
        *(f"  {name:<12}{amount / GIB:8.2f}" for name, amount in bill.memory.items()),
        f"  {'other':<12}{(bill.needed - sum(bill.memory.values())) / GIB:8.2f}  CUDA, and {SPARE:.0%} that is lost",
        f"  {'sum':<12}{bill.needed / GIB:8.2f}  of {memory / GIB:.1f}",
        f"training: {s.steps:,} steps, {s.steps * s.batch:,} windows, {bill.flop / 1e15:,.3g} PFLOP a step",
        f"time: {floor:.3g} s a step at the peak of {peak / 1e12:.0f} TFLOP/s a GPU; "
        f"at {ratio:g} times that {hours:,.3g} hours, {hours * processes:,.3g} GPU hours",
        f"disk: {bill.disk(s.keep) / 1e9:,.3g} GB at most, {bill.checkpoint / 1e9:,.3g} of them a checkpoint and "
        f"{bill.model / 1e9:,.3g} the model; memory of the first process: {bill.loading / 1e9:,.3g} GB and more",
    ]
    if bill.needed > memory:
        lines.append(f"It does not fit. {advice(config, processes, memory)}")
    return "\n".join(lines)
