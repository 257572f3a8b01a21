"""The loop that all trainings share: data made ahead, gradients looked at before they change anything, a log of every
step, and checkpoints from which a run that was killed goes on exactly."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from expportrait.engine.average import Average
from expportrait.engine.checkpoints import Checkpoints, finite, trainable
from expportrait.engine.costs import billed
from expportrait.engine.heartbeat import Heartbeat
from expportrait.engine.log import LOG_FILE, Row, Rows, in_short, read_log, write_log
from expportrait.engine.parts import agreed
from expportrait.engine.prefetch import by_workers
from expportrait.errors import UserError
from expportrait.progress import bar, say

ENDING = (signal.SIGTERM, signal.SIGUSR1)  # of a cluster: the job is cancelled, its time is nearly over


@dataclass(frozen=True)
class Course:
    """What a training consists of.

    A step takes ``rounds`` batches of equal size one after the other, and its gradient is the mean of theirs.
    ``make(step, round)`` makes a batch, in one of ``workers`` threads, while those before are trained on: ``workers`` +
    2 batches are held at most. ``losses(batch)`` gives means over its samples: ``loss``, which is descended on, and
    what else the log is to hold. ``rate(step)`` is the learning rate, which a group of the optimizer takes by its
    ``factor``, ``clip`` the largest norm of the gradient. ``figures(seconds)`` gives further columns of the log, of a
    step that took so long. ``seen(row)`` is told of each row, ``look(step, rows)`` of the log after each step, in
    between of which it may look at the model. Of several processes, ``main`` says whether this is the one that writes;
    ``alone`` is a context in which gradients stay with their process, around all rounds of a step but the last, after
    which they are averaged; ``mean`` averages over the processes. ``parts``: each holds a part of every weight.
    """

    name: str  # of the stage
    steps: int
    save_every: int
    keep: int
    make: Callable[[int, int], Any]
    losses: Callable[[Any], dict[str, Tensor]]
    rate: Callable[[int], float]
    figures: Callable[[float], Row] = lambda seconds: {}
    seen: Callable[[Row], None] = lambda row: None
    look: Callable[[int, Rows], None] = lambda step, rows: None
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
    processes, before clipping), ``learning_rate``, ``seconds``, the part of them spent ``waiting`` for data, and the
    course's own figures.

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
            row = {"step": step, **values, "learning_rate": rate, "seconds": seconds, "waiting": waiting}
            rows.append(row | course.figures(seconds))
            course.seen(rows[-1])
            loss, rest = f"loss {values['loss']:.4f}{course.unit}", in_short(rows[-1])
            shown.update()
            shown.set_postfix_str(f"{loss}, {seconds:.2f} s/step{rest}", refresh=False)
            if beat is not None:
                beat.trained(step + 1, seconds, loss + rest)
            if (step + 1) % course.save_every == 0 or step + 1 == course.steps or end:
                if course.main:
                    write_log(work / LOG_FILE, rows)
                if not agreed(finite(model, optimizer)):
                    raise _diverged(course.name, step, "it made weights that are not finite")
                checkpoints.save(step + 1, model, optimizer, average)
            if end and step + 1 < course.steps:
                say(f"{course.name}: told to end; the next try goes on from step {step + 1} of {course.steps}")
                sys.exit(128 + (told[0] if told else signal.SIGTERM))
            began = time.perf_counter()
            course.look(step + 1, rows)
            clock += time.perf_counter() - began  # of no step
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
    asked = torch.full_like(total["loss"], len(told))  # of all at once: no process may end by itself
    asked, *values = torch.cat([course.mean(torch.stack([asked, *total.values()])), norm[None]]).tolist()
    if values[-1] + 1e-6 > course.clip:  # below, torch would multiply all of them by 1
        nn.utils.clip_grads_with_norm_(weights, course.clip, norm)
    return dict(zip((*total, "gradient"), values, strict=True)), waiting, asked > 0


def _diverged(name: str, step: int, why: str) -> UserError:
    return UserError(f"the training of {name} diverged at step {step} ({why}): lower {name}.learning_rate")
