"""Encoders of what the generator is told: the control video and the reference portrait, on the latent grid."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PoseEncoder(nn.Module):
    """3D convolutions over the control video (B, in_channels, T, H, W) to (B, features, t, h, w).

    Strides bring T = time*k+1 frames of H x W px to k+1 latents of H/space x W/space. The first frame enters ``time``
    times, as in the codec's causal grid.
    """

    def __init__(self, in_channels: int, features: int, widths: Sequence[int], time: int, space: int):
        super().__init__()
        self.time = time
        layers: list[nn.Module] = []
        halvings_t, halvings_s = time.bit_length() - 1, space.bit_length() - 1
        for i, (before, after) in enumerate(zip((in_channels, *widths), widths, strict=False)):
            # space first: full-resolution activations are what would fill the memory
            stride_s = 2 if i < halvings_s else 1
            stride_t = 2 if 1 <= i <= halvings_t else 1
            layers += [nn.Conv3d(before, after, 3, (stride_t, stride_s, stride_s), 1), nn.SiLU()]
        if len(widths) < max(halvings_s, halvings_t + 1):
            raise ValueError(f"{len(widths)} layers cannot shrink {time}x{space}x{space} to 1")
        self.layers = nn.Sequential(*layers, nn.Conv3d(widths[-1], features, 1))

    def forward(self, control: Tensor) -> Tensor:
        first = control[:, :, :1].expand(-1, -1, self.time - 1, -1, -1)
        return self.layers(torch.cat([first, control], 2))


class ReferenceEncoder(nn.Module):
    """2D convolutions over the reference portrait and its control maps (B, in_channels, H, W) to (B, features, h, w)."""

    def __init__(self, in_channels: int, features: int, widths: Sequence[int], space: int):
        super().__init__()
        halvings = space.bit_length() - 1
        if len(widths) < halvings:
            raise ValueError(f"{len(widths)} layers cannot shrink {space}x{space} to 1")
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip((in_channels, *widths), widths, strict=False)):
            layers += [nn.Conv2d(before, after, 3, 2 if i < halvings else 1, 1), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], features, 1))

    def forward(self, reference: Tensor) -> Tensor:
        return self.layers(reference)
