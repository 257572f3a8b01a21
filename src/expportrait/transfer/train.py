"""Training of the expression transfer, with checkpoints that resume exactly, and its figures."""

import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from expportrait.config import Transfer as Settings
from expportrait.errors import UserError
from expportrait.heartbeat import Heartbeat
from expportrait.progress import bar, say
from expportrait.transfer.data import Batch, FittedClips
from expportrait.transfer.model import Transfer

MILLIMETRE = 1e-3


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

    ``work`` keeps the checkpoint, from which a run that was killed goes on as if it had not been; ``beat`` is told of
    each step. Raises UserError where the loss is no longer finite.
    """
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=s.learning_rate)
    curves: dict[str, list[float]] = {"loss": [], "offset": [], "zero": []}
    file = work / "checkpoint.pt"
    if file.exists():
        saved = torch.load(file, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        curves = saved["curves"]
        say(f"transfer: goes on from step {len(curves['loss'])} of {s.steps}")
    first = len(curves["loss"])
    with bar(s.steps, "transfer") as shown:
        shown.update(first)
        clock = time.monotonic()
        for step, batch in enumerate(_batches(clips, s, first), first):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(s, step)
            terms = losses(model, batch.to(device), s)
            optimizer.zero_grad()
            terms["total"].backward()
            optimizer.step()
            for name, term in (("loss", "total"), ("offset", "offset"), ("zero", "zero")):
                curves[name].append(float(terms[term].detach()))
            if not math.isfinite(curves["loss"][-1]):
                raise UserError(f"the training of transfer diverged at step {step}: lower transfer.learning_rate")
            loss = f"loss {curves['loss'][-1]:.4f} mm"
            shown.set_postfix_str(loss, refresh=False)
            shown.update()
            seconds = time.monotonic() - clock
            clock += seconds
            if beat is not None:
                beat.trained(step + 1, seconds, loss)
            if (step + 1) % s.save_every == 0 or step + 1 == s.steps:
                _save(file, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "curves": curves})
    model.eval()
    return curves


def _batches(clips: FittedClips, s: Settings, first: int) -> Iterator[Batch]:
    """Batches of the steps ``first``..., each read while the one before is trained on."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(clips.batch, first, s)
        for step in range(first, s.steps):
            batch = following.result()
            if step + 1 < s.steps:
                following = pool.submit(clips.batch, step + 1, s)
            yield batch


def _save(file: Path, data: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("wb") as out:
        torch.save(data, out)
        out.flush()
        os.fsync(out.fileno())  # a rename may reach the disk before what it names
    temporary.replace(file)


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
