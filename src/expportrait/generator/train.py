"""Training of the generator: flow matching, checkpoints that resume exactly, a log of every step."""

import csv
import math
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pickle import UnpicklingError

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expportrait.config import Generator
from expportrait.dice import dice
from expportrait.errors import UserError
from expportrait.generator.data import Batch, Windows, shifted, training_batch
from expportrait.generator.model import PortraitTransformer
from expportrait.heartbeat import Heartbeat
from expportrait.progress import bar, say

LOG = ("step", "loss", "learning_rate", "seconds", "waiting")  # waiting: the part of the seconds spent on data
WEIGHTS = {
    "velocity": lambda sigma: torch.ones_like(sigma),
    "noise": lambda sigma: (1 - sigma) ** 2,  # eq. (10): noise is off by 1 - sigma times the velocity's error
    "sample": lambda sigma: sigma**2,  # latents are off by sigma times the velocity's error
}
# Backends of diffusers' attention that have a backward pass, and whether they need a GPU.
ATTENTION = dict.fromkeys(("native", "_native_math", "_native_flash"), False)
ATTENTION |= dict.fromkeys(("_native_cudnn", "_native_efficient", "flash", "xformers"), True)


def flow_losses(model: nn.Module, batch: Batch, weight: str, precision: str = "no") -> Tensor:
    """Flow matching loss of each sample, (B,): weight(sigma) * mean |velocity - (noise - latents)|^2."""
    sigma = batch.sigma.view(-1, 1, 1, 1, 1)
    noised = (1 - sigma) * batch.latents + sigma * batch.noise
    with torch.autocast(noised.device.type, torch.bfloat16, enabled=precision == "bf16"):
        velocity = model(noised, batch.sigma, batch.given)
    error = velocity.float() - (batch.noise - batch.latents)
    return WEIGHTS[weight](batch.sigma) * error.square().mean((1, 2, 3, 4))


def choose_attention(model: PortraitTransformer, name: str, device: str, training: bool) -> None:
    """Set the attention backend, ``auto`` being torch's own. Raises UserError for one that cannot work here."""
    if name == "auto":
        return
    if name not in ATTENTION and training:
        raise UserError(
            f"generator.attention: {name} has no backward pass known to work; take one of {', '.join(ATTENTION)}"
        )
    if ATTENTION.get(name, True) and not device.startswith("cuda"):
        raise UserError(f"generator.attention: {name} needs a GPU; take auto")
    try:
        model.transformer.set_attention_backend(name)
    except (ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"generator.attention: {name} does not work here: {error}") from None


def choose_checkpointing(model: PortraitTransformer, kind: str) -> None:
    """Trade memory for time: ``full`` keeps the blocks' inputs, ``selective`` also what attention gave."""
    if kind == "full":
        model.transformer.enable_gradient_checkpointing()
    elif kind == "selective":
        from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

        def policy(_, op, *args, **kwargs) -> CheckpointPolicy:  # noqa: ANN001, ANN002, ANN003
            attention = "attention" in getattr(op, "_name", str(op)) or "flash" in str(op)
            return CheckpointPolicy.MUST_SAVE if attention else CheckpointPolicy.PREFER_RECOMPUTE

        def run(block: nn.Module, *args: Tensor) -> Tensor:
            contexts = lambda: create_selective_checkpoint_contexts(policy)  # noqa: E731
            return checkpoint(block, *args, use_reentrant=False, context_fn=contexts)

        model.transformer.enable_gradient_checkpointing(run)


def learning_rate(settings: Generator, step: int) -> float:
    """Linear warm-up, then constant or half a cosine down to nearly nothing."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup))
    if settings.schedule == "cosine":
        rate *= 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps))
    return rate


def trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


class Checkpoints:
    """``step-<n>/`` in a folder of its own: written beside, then renamed; the newest few are kept."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep
        folder.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        return sorted(int(path.name[5:]) for path in self.folder.glob("step-*") if path.name[5:].isdigit())

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for leftover in self.folder.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = self.folder / f".step-{step}.tmp"
        temporary.mkdir()
        save_file(
            {name: value.detach().contiguous() for name, value in trainable(model).items()},
            temporary / "weights.safetensors",
        )
        torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
        for file in temporary.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())  # a rename may reach the disk before what it names
        final = self.folder / f"step-{step}"
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.folder / f"step-{old}", ignore_errors=True)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore the newest checkpoint that is whole; returns the number of steps done, 0 where there is none."""
        for step in reversed(self.steps()):
            folder = self.folder / f"step-{step}"
            try:
                weights = load_file(folder / "weights.safetensors")
                state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
            except (OSError, EOFError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
                say(f"generator: {folder} is damaged ({type(error).__name__}), the one before is taken")
                continue
            with torch.no_grad():
                for name, value in trainable(model).items():
                    value.copy_(weights[name])
            optimizer.load_state_dict(state)
            return step
        return 0


def read_log(file: Path) -> list[dict[str, float]]:
    """Rows of a loss log; a line that a kill cut short is dropped."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as text:
        rows = [row for row in csv.DictReader(text) if all(row.get(name) for name in LOG)]
    return [{name: float(row[name]) for name in LOG} for row in rows]


