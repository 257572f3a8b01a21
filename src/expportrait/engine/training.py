"""The loop that all trainings share: data made ahead, gradients looked at before they change anything, a log of every
step, and checkpoints from which a run that was killed goes on exactly."""

import csv
import io
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
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
from expportrait.engine.parts import INDEX, agreed, as_part, local, of_first, read_parts, shared_folder, write_parts
from expportrait.engine.prefetch import by_workers
from expportrait.errors import UserError
from expportrait.files import new_folder, replace_file
from expportrait.progress import bar, say

Rows = list[dict[str, float]]
ENDING = (signal.SIGTERM, signal.SIGUSR1)  # of a cluster: the job is cancelled, its time is nearly over


@dataclass(frozen=True)
class Course:
    """What a training consists of.

    A step takes ``rounds`` batches of equal size one after the other, and its gradient is the mean of theirs.
    ``make(step, round)`` makes a batch, in one of ``workers`` threads, while those before are trained on: ``workers`` +
    2 batches are held at most. ``losses(batch)`` gives means over its samples: ``loss``, which is descended on, and
    what else the log is to hold. ``rate(step)`` is the learning rate, which a group of the optimizer takes by its
    ``factor``, ``clip`` the largest norm of the gradient. Of several processes, ``main`` says whether this is the one
    that writes; ``alone`` is a context in which gradients stay with their process, around all rounds of a step but the
    last, after which they are averaged; ``mean`` averages over the processes. ``parts``: each holds a part of every
    weight.
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
    parts: bool = False
    workers: int = 1


def descend(
    course: Course, model: nn.Module, optimizer: torch.optim.Optimizer, work: Path, beat: Heartbeat | None = None,
    average: Average | None = None,
) -> Rows:  # fmt: skip
    """Train ``model`` in place; returns the log, a row a step: ``step``, the losses, ``gradient`` (its norm over all
    processes, before clipping), ``learning_rate``, ``seconds``, and the part of them spent ``waiting`` for data.

    ``work`` keeps checkpoints and the log, from which a run that was killed goes on as if it had not been; ``beat`` is
    told of each step, ``average`` of what it made of the weights. Raises UserError where losses or gradient are not
    finite, before the weights are changed, and where the weights are not, before they are written; SystemExit where one
    of the processes was told to end by one of ``ENDING``, after a checkpoint of the step it was at.
    """
    checkpoints = Checkpoints(work / "checkpoints", course.keep, course.name, course.main, course.parts)
    first = checkpoints.load(model, optimizer, average)
    rows = [row for row in read_log(work / LOG_FILE) if row["step"] < first]
    if first:
        say(f"{course.name}: goes on from step {first} of {course.steps}")
    places = product(range(first, course.steps), range(course.rounds))
    batches = by_workers(course.make, places, course.workers)
    bill = billed(work.parent, "", course.name, device=str(next(model.parameters()).device))
    with bill, bar(course.steps, course.name) as shown, closing(batches) as made, told_to_end() as told:
        shown.update(first)
        clock = time.perf_counter()
        for step in range(first, course.steps):
            values, waiting, end = _backward(course, model, made, told)
            if not all(map(math.isfinite, values.values())):
                if course.main and rows:
                    write_log(work / LOG_FILE, rows)
                raise _diverged(course.name, step, ", ".join(f"{name} {value:.3g}" for name, value in values.items()))
            rate = course.rate(step)
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("factor", 1)
            optimizer.step()
            optimizer.zero_grad()
            if average is not None:
                average.follow(step)
            seconds = time.perf_counter() - clock
            clock += seconds
            rows.append({"step": step, **values, "learning_rate": rate, "seconds": seconds, "waiting": waiting})
            text = f"loss {values['loss']:.4f}{course.unit}"
            shown.update()
            shown.set_postfix_str(f"{text}, {seconds:.2f} s/step", refresh=False)
            if beat is not None:
                beat.trained(step + 1, seconds, text)
            if (step + 1) % course.save_every == 0 or step + 1 == course.steps or end:
                if course.main:
                    write_log(work / LOG_FILE, rows)
                if not agreed(finite(model, optimizer)):
                    raise _diverged(course.name, step, "it made weights that are not finite")
                checkpoints.save(step + 1, model, optimizer, average)
            if end and step + 1 < course.steps:
                say(f"{course.name}: told to end; the next try goes on from step {step + 1} of {course.steps}")
                sys.exit(128 + (told[0] if told else signal.SIGTERM))
    return rows


@contextmanager
def told_to_end() -> Iterator[list[int]]:
    """The signals of ``ENDING`` that have come since; inside, they do no more than that."""
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # which alone may ask for signals
        yield told
        return
    before = {number: signal.signal(number, lambda which, _: told.append(which)) for number in ENDING}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _backward(
    course: Course, model: nn.Module, made: Iterator[Any], told: list[int]
) -> tuple[dict[str, float], float, bool]:
    """The gradient of a step, clipped, in the parameters; the step's losses over all processes, with the norm that the
    gradient had, the seconds spent waiting for data, and whether a process was ``told`` to end."""
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
    weights = [value for value in trainable(model).values() if value.grad is not None]
    norm = nn.utils.get_total_norm([value.grad for value in weights])
    norm = norm.full_tensor() if course.parts else norm  # of all parts
    nn.utils.clip_grads_with_norm_(weights, course.clip, norm)
    asked = torch.full_like(total["loss"], len(told))  # of all at once: no process may end by itself
    asked, *values = torch.cat([course.mean(torch.stack([asked, *total.values()])), norm[None]]).tolist()
    return dict(zip((*total, "gradient"), values, strict=True)), waiting, asked > 0


def _diverged(name: str, step: int, why: str) -> UserError:
    return UserError(f"the training of {name} diverged at step {step} ({why}): lower {name}.learning_rate")


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that are trained, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def finite(model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Whether all weights that are trained, and what the optimizer keeps of each, are finite numbers, as far as this
    process holds them."""
    return _finite(trainable(model), optimizer.state)


