"""The end of stage (e): both offset fields against the pixels, by Adam through the renderer (eq. 6, L_sil)."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from expportrait.fit.model import ClipModel
from expportrait.fit.solvers.adam import ClipAdam, Slot
from expportrait.fit.solvers.exchange import recentre
from expportrait.fit.terms.residuals import numbers
from expportrait.fit.terms.table import FINAL
from expportrait.fit.terms.temporal import offset_energy

STATIC_RATE, DYNAMIC_RATE = 1e-4, 5e-5  # m a step of the vertex that is pulled hardest
STATIC_ROUNDS, DYNAMIC_ROUNDS = 6, 3  # smoothing of the offsets' gradients: a landmark pulls on three vertices only

Told = Callable[[dict[str, float]], None]


def steps(passes: float, frames: int, batch: int, least: int) -> int:
    """How many mini-batches make so many passes, at ``least`` so many."""
    return max(math.ceil(passes * frames / min(batch, frames)), least) if passes else 0


def batches(count: int, frames: int, batch: int) -> Iterator[Tensor]:
    """``count`` mini-batches of shuffled frames, each pass over all of them."""
    generator, order = torch.Generator().manual_seed(0), torch.empty(0, dtype=torch.long)
    batch = min(batch, frames)
    for _ in range(count):
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(frames, generator=generator)])
        yield order[:batch].unique()
        order = order[batch:]


def polish(model: ClipModel, size: int, count: int, static: bool, tell: Told) -> None:
    """Move D_t, and D_s where ``static``, by ``count`` steps; ``tell`` hears the weighted terms before every step."""
    problem, u = model.problem, model.unknowns
    adam = ClipAdam({"static": Slot(u.static, STATIC_RATE, False, shared_moment=True)} if static else {})
    for step, frames in enumerate(batches(count, model.frames, model.settings.batch)):
        frames = frames.to(model.device)
        adam.zero_grad()
        rows = u.dynamic.load(frames)
        terms = model.pixel_energies(frames, size, rows) | offset_terms(model, frames, static, rows)
        sum(terms.values()).backward()
        pace = 0.05 + 0.475 * (1 + math.cos(math.pi * step / count))
        with torch.no_grad():
            if static:
                u.static.grad = problem.static_pace * problem.static_energy.smooth(u.static.grad, STATIC_ROUNDS)
            gradient = problem.dynamic_energy.smooth(rows.grad.transpose(0, 1), DYNAMIC_ROUNDS).transpose(0, 1)
            u.dynamic.step(gradient, pace * DYNAMIC_RATE)
            adam.step(None, pace)
            recentre(model)
        tell(numbers(terms))
    u.static = u.static.detach()


def offset_terms(model: ClipModel, frames: Tensor, static: bool, rows: Tensor) -> dict[str, Tensor]:
    """The offset fields' own weighted terms; ``rows`` (B, n_f, 3): D_t of ``frames``, ascending."""
    terms = model.dynamic_energies(rows) | (model.static_energies() if static else {})
    weight = FINAL.weights(model.settings.weights)["temporal_offset"]
    if model.frames > 2 and weight:
        terms["temporal_offset"] = offset_energy(model.unknowns.dynamic, frames, rows, weight)
    return terms
