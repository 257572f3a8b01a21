"""Encoders of what the generator is told: the control video and the reference portrait, on the latent grid."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle


@dataclass
class Condition:
    """What is given beside the noise. ``*_kept`` are 0 where a sample has to do without."""

    control: Tensor  # (B, control_channels, T, H, W)
    image: Tensor  # (B, 3, H, W) reference portrait in -1..1
    image_control: Tensor  # (B, control_channels, H, W) its own control maps (N^R)
    image_latent: Tensor  # (B, C, 1, h, w) the same portrait through the codec
    control_kept: Tensor  # (B,)
    reference_kept: Tensor  # (B,)
    appearance: Tensor | None = None  # (B, C, t, h, w) the portrait carried to every frame, through the codec
    seen: Tensor | None = None  # (B, time, t, h, w) 0..1: what of it the portrait showed


class PoseEncoder(nn.Module):
    """3D convolutions over the control video (B, in_channels, T, H, W) to (B, features, t, h, w).

    T = time*k+1 frames of H x W px become k+1 latents of H/space x W/space. The first frame enters ``time`` times, as
    in the codec's causal grid. All but the last halving of the size is space-to-depth: convolutions at full
    resolution would cost more memory than the transformer.
    """

    def __init__(self, in_channels: int, width: int, features: int, time: int, space: int):
        super().__init__()
        self.time, self.fold = time, space // 2
        self.layers = nn.Sequential(
            nn.Conv3d(in_channels * self.fold**2, width, 3, (2, 2, 2), 1),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, (time // 2, 1, 1), 1),
            nn.SiLU(),
            nn.Conv3d(width, features, 1),
        )

    def forward(self, control: Tensor) -> Tensor:
        first = control[:, :, :1].expand(-1, -1, self.time - 1, -1, -1)
        frames = torch.cat([first, control], 2).transpose(1, 2)
        return self.layers(pixel_unshuffle(frames, self.fold).transpose(1, 2))


class ReferenceEncoder(nn.Module):
    """2D convolutions over reference portrait and its control maps, (B, in_channels, H, W) to (B, features, h, w)."""

    def __init__(self, in_channels: int, width: int, features: int, space: int):
        super().__init__()
        self.fold = space // 2
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels * self.fold**2, width, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.SiLU(),
            nn.Conv2d(width, features, 1),
        )

    def forward(self, reference: Tensor) -> Tensor:
        return self.layers(pixel_unshuffle(reference, self.fold))
