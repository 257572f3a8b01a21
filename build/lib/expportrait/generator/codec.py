"""Latent codecs: windows of 4k+1 frames to the causal latent grid of the Wan video VAE, and back.

The first latent stands for the first frame alone, each further one for the next ``time`` frames. Frames are
(B, 3, T, H, W), RGB in -1..1; latents (B, C, 1 + (T-1)/time, H/space, W/space), about unit variance.
"""

from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from expportrait.errors import UserError
from expportrait.files import sha256
from expportrait.settings.config import Latents
from expportrait.settings.weights import vae_file
from expportrait.store import videocodec

PATCH = 2  # latent pixels a side that the transformer takes for one token
BRIGHTNESS = 0.6  # deviation of a block's mean brightness in portraits, times sqrt(3) for the three colours
_COLOURS = np.array([[2**0.5, 2**0.5, 2**0.5], [3**0.5, 0, -(3**0.5)], [1, -2, 1]]) / 6**0.5  # grey, two opponents


class Codec(Protocol):
    """What the stages need of a codec. ``describe()`` tells two codecs apart: a model runs only with its own."""

    channels: int
    time: int
    space: int

    def encode(self, frames: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...

    def describe(self) -> dict[str, Any]: ...

    def to(self, device: str) -> "Codec": ...


def check_grid(frames: int, height: int, width: int, time: int, space: int) -> None:
    """Raises UserError unless ``frames`` are time*k+1 and height and width whole numbers of tokens."""
    if frames < 1 or (frames - 1) % time:
        near = max(1, (frames - 1) // time * time + 1)
        raise UserError(
            f"a window of {frames} frames does not fit the codec, which takes {time}k+1 frames: {near} or {near + time}"
        )
    grid = space * PATCH
    if height % grid or width % grid or min(height, width) < grid:
        raise UserError(f"frames of {height}x{width} px do not fit the codec: sizes must be multiples of {grid}")


def window_starts(frames: int, window: int, stride: int) -> list[int]:
    """First frames of windows that cover all ``frames``; the last one ends with the clip. One for a shorter clip."""
    last = max(0, frames - window)
    return [*range(0, last, stride), last]


def reference_frames(frames: int, wanted: int) -> list[int]:
    """Frames spread over the clip, from its first one on. Where there are enough of them, those that are first in their
    chunk of control maps, which are read fastest."""
    chosen = np.arange(0, frames, videocodec.FRAMES)
    if len(chosen) < wanted:
        chosen = np.arange(frames)
    return np.unique(chosen[np.linspace(0, len(chosen) - 1, wanted).round().astype(int)]).tolist()


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """(T, H, W, C) or (T, H, W) to ``size`` px a side, by area; the type stays."""
    if images.shape[1:3] == (size, size):
        return images
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images])


