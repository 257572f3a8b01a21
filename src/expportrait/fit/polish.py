"""The end of stage (e): both offset fields against the pixels, by Adam through the renderer (eq. 6, L_sil)."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from expportrait.fit.adam import ClipAdam, Slot
from expportrait.fit.clip_model import ClipModel
from expportrait.fit.losses import MILLI, weighted_terms

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
    """``count`` steps of D_t, and of D_s where ``static``; ``tell`` hears every step's losses."""
    s, p = model.s, model.parameters
    adam = ClipAdam({"static": Slot(model.static_raw, STATIC_RATE, False, shared_moment=True)} if static else {})
    for step, frames in enumerate(batches(count, model.frames, s.batch)):
        frames = frames.to(model.device)
        adam.zero_grad()
        rows = model.dynamic.load(frames)
        terms = model.terms(frames, size, True, p.matrices(frames), rows)
        loss = weighted_terms(terms, s) + offset_terms(model, frames, static, rows)
        loss.backward()
        pace = 0.05 + 0.475 * (1 + math.cos(math.pi * step / count))
        with torch.no_grad():
            if static:
                gradient = model.static_raw.grad
                model.static_raw.grad = model.pace * model.static_energy.smooth(gradient, STATIC_ROUNDS)
            gradient = model.dynamic_energy.smooth(rows.grad.transpose(0, 1), DYNAMIC_ROUNDS).transpose(0, 1)
            model.dynamic.step(gradient, pace * DYNAMIC_RATE)
            adam.step(None, pace)
            model.recentre()
        tell({"total": float(loss.detach())} | {name: float(value.detach()) for name, value in terms.items()})
    model.static_raw = model.static_raw.detach()


def offset_terms(model: ClipModel, frames: Tensor, static: bool, rows: Tensor) -> Tensor:
    """L_mag, L_lap, strain and L_tmp of the offset fields; ``rows`` (B, n_f, 3): D_t of ``frames``."""
    s = model.s
    loss = model.dynamic_energy(rows.transpose(0, 1), s.w_dynamic_magnitude, s.w_dynamic_laplacian, s.w_dynamic_strain)
    if static:
        grown = model.static_raw - model.static_start
        loss = loss + model.static_energy(grown, s.w_static_magnitude, 0.0, s.w_strain)
        loss = loss + model.static_energy(model.static_raw, 0.0, s.w_static_laplacian)
        slid = (model.along @ grown[..., None])[..., 0]
        loss = loss + s.w_static_tangent * MILLI**2 * (slid * grown).sum(-1).mean()
    if model.frames > 2 and s.w_temporal_offset:
        before = model.dynamic[(frames - 1).clamp_min(0)]
        after = model.dynamic[(frames + 1).clamp_max(model.frames - 1)]
        loss = loss + s.w_temporal_offset * 1e6 * (before - 2 * rows + after).square().sum(-1).mean()
    return loss