def _write_log(file: Path, rows: list[dict[str, float]]) -> None:
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, LOG)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(file)


def _batches(windows: Windows, s: Generator, first: int, rank: int, ranks: int) -> Iterator[Batch]:
    """Batches of the steps ``first``..., each made while the one before is trained on."""

    def make(step: int) -> Batch:
        return training_batch(
            windows, s.seed, step, s.batch, rank, ranks, shift=s.shift,
            drop_reference=s.drop_reference, drop_control=s.drop_control, drop_both=s.drop_both,
        )  # fmt: skip

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make, first)
        for step in range(first, s.steps):
            batch = following.result()
            if step + 1 < s.steps:
                following = pool.submit(make, step + 1)
            yield batch


def train(
    model: PortraitTransformer,
    windows: Windows,
    settings: Generator,
    work: Path,
    device: str,
    beat: Heartbeat | None = None,
) -> PortraitTransformer:
    """Train ``model`` in place. ``work`` keeps checkpoints and ``loss.csv``, from which a run that was killed goes on;
    ``beat`` is told of each step.

    Raises UserError where the loss is no longer finite.
    """
    accelerator = Accelerator(cpu=not device.startswith("cuda"))
    choose_attention(model, settings.attention, device, training=True)
    choose_checkpointing(model, settings.checkpointing)
    decay, betas = settings.weight_decay, (0.9, 0.99)
    optimizer = torch.optim.AdamW(trainable(model).values(), betas=betas, weight_decay=decay, fused=True)
    checkpoints = Checkpoints(work / "checkpoints", settings.keep)
    model.train().to(accelerator.device)
    first = checkpoints.load(model, optimizer)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    loss = settings.loss_weight, settings.precision
    rows = [row for row in read_log(work / "loss.csv") if row["step"] < first]
    if first:
        say(f"generator: goes on from step {first} of {settings.steps}")
    with bar(settings.steps, "generator") as shown:
        shown.update(first)
        clock = time.perf_counter()
        ranks = accelerator.process_index, accelerator.num_processes
        for step, batch in enumerate(_batches(windows, settings, first, *ranks), first):
            waited = time.perf_counter() - clock
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)
            value = flow_losses(wrapped, batch.to(accelerator.device), *loss).mean()
            accelerator.backward(value)
            accelerator.clip_grad_norm_(wrapped.parameters(), settings.clip)
            optimizer.step()
            optimizer.zero_grad()
            value = float(accelerator.reduce(value.detach(), "mean"))
            if not math.isfinite(value):
                raise UserError(f"the generator's training diverged at step {step}: lower generator.learning_rate")
            seconds = time.perf_counter() - clock
            clock += seconds
            rows.append(dict(zip(LOG, (step, value, learning_rate(settings, step), seconds, waited), strict=True)))
            shown.update()
            shown.set_postfix_str(f"loss {value:.4f}, {seconds:.2f} s/step", refresh=False)
            if beat is not None:
                beat.trained(step + 1, seconds, f"loss {value:.4f}")
            if ((step + 1) % settings.save_every == 0 or step + 1 == settings.steps) and accelerator.is_main_process:
                _write_log(work / "loss.csv", rows)
                checkpoints.save(step + 1, accelerator.unwrap_model(wrapped), optimizer.optimizer)
    return accelerator.unwrap_model(wrapped).eval()


@torch.no_grad()
def control_sensitivity(
    model: PortraitTransformer, windows: Windows, settings: Generator, samples: int = 16
) -> dict[str, float]:
    """What following the control is worth: mean loss with the right control maps, and with those of another clip.

    Where there is one clip only, the other control comes from another window. A difference near zero means that the
    control is ignored.
    """
    device, n = next(model.parameters()).device, len(windows)
    right, wrong = [], []
    for k in range(min(samples, n)):
        index = k * n // min(samples, n)
        others = [i for i in range(n) if windows.table[i][0] != windows.table[index][0]]
        others = others or [i for i in range(n) if i != index]
        if not others:
            return {}
        sigma = shifted(torch.rand(1, generator=dice(settings.seed, "sensitivity", k)), settings.shift)
        noise = dice(settings.seed, "sensitivity noise", k)
        batch = windows.batch([index], sigma, [noise], [0], torch.ones(1, 2)).to(device)
        right.append(float(flow_losses(model, batch, settings.loss_weight, settings.precision)))
        other = others[int(torch.randint(len(others), (), generator=dice(settings.seed, "sensitivity other", k)))]
        batch.control = {name: values[None].to(device) for name, values in windows.sample(other, 0)[1].items()}
        wrong.append(float(flow_losses(model, batch, settings.loss_weight, settings.precision)))
    means = sum(right) / len(right), sum(wrong) / len(wrong)
    return {"right": means[0], "wrong": means[1], "difference": means[1] - means[0]}
