"""The end of stage (e): both offset fields against the pixels, by Adam through the renderer (eq. 6, L_sil)."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from expportrait.fit.clip_model import ClipModel
from expportrait.fit.solvers.adam import ClipAdam, Slot
from expportrait.fit.terms.offsets import MILLI
from expportrait.fit.terms.residuals import numbers

STATIC_RATE, DYNAMIC_RATE = 1e-4, 5e-5  # m a step of the vertex that is pulled hardest
STATIC_ROUNDS, DYNAMIC_ROUNDS = 6, 3  # smoothing of the offsets' gradients: a landmark pulls on three vertices only

Told = Callable[[dict[str, float]], None]


def steps(passes: float, frames: int, batch: int, least: int) -> int:
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
    """``count`` steps of D_t, and of D_s where ``static``; ``tell`` hears the weighted terms before every step."""
    s, p = model.s, model.parameters
    adam = ClipAdam({"static": Slot(model.static_raw, STATIC_RATE, False, shared_moment=True)} if static else {})
    for step, frames in enumerate(batches(count, model.frames, s.batch)):
        frames = frames.to(model.device)
        adam.zero_grad()
        rows = model.dynamic.load(frames)
        terms = model.terms(frames, size, True, p.matrices(frames), rows)
        terms = {name: getattr(s, f"w_{name}") * value for name, value in terms.items()} | offset_terms(
            model, frames, static, rows
        )
        sum(terms.values()).backward()
        pace = 0.05 + 0.475 * (1 + math.cos(math.pi * step / count))
        with torch.no_grad():
            if static:
                gradient = model.static_raw.grad
                model.static_raw.grad = model.pace * model.static_energy.smooth(gradient, STATIC_ROUNDS)
            gradient = model.dynamic_energy.smooth(rows.grad.transpose(0, 1), DYNAMIC_ROUNDS).transpose(0, 1)
            model.dynamic.step(gradient, pace * DYNAMIC_RATE)
            adam.step(None, pace)
            model.recentre()
        tell(numbers(terms))
    model.static_raw = model.static_raw.detach()


def offset_terms(model: ClipModel, frames: Tensor, static: bool, rows: Tensor) -> dict[str, Tensor]:
    """The offset fields' own weighted terms; ``rows`` (B, n_f, 3): D_t of ``frames``, ascending. L_tmp: every second
    difference that these have a part in, over their number, so that its derivative is the clip's."""
    s = model.s
    terms = model.dynamic_terms(rows) | (model.static_terms() if static else {})
    if model.frames > 2 and s.w_temporal_offset:
        middle = torch.cat([frames - 1, frames, frames + 1]).clamp(1, model.frames - 2).unique()
        needed = torch.cat([middle - 1, middle, middle + 1]).unique()
        field = model.dynamic[needed].index_copy(0, torch.searchsorted(needed, frames), rows)
        at = torch.searchsorted(needed, middle)
        change = field[at - 1] - 2 * field[at] + field[at + 1]
        terms["temporal_offset"] = s.w_temporal_offset * MILLI**2 * change.square().sum() / rows[..., 0].numel()
    return terms