def _finite(weights: Mapping[str, Tensor], state: Mapping[Any, dict[str, Any]]) -> bool:
    kept = (value for moments in state.values() for value in moments.values() if isinstance(value, Tensor))
    return all(bool(torch.isfinite(local(value)).all()) for value in (*weights.values(), *kept))


class Checkpoints:
    """``step-<n>/`` in a folder of its own: written beside, then renamed; the newest ``keep`` are kept. ``name``: the
    stage's.

    Of several processes, the ``main`` one writes; where they hold ``parts``, all do, each its own. Either kind is read,
    whatever the number of processes that wrote it.
    """

    def __init__(self, folder: Path, keep: int, name: str, main: bool = True, parts: bool = False):
        self.folder, self.keep, self.name, self.main, self.parts = folder, keep, name, main, parts
        folder.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        return sorted(int(path.name[5:]) for path in self.folder.glob("step-*") if path.name[5:].isdigit())

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None
    ) -> None:
        """Those of later steps, which ``load`` has passed over, go: they must not outlive the whole ones."""
        if self.main:
            for leftover in self.folder.glob(".*.tmp*"):  # only one process makes folders here
                shutil.rmtree(leftover, ignore_errors=True)
        if self.parts:
            with shared_folder(self.folder / f"step-{step}", self.main) as made:
                state = optimizer.state_dict()["state"]
                kept = {name: state.get(i, {}) for i, (name, _) in enumerate(_in_order(model, optimizer))}
                write_parts(made, trainable(model), kept, average.values if average else {})
        elif self.main:
            with new_folder(self.folder / f"step-{step}") as made:
                weights = {name: value.detach().contiguous() for name, value in trainable(model).items()}
                save_file(weights, made / "weights.safetensors")
                if average is not None:
                    save_file(average.values, made / "average.safetensors")
                torch.save(optimizer.state_dict(), made / "optimizer.pt")
                for file in made.iterdir():
                    with file.open("rb") as written:
                        os.fsync(written.fileno())  # a rename may reach the disk before what it names
        if self.main:
            steps = self.steps()
            for other in {*steps} - {*[n for n in steps if n <= step][-self.keep :]}:
                shutil.rmtree(self.folder / f"step-{other}", ignore_errors=True)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None) -> int:
        """Restore the newest checkpoint that is whole and finite; returns the number of steps done, 0 where there is
        none."""
        for step in reversed(of_first(self.steps())):
            folder, read = self.folder / f"step-{step}", None
            try:
                read = self._read(folder, model, optimizer, average)
                why = "" if _finite(*read[:2]) and _finite(read[2], {}) else "holds numbers that are not finite"
            except (OSError, EOFError, ValueError, KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
                why = f"is damaged ({type(error).__name__})"
            if not agreed(not why):
                say(f"{self.name}: {folder} {why or 'is no good to another process'}, and is passed over")
                continue
            weights, state, averaged = read
            with torch.no_grad():
                for name, value in trainable(model).items():
                    value.copy_(weights[name])
                for name, value in averaged.items():
                    average.values[name].copy_(value)
            places = [name for name, _ in _in_order(model, optimizer)]
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": {i: state[name] for i, name in enumerate(places) if name in state},
                                       "param_groups": groups})  # fmt: skip
            return step
        return 0

    def _read(
        self, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]], dict[str, Tensor]]:
        """Weights, what the optimizer keeps of each, and their average, by name, as this process is to hold them."""
        if (folder / INDEX).exists():
            return read_parts(folder, trainable(model), average is not None, alone=not self.parts)
        weights = load_file(folder / "weights.safetensors")
        averaged = load_file(folder / "average.safetensors") if average is not None else {}
        kept = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)["state"]
        like = dict(_in_order(model, optimizer))
        whole = {name: kept[i] for i, name in enumerate(like) if i in kept}
        return (
            {name: as_part(weights[name], value) for name, value in like.items()},
            {name: {kind: as_part(value, like[name]) if _shaped(value, like[name]) else value
                    for kind, value in values.items()} for name, values in whole.items()},
            {name: as_part(value, like[name]) for name, value in averaged.items()},
        )  # fmt: skip


def _in_order(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, nn.Parameter]]:
    """The weights that are trained, by name, in the optimizer's order."""
    names = {value: name for name, value in trainable(model).items()}
    return ((names[value], value) for group in optimizer.param_groups for value in group["params"])


def _shaped(value: Any, like: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == like.shape


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
