"""What is seen while the generator trains: a look, every so many steps, at what it makes of clips it does not learn.

A look measures and shows the weights that the training would end with, their moving average. It draws no number that
the training draws, and leaves weights, gradients and optimizer as they were, to the last bit.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from expportrait.engine.average import Average
from expportrait.engine.log import Rows
from expportrait.engine.looks import LOOKS_FILE, NOISE, Look, read_looks, write_looks
from expportrait.engine.parts import of_first
from expportrait.errors import UserError
from expportrait.generator.codec import Codec
from expportrait.generator.data import Windows, shifted
from expportrait.generator.lookfilm import LookFilm, film_windows
from expportrait.generator.meter import memory
from expportrait.generator.sample import Sampler
from expportrait.generator.train import control_sensitivity, flow_losses
from expportrait.machine import machine_fault
from expportrait.progress import say
from expportrait.rng import random_generator
from expportrait.settings.config import Generator

SHARE = 0.05  # of the training's time, which looks take at most
WINDOWS = 4  # whose loss is measured, each at a noise level in each quarter
SAMPLES = 4  # of the control sensitivity, two passes each
RECENT = 20  # steps by which one knows how long the next ones take


@dataclass(frozen=True)
class Seen:
    """The windows that looks look at: ``of`` says whether they are held out; ``starts`` are the first frames of those
    of the first clip, whose film is made, ``fps`` its rate."""

    windows: Windows
    of: str
    starts: list[int]
    fps: float


class Looks:
    """``after`` each step, a look where one is due. ``codec`` gives the codec that shows the film; it raises UserError
    where there is none. Of several ``processes`` the ``main`` one writes; where they hold ``parts``, all of them pass
    the windows through the model. ``told(look, folder)`` hears of each look."""

    def __init__(
        self, settings: Generator, seen: Seen, folder: Path, codec: Callable[[], Codec],
        told: Callable[[Look, Path], None], main: bool = True, processes: int = 1, parts: bool = False,
    ):  # fmt: skip
        self.settings, self.seen, self.folder, self.main, self.parts = settings, seen, folder, main, parts
        self._film, self._told, self._processes = LookFilm(seen.fps, codec, folder), told, processes
        self._frames = film_windows(seen.starts, seen.windows.made_by["window"])
        self.looks = of_first(read_looks(folder / LOOKS_FILE))
        self._next, self._put_off = self._due(self.looks[-1]["step"] if self.looks else 0), False

    def after(self, model: nn.Module, average: Average | None, step: int, rows: Rows) -> None:
        """``step`` steps are done, ``rows`` is their log."""
        if step < self._next:
            return
        wait = of_first(self._wait(rows))
        if wait:
            if not self._put_off:
                share = f"looks may take {SHARE:.0%} of the time"
                say(f"generator: the next look is put off by some {wait:,} steps: {share}")
            self._next, self._put_off = step + wait, True
            return
        self._next, self._put_off = self._due(step), False
        if self.main or self.parts:
            training, began = model.training, time.perf_counter()
            with average.instead() if average is not None else nullcontext():
                look = self._look(model.eval(), step)
            model.train(training)
            look |= {"memory": memory(model_device(model).type == "cuda"), "seconds": time.perf_counter() - began}
            self.looks.append(look)
            if self.main:
                write_looks(self.folder / LOOKS_FILE, self.looks)
                self._told(look, self.folder)

    def _due(self, step: int) -> int:
        """The first step after ``step`` at which a look is due."""
        every = self.settings.look_every
        return (step // every + 1) * every

    def _wait(self, rows: Rows) -> int:
        """How many steps to put the look off so that looks keep to their share."""
        trained = sum(row["seconds"] for row in rows)
        each = sum(row["seconds"] for row in rows[-RECENT:]) / len(rows[-RECENT:])
        passing = each * self._processes / (3 * self.settings.batch)  # a window forwards, once
        coming = self.looks[-1]["seconds"] if self.looks else self._passes() * passing
        needed = (sum(look["seconds"] for look in self.looks) + coming) / SHARE
        return math.ceil(max(0, needed - trained) / max(each, 1e-9))

    def _passes(self) -> int:
        """Forward passes of a look, by which the first one is judged; a step has about three a window."""
        count = min(WINDOWS, len(self.seen.windows)) * len(NOISE)
        return count + 2 * SAMPLES + len(self._frames) * self.settings.look_steps

    @torch.no_grad()
    def _look(self, model: nn.Module, step: int) -> Look:
        s, windows = self.settings, self.seen.windows
        look: Look = {"step": step, "of": self.seen.of, "clip": windows.table[0][0]}
        look |= losses(model, windows, s)
        found = control_sensitivity(model, windows, s, SAMPLES)
        look |= {name: found[name] for name in ("right", "wrong") if name in found}
        sampler, device = Sampler(s.look_steps, s.shift), model_device(model)
        made = []
        for index, dropped in self._frames:
            noise = random_generator(s.seed, "look film", index)
            batch = windows.batch([index], torch.ones(1), [noise], [0], torch.ones(1, 2)).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=s.precision == "bf16"):
                made.append((batch, sampler.latents(model, batch.noise, batch.given).float(), dropped))
        if self.main:
            try:
                look |= self._film.write(step, made)
            except Exception as error:  # what is only looked at must not end what is learnt
                if not isinstance(error, UserError) and machine_fault(error) is None:
                    raise
                say(f"generator: the look at step {step} has no film: {error}")
        return look


@torch.no_grad()
def losses(model: nn.Module, windows: Windows, s: Generator) -> dict[str, float]:
    """Loss at fixed noise: of each quarter of the noise levels at one level, that in the middle of what training takes
    of it; and ``loss``, their mean by the share of training in each. Nothing is left out of what the model is told."""
    device, n = model_device(model), len(windows)
    count, found = min(WINDOWS, n), dict.fromkeys(NOISE, 0.0)
    ends = {name: tuple(_uniform(end, s.shift) for end in ends) for name, ends in NOISE.items()}
    for k in range(count):
        noise = random_generator(s.seed, "look noise", k)
        batch = windows.batch([k * n // count], torch.ones(1), [noise], [0], torch.ones(1, 2)).to(device)
        for name, (low, high) in ends.items():
            at = shifted(torch.tensor([(low + high) / 2]), s.shift).to(device)
            found[name] += float(flow_losses(model, replace(batch, sigma=at), s.loss_weight, s.precision)) / count
    return {"loss": sum((high - low) * found[name] for name, (low, high) in ends.items()), **found}


def _uniform(sigma: float, shift: float) -> float:
    """The share of training at noise levels below ``sigma``: the inverse of ``shifted``."""
    return sigma / (shift - (shift - 1) * sigma)


def model_device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
