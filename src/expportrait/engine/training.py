"""The loop that all trainings share: data made ahead, gradients looked at before they change anything, a log of every
step, and checkpoints from which a run that was killed goes on exactly."""

import csv
import io
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from itertools import product, starmap
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expportrait.engine.average import Average
from expportrait.engine.costs import billed
from expportrait.engine.heartbeat import Heartbeat
from expportrait.engine.models import LOG_FILE
from expportrait.engine.prefetch import ahead
from expportrait.errors import UserError
from expportrait.files import new_folder, replace_file
from expportrait.progress import bar, say

Rows = list[dict[str, float]]


@dataclass(frozen=True)
class Course:
    """What a training consists of.

    A step takes ``rounds`` batches of equal size one after the other, and its gradient is the mean of theirs.
    ``make(step, round)`` makes a batch, in a thread, while the one before is trained on. ``losses(batch)`` gives means
    over its samples: ``loss``, which is descended on, and what else the log is to hold. ``rate(step)`` is the learning
    rate, ``clip`` the largest norm of the gradient. Of several processes, ``main`` says whether this is the one that
    writes; ``alone`` is a context in which gradients stay with their process, around all rounds of a step but the last,
    after which they are averaged; ``mean`` averages over the processes.
    """

    name: str  # of the stage
    steps: int
    save_every: int
    keep: int
    make: Callable[[int, int], Any]
    losses: Callable[[Any], dict[str, Tensor]]
    rate: Callable[[int], float]
    rounds: int = 1
    clip: float = math.inf
    unit: str = ""  # of the loss
    main: bool = True
    alone: Callable[[], AbstractContextManager] = nullcontext
    mean: Callable[[Tensor], Tensor] = lambda values: values


