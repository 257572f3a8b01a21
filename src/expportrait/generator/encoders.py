"""Encoders of what the generator is told: the control video and the reference portrait, on the latent grid."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle


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
    """2D convolutions over the reference portrait and its control maps (B, in_channels, H, W) to (B, features, h, w)."""

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
