"""Sampling: control maps and a portrait to video, window by window."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from expportrait.generator.codec import Codec
from expportrait.generator.data import dice
from expportrait.generator.model import Condition, PortraitTransformer


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


def window_starts(frames: int, window: int, stride: int) -> list[int]:
    """First frames of windows that cover all ``frames``; the last one ends with the clip. One for a shorter clip."""
    last = max(0, frames - window)
    return [*range(0, last, stride), last]


def generate(
    model: PortraitTransformer, codec: Codec, sampler: Sampler, frames: int, window: int, overlap: int,
    control: Callable[[slice], Tensor], image: Tensor, image_control: Tensor, seed: int,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Blocks of finished frames (n, H, W, 3) u8, together ``frames`` of them.

    ``control(slice)`` gives control maps (C, n, H, W); ``image``: (3, H, W) reference in -1..1; ``image_control`` its
    maps (C, H, W). Windows overlap by ``overlap`` frames, over which they cross-fade with triangular weights.
    """
    device = next(model.parameters()).device
    starts = window_starts(frames, window, window - overlap)
    image, image_control = image.to(device), image_control.to(device)
    image_latent = codec.encode(image[None, :, None])
    weight = np.minimum(np.arange(1, window + 1), np.arange(window, 0, -1)).astype(np.float32)
    weight = np.minimum(weight, overlap + 1)[:, None, None, None]
    held, weights, first = np.zeros((0, 1, 1, 3), np.float32), np.zeros((0, 1, 1, 1), np.float32), 0
    one = torch.ones(1, device=device)
    for start, following in zip(starts, [*starts[1:], frames], strict=True):
        maps = control(slice(start, min(start + window, frames)))
        if maps.shape[1] < window:  # a clip shorter than a window: hold its last frame
            maps = torch.cat([maps, maps[:, -1:].expand(-1, window - maps.shape[1], -1, -1)], 1)
        given = Condition(maps[None].to(device), image[None], image_control[None], image_latent, one, one)
        t = (window - 1) // codec.time + 1
        noise = torch.randn((1, image_latent.shape[1], t, *image_latent.shape[3:]), generator=dice(seed, "sample", start))
        video = codec.decode(sampler.latents(model, noise.to(device), given))[0].float().permute(1, 2, 3, 0).cpu().numpy()
        video = video[: frames - start]
        rows = len(video) - len(held) if len(held) else len(video)
        grow = ((0, max(0, rows)), *((0, 0),) * 3)
        held = np.pad(held, grow) if len(held) else np.zeros_like(video)
        weights = np.pad(weights, grow) if len(weights) else np.zeros((len(video), 1, 1, 1), np.float32)
        held[: len(video)] += video * weight[: len(video)]
        weights[: len(video)] += weight[: len(video)]
        done = following - start
        mean = held[:done] / weights[:done]
        yield np.rint((np.clip(mean, -1, 1) + 1) * 127.5).astype(np.uint8)
        held, weights, first = held[done:], weights[done:], following
