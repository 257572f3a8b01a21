"""The transformer's arithmetic in a training step, and the rate at which a device could do it at best."""

import re
import time
from functools import lru_cache

import torch

from expportrait.generator.model import PRESETS, ModelConfig
from expportrait.settings.config import Generator

# Peak of dense bfloat16 multiplications with float32 sums, FLOP/s, as the maker states it, by the words of the name.
PEAKS = {
    "h200": 989e12, "gh200": 989e12, "h100": 989e12, "h800": 989e12, "h100 pcie": 756e12, "h100 nvl": 835e12,
    "a100": 312e12, "a800": 312e12, "l40s": 362e12, "l4": 121e12, "a10": 125e12, "4090": 165e12,
}  # fmt: skip
LESSER = {"mig", "laptop", "d"}  # words of names of GPUs that are less than their name's others say
LONG = 0.05  # s, of a product whose rate is worth measuring
LARGEST = 8192  # rows


def window_tokens(of: ModelConfig, size: int, window: int) -> int:
    """Of a window of ``window`` frames at ``size`` px, with the latent frame in front."""
    frames = 1 + (window - 1) // of.time + (of.reference != "conv")
    return frames * (size // of.space // 2) ** 2


def step_flop(s: Generator, tokens: int) -> float:
    """Of a training step's matrix products and attention over all windows of ``tokens`` each: three or four forward
    passes."""
    preset, n = PRESETS[s.preset], tokens
    width, layers = preset["num_attention_heads"] * preset["attention_head_dim"], preset["num_layers"]
    linear = 2 * n * layers * (6 * width**2 + 2 * width * preset["ffn_dim"])
    attention = 4 * n**2 * width * layers
    again = {"none": (0, 0), "selective": (1, 0), "full": (1, 1)}[s.checkpointing]
    passes = 3 - bool(s.lora_rank) + again[0]  # frozen weights have no gradient
    return s.batch * (passes * linear + (3 + again[1]) * attention)


def peak(device: str, precision: str) -> tuple[float, str]:
    """FLOP/s that no step can beat, and what says so: the maker's figure where the GPU is known and the training is in
    bfloat16, else what a large product of matrices reaches here, in the training's precision."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "this CPU"
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    if device.startswith("cuda") and precision == "bf16" and (known := documented(name)):
        return known, f"the stated peak of {name}, {known / 1e12:.0f} TFLOP/s of dense bfloat16"
    found, side = measured(device, kind)
    what = str(kind).removeprefix("torch.")
    return found, f"{found / 1e12:.3g} TFLOP/s, measured on {name} by a product of {side} x {side} matrices in {what}"


def documented(name: str) -> float | None:
    """The peak of the GPU that the driver calls ``name``; None where it is not in the list."""
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    if words & LESSER:
        return None
    found = [key for key in PEAKS if words.issuperset(key.split())]
    return PEAKS[max(found, key=len)] if found else None


@lru_cache
def measured(device: str, kind: torch.dtype) -> tuple[float, int]:
    """FLOP/s of a product of two square matrices, the best of three, and their rows: so many that it takes a while."""
    side = 512
    while True:
        side *= 2
        a = torch.linspace(-1, 1, side * side, device=device).reshape(side, side).to(kind)
        taken = min(_seconds(a, device) for _ in range(3))
        if taken >= LONG or side >= LARGEST:
            return 2 * side**3 / taken, side


def _seconds(a: torch.Tensor, device: str) -> float:
    """Of ``a @ a``; on the CPU, those of its threads at work, so that others at work there make the floor no lower."""
    gpu = device.startswith("cuda")
    clock = time.perf_counter if gpu else time.process_time
    start = clock()
    _ = a @ a
    if gpu:
        torch.cuda.synchronize(device)
    return (clock() - start) / (1 if gpu else torch.get_num_threads())