def descend(
    course: Course, model: nn.Module, optimizer: torch.optim.Optimizer, work: Path, beat: Heartbeat | None = None,
    average: Average | None = None,
) -> Rows:  # fmt: skip
    """Train ``model`` in place; returns the log, a row a step: ``step``, the losses, ``gradient`` (its norm over all
    processes, before clipping), ``learning_rate``, ``seconds``, and the part of them spent ``waiting`` for data.

    ``work`` keeps checkpoints and the log, from which a run that was killed goes on as if it had not been; ``beat`` is
    told of each step, ``average`` of what it made of the weights. Raises UserError where losses or gradient are not
    finite, before the weights are changed, and where the weights are not, before they are written.
    """
    checkpoints = Checkpoints(work / "checkpoints", course.keep, course.name)
    first = checkpoints.load(model, optimizer, average)
    rows = [row for row in read_log(work / LOG_FILE) if row["step"] < first]
    if first:
        say(f"{course.name}: goes on from step {first} of {course.steps}")
    batches = starmap(course.make, product(range(first, course.steps), range(course.rounds)))
    bill = billed(work.parent, "", course.name, device=str(next(model.parameters()).device))
    with bill, bar(course.steps, course.name) as shown, closing(ahead(batches, size=1)) as made:
        shown.update(first)
        clock = time.perf_counter()
        for step in range(first, course.steps):
            values, waiting = _backward(course, model, made)
            if not all(map(math.isfinite, values.values())):
                if course.main and rows:
                    write_log(work / LOG_FILE, rows)
                raise _diverged(course.name, step, ", ".join(f"{name} {value:.3g}" for name, value in values.items()))
            rate = course.rate(step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            if average is not None:
                average.follow(step)
            seconds = time.perf_counter() - clock
            clock += seconds
            rows.append({"step": step, **values, "learning_rate": rate, "seconds": seconds, "waiting": waiting})
            told = f"loss {values['loss']:.4f}{course.unit}"
            shown.update()
            shown.set_postfix_str(f"{told}, {seconds:.2f} s/step", refresh=False)
            if beat is not None:
                beat.trained(step + 1, seconds, told)
            if (step + 1) % course.save_every == 0 or step + 1 == course.steps:
                if course.main:
                    write_log(work / LOG_FILE, rows)
                if not finite(model, optimizer):
                    raise _diverged(course.name, step, "it made weights that are not finite")
                if course.main:
                    checkpoints.save(step + 1, model, optimizer, average)
    return rows


def _backward(course: Course, model: nn.Module, made: Iterator[Any]) -> tuple[dict[str, float], float]:
    """The gradient of a step, clipped, in the parameters; the step's losses over all processes, with the norm that the
    gradient had, and the seconds spent waiting for data."""
    total: dict[str, Tensor] = {}
    waiting = 0.0
    for number in range(1, course.rounds + 1):
        asked = time.perf_counter()
        batch = next(made)
        waiting += time.perf_counter() - asked
        with course.alone() if number < course.rounds else nullcontext():
            losses = {name: value / course.rounds for name, value in course.losses(batch).items()}
            losses["loss"].backward()
        total = {name: value.detach() + total.get(name, 0) for name, value in losses.items()}
    norm = nn.utils.clip_grad_norm_(trainable(model).values(), course.clip)
    values = torch.cat([course.mean(torch.stack([*total.values()])), norm[None]])
    return dict(zip((*total, "gradient"), values.tolist(), strict=True)), waiting


def _diverged(name: str, step: int, why: str) -> UserError:
    return UserError(f"the training of {name} diverged at step {step} ({why}): lower {name}.learning_rate")


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that are trained, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def finite(model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Whether all weights that are trained, and what the optimizer keeps of each, are finite numbers."""
    return _finite(trainable(model), optimizer.state_dict())


def _finite(weights: dict[str, Tensor], state: dict[str, Any] | None = None) -> bool:
    of_each = state["state"].values() if state else ()
    kept = (value for moments in of_each for value in moments.values() if isinstance(value, Tensor))
    return all(bool(torch.isfinite(value).all()) for value in (*weights.values(), *kept))


class Checkpoints:
    """``step-<n>/`` in a folder of its own: written beside, then renamed; the newest ``keep`` are kept. ``name``: the
    stage's."""

    def __init__(self, folder: Path, keep: int, name: str):
        self.folder, self.keep, self.name = folder, keep, name
        folder.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        return sorted(int(path.name[5:]) for path in self.folder.glob("step-*") if path.name[5:].isdigit())

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None
    ) -> None:
        """Those of later steps, which ``load`` has passed over, go: they must not outlive the whole ones."""
        for leftover in self.folder.glob(".*.tmp*"):  # only one process writes here
            shutil.rmtree(leftover, ignore_errors=True)
        with new_folder(self.folder / f"step-{step}") as made:
            weights = {name: value.detach().contiguous() for name, value in trainable(model).items()}
            save_file(weights, made / "weights.safetensors")
            if average is not None:
                save_file(average.values, made / "average.safetensors")
            torch.save(optimizer.state_dict(), made / "optimizer.pt")
            for file in made.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())  # a rename may reach the disk before what it names
        steps = self.steps()
        for other in {*steps} - {*[n for n in steps if n <= step][-self.keep :]}:
            shutil.rmtree(self.folder / f"step-{other}", ignore_errors=True)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None) -> int:
        """Restore the newest checkpoint that is whole and finite; returns the number of steps done, 0 where there is
        none."""
        for step in reversed(self.steps()):
            folder = self.folder / f"step-{step}"
            try:
                weights = load_file(folder / "weights.safetensors")
                averaged = load_file(folder / "average.safetensors") if average is not None else {}
                state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
            except (OSError, EOFError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
                say(f"{self.name}: {folder} is damaged ({type(error).__name__}), and is passed over")
                continue
            if not (_finite(weights, state) and _finite(averaged)):
                say(f"{self.name}: {folder} holds numbers that are not finite, and is passed over")
                continue
            with torch.no_grad():
                for name, value in trainable(model).items():
                    value.copy_(weights[name])
                for name, value in averaged.items():
                    average.values[name].copy_(value)
            optimizer.load_state_dict(state)
            return step
        return 0


def read_log(file: Path) -> Rows:
    """Rows of a log; a line that a kill cut short is dropped. What earlier versions wrote has no ``gradient``."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as text:
        rows = [row for row in csv.DictReader(text) if all(row[name] for name in row.keys() - {"gradient"})]
    numbers = [{name: float(value) for name, value in row.items() if value} for row in rows]
    return [row | {"step": int(row["step"])} for row in numbers]


def write_log(file: Path, rows: Rows) -> None:
    """Where a row has no value, an empty cell; never seen half-written."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*rows[-1]])
    writer.writeheader()
    writer.writerows(rows)
    replace_file(file, text.getvalue().encode())
