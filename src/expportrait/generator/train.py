"""Training of the generator: flow matching, on one process or several."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from expportrait.engine.average import Average
from expportrait.engine.heartbeat import Heartbeat
from expportrait.engine.log import Row, Rows
from expportrait.engine.training import Course, descend, trainable
from expportrait.errors import UserError
from expportrait.generator.data import Batch, Windows, shifted, training_batch
from expportrait.generator.flop import window_tokens
from expportrait.generator.meter import Meter
from expportrait.generator.model import PortraitTransformer
from expportrait.generator.optimizer import make_optimizer
from expportrait.generator.shard import choose_checkpointing, choose_compile, spread
from expportrait.machine import threads
from expportrait.rng import random_generator
from expportrait.settings.config import Generator

WEIGHTS = {
    "velocity": lambda sigma: torch.ones_like(sigma),
    "noise": lambda sigma: (1 - sigma) ** 2,  # eq. (10): noise is off by 1 - sigma times the velocity's error
    "sample": lambda sigma: sigma**2,  # latents are off by sigma times the velocity's error
}
# Backends of diffusers' attention that have a backward pass, and whether they need a GPU.
ATTENTION = dict.fromkeys(("native", "_native_math", "_native_flash"), False)
ATTENTION |= dict.fromkeys(("_native_cudnn", "_native_efficient", "flash", "xformers"), True)

WORKERS = 4  # threads beside a GPU, at most: two of them make a window of 81 frames at 512 px every .2 s


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


def learning_rate(settings: Generator, step: int) -> float:
    """Linear warm-up, then constant or half a cosine down to nearly nothing."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup))
    if settings.schedule == "cosine":
        rate *= 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps))
    return rate


def reading_threads(asked: int | None, gpu: bool) -> int:
    """How many threads make batches: as ``asked``; else one, and beside a GPU one for each of the process's cores, up
    to ``WORKERS``."""
    return asked if asked is not None else min(WORKERS, threads()) if gpu else 1


def train(
    model: PortraitTransformer,
    windows: Windows,
    settings: Generator,
    work: Path,
    device: str,
    beat: Heartbeat | None = None,
    parts: bool = False,
    seen: Callable[[Row], None] = lambda row: None,
    look: Callable[[nn.Module, Average | None, int, Rows], None] | None = None,
) -> PortraitTransformer:
    """Train ``model`` in place; where ``ema`` is not 0 it ends with the average of its weights. ``work`` keeps
    checkpoints and ``loss.csv``, from which a run that was killed goes on, whatever the number of processes; ``beat``
    is told of each step, and so is ``seen``, of its row of the log; after each step ``look`` may look at the model, its
    average and the log. ``parts``: shard it over the processes, of which only the first one has to have weights; it
    stays so.

    Raises UserError where the batch does not divide, and where loss, gradient or weights are no longer finite.
    """
    s = settings
    accelerator = Accelerator(cpu=not device.startswith("cuda"))
    rounds = s.rounds(accelerator.num_processes)
    choose_attention(model, s.attention, device, training=True)
    choose_checkpointing(model, s.checkpointing)
    choose_compile(model, s.compile)
    if parts:
        spread(model, s, accelerator.device)
    wrapped = model.train() if parts else accelerator.prepare_model(model.train().to(accelerator.device))
    optimizer = make_optimizer(model, s)
    average = Average(trainable(model), s.ema) if s.ema else None
    gpu = accelerator.device.type == "cuda"

    def make(step: int, number: int) -> Batch:
        first = (accelerator.process_index * rounds + number) * s.micro
        batch = training_batch(
            windows, s.seed, step, s.batch, range(first, first + s.micro), shift=s.shift,
            drop_reference=s.drop_reference, drop_control=s.drop_control, drop_both=s.drop_both,
        )  # fmt: skip
        return batch.pinned() if gpu else batch

    def losses(batch: Batch) -> dict[str, Tensor]:
        return {"loss": flow_losses(wrapped, batch.to(accelerator.device), s.loss_weight, s.precision).mean()}

    of_window = window_tokens(model.config, windows.made_by["size"], windows.made_by["window"])
    meter = Meter(model, s, of_window, accelerator.num_processes, str(accelerator.device))
    course = Course(
        "generator", s.steps, s.save_every, s.keep, make, losses, partial(learning_rate, s), meter.figures,
        seen, partial(look, model, average) if look else lambda step, rows: None, rounds=rounds, clip=s.clip,
        main=accelerator.is_main_process,
        alone=nullcontext if parts else partial(accelerator.no_sync, wrapped),
        mean=partial(accelerator.reduce, reduction="mean"), parts=parts, workers=reading_threads(s.workers, gpu),
    )  # fmt: skip
    descend(course, model, optimizer, work, beat, average)
    if average is not None:
        average.put()
    return model.eval()


@torch.no_grad()
def control_sensitivity(
    model: PortraitTransformer, windows: Windows, settings: Generator, samples: int = 16
) -> dict[str, float]:
    """What following the control is worth: mean loss with the right control maps, and with those of another clip.

    Where there is one clip only, and where the portrait itself is carried along, which is no other person's, the other
    control comes from another window of the same clip. A difference near zero means that the control is ignored.
    """
    device, n = next(model.parameters()).device, len(windows)
    right, wrong = [], []
    for k in range(min(samples, n)):
        index = k * n // min(samples, n)
        same = [i for i in range(n) if i != index and windows.table[i][0] == windows.table[index][0]]
        others = [i for i in range(n) if windows.table[i][0] != windows.table[index][0]]
        others = (same or others) if windows.carried else (others or same)
        if not others:
            return {}
        sigma = shifted(torch.rand(1, generator=random_generator(settings.seed, "sensitivity", k)), settings.shift)
        noise = random_generator(settings.seed, "sensitivity noise", k)
        batch = windows.batch([index], sigma, [noise], [0], torch.ones(1, 2)).to(device)
        right.append(float(flow_losses(model, batch, settings.loss_weight, settings.precision)))
        rng = random_generator(settings.seed, "sensitivity other", k)
        other = others[int(torch.randint(len(others), (), generator=rng))]
        shown = windows.sample(other, 0)
        batch.control = {name: values[None].to(device) for name, values in shown.control.items()}
        batch.carried = {name: values[None].to(device) for name, values in shown.carried.items()}
        wrong.append(float(flow_losses(model, batch, settings.loss_weight, settings.precision)))
    means = sum(right) / len(right), sum(wrong) / len(wrong)
    return {"right": means[0], "wrong": means[1], "difference": means[1] - means[0]}
