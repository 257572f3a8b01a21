"""Sampling: control maps and a portrait to video, window by window."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch.nn.functional import avg_pool3d

from expportrait.generator.codec import Codec, resize, to_tensor, window_starts
from expportrait.generator.data import seen_on_grid
from expportrait.generator.encoders import Condition
from expportrait.generator.model import PortraitTransformer
from expportrait.rng import random_generator

Carried = Callable[[slice], tuple[np.ndarray, np.ndarray, np.ndarray]]
LEVELS = 127.5  # of 255 in a unit of a picture in -1..1
NOISE = 20.0  # levels: a smaller change of the head that the portrait showed is rather the model's noise
MOVED = 12.0  # levels between the carried portrait and the portrait, of a head that has moved by some pixels


def detail_of(
    codec: Codec, pixels: Tensor, seen: Tensor, covered: Tensor, latents: Tensor, made: Tensor, image: Tensor
) -> Tensor:
    """(1, 3, T, H, W): what ``made`` lacks to be the carried portrait's own pixels with the model's change of them,
    smooth over the width of a latent and as far as it is ``believed``, where the portrait was seen; 0 where it was not.

    ``pixels`` (1, 3, T, H, W) in -1..1: the carried portrait; ``latents``: the same through the codec; ``seen`` and
    ``covered`` (1, 1, T, H, W) 0 to 1: what of it the portrait showed, where the driven head is; ``made``: what the
    model made of it, decoded; ``image`` (3, H, W): the portrait. The codec's own loss goes, and the edges of its
    blocks.
    """
    change, width = made - codec.decode(latents), codec.space // 2 * 2 + 1
    for _ in range(2):
        change = avg_pool3d(change, (1, width, width), 1, (0, width // 2, width // 2), count_include_pad=False)
    change = change * believed(change, covered, pixels - image[:, None])
    return (pixels + change - made) * seen


def believed(change: Tensor, covered: Tensor, motion: Tensor) -> Tensor:
    """(1, 1, T, H, W) 0 to 1: the share of ``change`` (1, 3, T, H, W) that is worth its errors.

    Little of what is small on the driven head (``covered``), which in the face is most of it; and little in frames
    whose carried portrait is nearly the portrait still, since a picture of it is better than any made one. ``motion``
    (1, 3, T, H, W): the difference.
    """
    size = (change.square().mean(1, keepdim=True) * LEVELS**2) ** 2
    moved = motion.square().mean((1, 3, 4), keepdim=True) * LEVELS**2
    return (1 - covered * NOISE**4 / (size + NOISE**4)) * moved / (moved + MOVED**2)


@dataclass(frozen=True)
class Sampler:
    """How a window is sampled. At scales of 1 a step is one forward pass; other scales cost up to three."""

    steps: int = 20
    shift: float = 3.0
    reference_scale: float = 1.0
    control_scale: float = 1.0

    def velocity(self, model: PortraitTransformer, noised: Tensor, sigma: Tensor, given: Condition) -> Tensor:
        """v0 + r (v_reference - v0) + c (v_both - v_reference), with r and c the two scales."""
        both = model(noised, sigma, given)
        if self.reference_scale == 1 and self.control_scale == 1:
            return both
        nothing = torch.zeros_like(given.control_kept)
        reference = model(noised, sigma, replace(given, control_kept=nothing))
        out = reference + self.control_scale * (both - reference)
        if self.reference_scale != 1:
            neither = model(noised, sigma, replace(given, control_kept=nothing, reference_kept=nothing))
            out = out + (self.reference_scale - 1) * (reference - neither)
        return out

    @torch.no_grad()
    def latents(self, model: PortraitTransformer, noise: Tensor, given: Condition) -> Tensor:
        """From ``noise`` (B, C, t, h, w) to latents of the same shape, by Euler's method."""
        scheduler = FlowMatchEulerDiscreteScheduler(shift=self.shift)
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / self.steps, self.steps).tolist(), device=noise.device)
        x = noise
        for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            velocity = self.velocity(model, x, sigma.expand(len(x)), given)
            x = scheduler.step(velocity, timestep, x, return_dict=False)[0]
        return x


def generate(
    model: PortraitTransformer, codec: Codec, sampler: Sampler, frames: int, window: int, overlap: int,
    control: Callable[[slice], Tensor], image: Tensor, image_control: Tensor, seed: int, carried: Carried | None = None,
    detail: float = 0.0,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Blocks of finished frames (n, H, W, 3) u8, together ``frames`` of them.

    ``control(slice)`` gives control maps (C, n, H, W); ``image``: (3, H, W) reference in -1..1; ``image_control`` its
    maps (C, H, W); ``carried(slice)``: the portrait carried to these frames, (n, H, W, 3) u8 RGB of any size, what of
    it was seen and where the driven head is, (n, H, W) u8, for models that want it; ``detail``: how much of
    ``detail_of`` is added. Windows overlap by ``overlap`` frames, over which they cross-fade with triangular weights.
    """
    device = next(model.parameters()).device
    starts = window_starts(frames, window, window - overlap)
    image, image_control = image.to(device), image_control.to(device)
    image_latent = codec.encode(image[None, :, None])
    shape = (1, image_latent.shape[1], (window - 1) // codec.time + 1, *image_latent.shape[3:])
    ramp = np.minimum(np.arange(1, window + 1), np.arange(window, 0, -1)).clip(max=overlap + 1)
    weight = ramp.astype(np.float32)[:, None, None, None]
    sums, weights = np.zeros((window, *image.shape[1:], 3), np.float32), np.zeros_like(weight)
    one = torch.ones(1, device=device)
    for start, following in zip(starts, [*starts[1:], frames], strict=True):
        span, missing = slice(start, min(start + window, frames)), max(0, window - frames)
        maps = control(span)
        if missing:  # a clip shorter than a window: hold its last frame
            maps = torch.cat([maps, maps[:, -1:].expand(-1, missing, -1, -1)], 1)
        given = Condition(maps[None].to(device), image[None], image_control[None], image_latent, one, one)
        if carried is not None:
            parts = (np.concatenate([part, part[-1:].repeat(missing, 0)]) for part in carried(span))
            moved, seen, covered = (resize(part, image.shape[-1]) for part in parts)
            pixels = to_tensor(moved).to(device)
            given.appearance = codec.encode(pixels)
            given.seen = seen_on_grid(resize(seen, image_latent.shape[-1]), codec.time)[None].to(device)
        noise = torch.randn(shape, generator=random_generator(seed, "sample", start)).to(device)
        video = codec.decode(sampler.latents(model, noise, given))
        if carried is not None and detail:
            shares = (torch.from_numpy(part)[None, None].to(device) / 255 for part in (seen, covered))
            video = video + detail * detail_of(codec, pixels, *shares, given.appearance, video, image)
        video = video[0].float().permute(1, 2, 3, 0).cpu().numpy()
        sums, weights, done = sums + video * weight, weights + weight, following - start
        yield np.rint((np.clip(sums[:done] / weights[:done], -1, 1) + 1) * 127.5).astype(np.uint8)
        sums, weights = (np.concatenate([held[done:], np.zeros_like(held[:done])]) for held in (sums, weights))
