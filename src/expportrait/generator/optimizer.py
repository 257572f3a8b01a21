"""AdamW of a generator: learning rates by kind of layer, moments in 32 or in 8 bits."""

from typing import Any

import torch
from torch import Tensor, nn

from expportrait.engine.parts import local
from expportrait.engine.training import trainable
from expportrait.errors import UserError
from expportrait.settings.config import Generator

BETAS = 0.9, 0.99
BLOCK = 256  # numbers that share a scale in 8 bits


def kind_of(name: str) -> str:
    """Of a weight by its name: ``new`` (the encoders, and the patch embedding that takes what they give), ``lora``, or
    ``pretrained``, as all others of the transformer are where there is a base."""
    if not name.startswith("transformer.") or name.startswith("transformer.patch_embedding."):
        return "new"
    return "lora" if ".lora_" in name else "pretrained"


def make_optimizer(model: nn.Module, settings: Generator) -> torch.optim.Optimizer:
    """Of the weights that are trained. A group's ``factor`` is that of its learning rate; where all learn alike, there
    is one group, in the model's order. Raises UserError where 8 bits are asked for and cannot be had."""
    factors = {"new": settings.rate_new, "lora": settings.rate_lora, "pretrained": 1.0}
    by_factor: dict[float, list[Tensor]] = {}
    for name, value in trainable(model).items():
        by_factor.setdefault(factors[kind_of(name)], []).append(value)
    groups = [{"params": values, "factor": factor} for factor, values in by_factor.items()]
    options = {"betas": BETAS, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw8bit":
        return EightBit(groups, **options)
    return torch.optim.AdamW(groups, **options, fused=True)


class EightBit(torch.optim.Optimizer):
    """bitsandbytes' AdamW8bit, on what this process holds of each weight: its kernels know nothing of parts.

    Towards checkpoints it is AdamW: its state is told and taken as ``exp_avg`` and ``exp_avg_sq`` in float32, laid out
    as the weights are, so that any number of processes can go on.
    """

    def __init__(self, groups: list[dict[str, Any]], **options: Any):
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise UserError(
                f"generator.optimizer: adamw8bit needs the package bitsandbytes ({error}): pip install bitsandbytes, "
                "or take adamw"
            ) from None
        super().__init__(groups, options)
        held = [group | {"params": [*map(_held, group["params"])]} for group in self.param_groups]
        self.inner = AdamW8bit(held, **options)
        self.state = self.inner.state

    def _pairs(self) -> list[tuple[nn.Parameter, nn.Parameter, tuple[dict, int, int]]]:
        """Each weight, what is held of it, and where bitsandbytes has that."""
        return [(value, held, (group, g, i)) for g, (outer, group) in enumerate(zip(self.param_groups,
                self.inner.param_groups, strict=True)) for i, (value, held) in enumerate(zip(outer["params"],
                group["params"], strict=True))]  # fmt: skip

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for outer, group in zip(self.param_groups, self.inner.param_groups, strict=True):
            group["lr"] = outer["lr"]
        for value, held, _ in self._pairs():
            # of a small weight, a process may hold nothing
            held.grad = local(value.grad) if value.grad is not None and held.numel() else None
        self.inner.step()
        for _, held, _ in self._pairs():
            held.grad = None

    @torch.no_grad()
    def state_dict(self) -> dict[str, Any]:
        told = {}
        for number, (value, held, _) in enumerate(self._pairs()):
            kept = self.state.get(held) or {}
            if kept or not held.numel():
                first, second = (_floats(kept, n, held) for n in (1, 2))
                step = torch.tensor(float(kept.get("step", 0)))
                told[number] = {"step": step, "exp_avg": _laid(first, value), "exp_avg_sq": _laid(second, value)}
        places = iter(range(len(self._pairs())))
        groups = [group | {"params": [next(places) for _ in group["params"]]} for group in self.param_groups]
        return {"state": told, "param_groups": groups}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for number, (_, held, where) in enumerate(self._pairs()):
            told = state_dict["state"].get(number)
            if told is None or not held.numel():
                continue
            group, g, i = where
            self.inner.init_state(group, held, g, i)
            kept = self.state[held]
            kept["step"] = int(told["step"])
            for n, name in ((1, "exp_avg"), (2, "exp_avg_sq")):
                values = local(told[name]).to(held.device)
                if f"qmap{n}" in kept:
                    values, kept[f"absmax{n}"] = to_bits(values, kept[f"qmap{n}"])
                kept[f"state{n}"] = values.reshape(held.shape)


def _held(value: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(local(value.detach()))


def _floats(kept: dict[str, Any], n: int, held: Tensor) -> Tensor:
    if not kept:
        return torch.zeros_like(held, dtype=torch.float32)
    values = kept[f"state{n}"]
    if f"qmap{n}" in kept:
        values = from_bits(values, kept[f"qmap{n}"], kept[f"absmax{n}"])
    return values.float().reshape(held.shape)


def _laid(values: Tensor, like: Tensor) -> Tensor:
    """What is held of a tensor, as the tensor that lies as ``like`` does."""
    if not hasattr(like, "to_local"):
        return values
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(values, like.device_mesh, like.placements, run_check=False, shape=like.shape,
                              stride=like.stride())  # fmt: skip


def from_bits(bits: Tensor, code: Tensor, scale: Tensor) -> Tensor:
    """Numbers (n,) from the places of ``code``, -1..1 in rising order, and the scale of each ``BLOCK`` of them."""
    flat = code[bits.flatten().int()]
    return flat * scale.repeat_interleave(BLOCK)[: len(flat)]


def to_bits(values: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse: places (n,) u8 and scales (blocks,), such that of what ``from_bits`` gave, the same come back."""
    flat = values.flatten()
    blocks = nn.functional.pad(flat, (0, -len(flat) % BLOCK)).reshape(-1, BLOCK)
    scale = blocks.amax(1) / code[-1]
    if code[0] < 0:  # bitsandbytes' code reaches 1 upwards, and not quite -1 downwards
        scale = torch.maximum(scale, blocks.amin(1) / code[0])
    scale = scale.clamp_min(0)
    shares = blocks / torch.where(scale > 0, scale, 1)[:, None]
    bits = torch.bucketize(shares, (code[1:] + code[:-1]) / 2).to(torch.uint8)
    return bits.flatten()[: len(flat)], scale