def to_tensor(frames: np.ndarray) -> Tensor:
    """(T, H, W, 3) u8 RGB to (1, 3, T, H, W) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


class LinearCodec:
    """The strongest ``channels`` coefficients of a cosine transform of time x space x space blocks: needs no weights.

    Strength is that of an analytic spectrum (grey images' power falls with frequency, colour is weaker than
    brightness), so that the codec is the same everywhere and fits no data. Channels are divided by their expected
    deviation to the power of ``WHITENING``: whitened in full, the many weak ones drown the few that matter.
    """

    WHITENING = 0.5

    def __init__(self, channels: int = 32, time: int = 4, space: int = 4):
        self.channels, self.time, self.space = channels, time, space
        size = 3 * time * space * space
        if not 1 <= channels <= size:
            raise UserError(f"latents.channels is {channels}: blocks of {time}x{space}x{space} px have 1 to {size}")
        basis = np.einsum("at,by,cx,dk->abcdktyx", _cosines(time), _cosines(space), _cosines(space), _COLOURS)
        t, y, x, colour = np.meshgrid(*(np.arange(n) for n in (time, space, space, 3)), indexing="ij")
        frequency = (y / space) ** 2 + (x / space) ** 2 + (2 * t / time) ** 2
        deviation = np.sqrt(np.array([1, 0.12, 0.04])[colour] / (0.01 + frequency) ** 1.5).ravel()
        chosen = np.argsort(-deviation, kind="stable")[:channels]
        scale = (deviation[chosen] / deviation[0]) ** self.WHITENING * BRIGHTNESS * np.sqrt(size / 3)
        self._basis = torch.from_numpy(basis.reshape(size, size)[chosen]).float()  # orthonormal rows, (C, 3*t*y*x)
        self._scale = torch.from_numpy(scale).float()[:, None]

    def encode(self, frames: Tensor) -> Tensor:
        b, _, count, height, width = frames.shape
        check_grid(count, height, width, self.time, self.space)
        padded = torch.cat([frames[:, :, :1].expand(-1, -1, self.time - 1, -1, -1), frames], 2)
        t, h, w = padded.shape[2] // self.time, height // self.space, width // self.space
        blocks = padded.reshape(b, 3, t, self.time, h, self.space, w, self.space).permute(0, 2, 4, 6, 1, 3, 5, 7)
        return (blocks.reshape(b, t, h, w, -1) @ (self._basis / self._scale).T).permute(0, 4, 1, 2, 3)

    def decode(self, latents: Tensor) -> Tensor:
        b, _, t, h, w = latents.shape
        blocks = latents.permute(0, 2, 3, 4, 1).float() @ (self._basis * self._scale)
        blocks = blocks.reshape(b, t, h, w, 3, self.time, self.space, self.space).permute(0, 4, 1, 5, 2, 6, 3, 7)
        video = blocks.reshape(b, 3, t * self.time, h * self.space, w * self.space)
        return torch.cat([video[:, :, : self.time].mean(2, keepdim=True), video[:, :, self.time :]], 2).clamp(-1, 1)

    def describe(self) -> dict[str, Any]:
        return {"codec": "linear", "channels": self.channels, "time": self.time, "space": self.space}

    def to(self, device: str) -> "LinearCodec":
        self._basis, self._scale = self._basis.to(device), self._scale.to(device)
        return self


def _cosines(n: int) -> np.ndarray:
    """Orthonormal DCT-II, (frequency, position)."""
    k, x = np.mgrid[:n, :n]
    return np.where(k == 0, np.sqrt(1 / n), np.sqrt(2 / n) * np.cos(np.pi * k * (x + 0.5) / n))


class WanCodec:
    """Wan's causal video VAE: 16 channels, 4 frames and 8x8 px a latent."""

    def __init__(self, weights: Path):
        """``weights``: the VAE's safetensors file, its config.json beside it."""
        from diffusers import AutoencoderKLWan

        try:
            vae = AutoencoderKLWan.from_pretrained(weights.parent, torch_dtype=torch.float32)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"latents.vae: {weights.parent} does not hold Wan's VAE ({str(error).splitlines()[0]})"
            ) from None
        self._vae, config = vae.eval().requires_grad_(False), vae.config
        self.channels, self.time, self.space = config.z_dim, config.scale_factor_temporal, config.scale_factor_spatial
        if {len(config.latents_mean), len(config.latents_std)} != {self.channels}:
            raise UserError(
                f"latents.vae: {weights.parent}/config.json gives latents_mean and latents_std for another z_dim"
            )
        # the VAE itself does not normalise
        statistics = config.latents_mean, config.latents_std
        self._mean, self._std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in statistics)
        self._sha256 = sha256(weights)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        # the VAE drops surplus frames and pixels without a word
        check_grid(*frames.shape[2:], self.time, self.space)
        return (self._vae.encode(frames).latent_dist.mode() - self._mean) / self._std

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self._vae.decode(latents.float() * self._std + self._mean).sample

    def describe(self) -> dict[str, Any]:
        grid = {"channels": self.channels, "time": self.time, "space": self.space}
        return {"codec": "wan", **grid, "weights": self._sha256}

    def to(self, device: str) -> "WanCodec":
        self._vae.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self


def load_codec(settings: Latents, device: str = "cpu") -> Codec:
    """The codec of the section ``latents``, whose window and size it has to fit."""
    if settings.codec == "linear":
        codec: Codec = LinearCodec(settings.channels, 4, settings.space)
    else:
        codec = WanCodec(vae_file(settings))
    check_grid(settings.window, settings.size, settings.size, codec.time, codec.space)
    return codec.to(device)
