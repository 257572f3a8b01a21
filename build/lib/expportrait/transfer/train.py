"""Training of the expression transfer, and its figures."""

import math
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from expportrait.engine.heartbeat import Heartbeat
from expportrait.engine.training import Course, descend
from expportrait.settings.config import Transfer as Settings
from expportrait.transfer.data import Batch, FittedClips
from expportrait.transfer.model import Transfer

MILLIMETRE = 1e-3
CHECKPOINTS = 2  # kept, the newest ones: the last but one where the last is damaged


def mean_free(offsets: Tensor) -> Tensor:
    """Offsets (..., T, V, 3) less their mean over the frames: a clip's mean D_t sits in its D_s (method: gauge)."""
    return offsets - offsets.mean(-3, keepdim=True)


def losses(model: Transfer, batch: Batch, s: Settings) -> dict[str, Tensor]:
    """The loss (``total``) and its terms, mm; ``zero`` is what no offset at all would cost in ``offset``."""
    codes = model.encode(batch.motion)
    chosen = codes.gather(1, batch.frames.unsqueeze(-1).expand(-1, -1, codes.shape[-1]))
    made = batch.mask * model.decode(chosen, model.matrices(batch.features)) / MILLIMETRE
    target = batch.target / MILLIMETRE
    # frames come in pairs of neighbours, whose difference is the motion of one frame
    velocity = (made[:, 1::2] - made[:, ::2]) - (target[:, 1::2] - target[:, ::2])
    terms = {
        "offset": (mean_free(made) - mean_free(target)).abs().mean(),
        "velocity": velocity.abs().mean(),
        "magnitude": made.square().mean(),
    }
    terms["total"] = terms["offset"] + s.w_velocity * terms["velocity"] + s.w_magnitude * terms["magnitude"]
    return terms | {"zero": mean_free(target).abs().mean()}


def learning_rate(s: Settings, step: int) -> float:
    """A short linear warm-up, then half a cosine down to nearly nothing."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / s.steps)
    return s.learning_rate * min(1.0, (step + 1) / 50) * (0.01 + 0.99 * cosine)


def train(
    model: Transfer, clips: FittedClips, s: Settings, work: Path, device: str, beat: Heartbeat | None = None
) -> dict[str, list[float]]:
    """Train ``model`` in place; returns the curves ``loss``, ``offset`` and ``zero``, a value a step, mm.

    ``work`` keeps checkpoints and ``loss.csv``, from which a run that was killed goes on as if it had not been;
    ``beat`` is told of each step. Raises UserError where loss, gradient or weights are no longer finite.
    """
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=s.learning_rate)

    def terms(batch: Batch) -> dict[str, Tensor]:
        found = losses(model, batch.to(device), s)
        return {"loss": found["total"], "offset": found["offset"], "zero": found["zero"]}

    course = Course(
        "transfer", s.steps, s.save_every, CHECKPOINTS, lambda step, _: clips.batch(step, s), terms,
        partial(learning_rate, s), unit=" mm",
    )  # fmt: skip
    rows = descend(course, model, optimizer, work, beat)
    model.eval()
    return {name: [row[name] for row in rows] for name in ("loss", "offset", "zero")}


@torch.no_grad()
def evaluate(model: Transfer, clips: FittedClips) -> dict[str, float | int]:
    """Mean over all clips, frames and vertices, mm: ``error`` of the mean-free offsets, and ``zero``, theirs without
    any; ``explained`` = 1 - error / zero."""
    device = next(model.parameters()).device
    error = zero = weight = 0.0
    for name in clips.names:
        motion, features = clips.clips[name].motion[None].to(device), clips.features(name)[None].to(device)
        target = mean_free(clips.offsets(name)).to(device) / MILLIMETRE
        made = mean_free(clips.mask.to(device) * model(motion, features)[0]) / MILLIMETRE
        error += float((made - target).abs().mean()) * len(target)
        zero += float(target.abs().mean()) * len(target)
        weight += len(target)
    return {"clips": len(clips.names), "error": error / weight, "zero": zero / weight,
            "explained": 1 - error / zero if zero else 0.0}  # fmt: skip
