"""The generator: a stock Wan transformer with widened patch embedding, and the encoders that feed it."""

from dataclasses import dataclass

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from expportrait.generator.encoders import Condition, PoseEncoder, ReferenceEncoder

_WAN = {"attention_head_dim": 128, "text_dim": 4096, "freq_dim": 256}
_FEW = {"text_dim": 16, "freq_dim": 64}
# Arguments of WanTransformer3DModel; the two large ones are those of the published text-to-video models.
PRESETS = {
    "tiny": {"num_attention_heads": 4, "ffn_dim": 512, "num_layers": 3, "attention_head_dim": 32, **_FEW},
    "mid": {"num_attention_heads": 8, "ffn_dim": 2048, "num_layers": 14, "attention_head_dim": 64, **_FEW},
    "1.3B": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, **_WAN},
    "14B": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40, **_WAN},
}
# Widths of the encoders' layers, and the features that they hand on
ENCODERS = {"tiny": (32, 32), "mid": (64, 32), "1.3B": (128, 32), "14B": (128, 32)}
# The matrices that LoRA updates: attention and feed-forward of each block
LORA_LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")


@dataclass(frozen=True)
class ModelConfig:
    """What the wrapper around the transformer needs to be built again."""

    preset: str  # sizes of the encoders
    latent_channels: int
    control_channels: int
    time: int  # frames a latent
    space: int  # px a latent
    reference: str = "both"  # conv: 2D encoder; latent_frame: one more latent frame in front; both
    prediction: str = "velocity"  # what the transformer's output means; x0 suits training from scratch
    appearance: bool = False  # whether the carried portrait's latents come in
    seen: bool = False  # whether what of it the portrait showed comes in


MIN_SIGMA = 0.05  # below it the division would blow up the error of predicted latents


class PortraitTransformer(nn.Module):
    """Velocity of the noised latents of a window, given the control video and the reference portrait."""

    def __init__(self, transformer: WanTransformer3DModel, config: ModelConfig):
        super().__init__()
        self.config = config
        width, features = ENCODERS[config.preset]
        control = config.control_channels
        self.pose_encoder = PoseEncoder(control, width, features, config.time, config.space)
        self.reference_encoder = None
        if config.reference != "latent_frame":
            self.reference_encoder = ReferenceEncoder(3 + control, width, features, config.space)
        columns = config.latent_channels + features * (1 + (self.reference_encoder is not None))
        columns += config.latent_channels * config.appearance + config.time * config.seen
        self.transformer = widen(transformer, columns)

    def forward(self, noised: Tensor, sigma: Tensor, given: Condition) -> Tensor:
        """Estimates noise - latents (B, C, t, h, w) from ``noised``, (1 - sigma) latents + sigma noise; sigma: (B,)."""
        b, t = len(noised), noised.shape[2]
        drop_control, drop_reference = (kept.view(b, 1, 1, 1, 1) for kept in (given.control_kept, given.reference_kept))
        latents, features = noised, self.pose_encoder(given.control) * drop_control
        framed = self.config.reference != "conv"
        if framed:
            latents = torch.cat([given.image_latent * drop_reference, latents], 2)
            features = torch.cat([self.pose_encoder(given.image_control[:, :, None]) * drop_reference, features], 2)
        columns = [latents, features]
        if self.reference_encoder is not None:
            appearance = self.reference_encoder(torch.cat([given.image, given.image_control], 1))
            columns.append((appearance[:, :, None] * drop_reference).expand(-1, -1, t + framed, -1, -1))
        # the carried portrait tells of both; in its own pose, in front, it is the portrait, all of it seen
        both = drop_control * drop_reference
        if self.config.appearance:
            carried = given.appearance * both
            columns.append(torch.cat([given.image_latent * drop_reference, carried], 2) if framed else carried)
        if self.config.seen:
            seen = given.seen * both
            front = torch.ones_like(seen[:, :, :1]) * drop_reference
            columns.append(torch.cat([front, seen], 2) if framed else seen)
        text = noised.new_zeros(b, 1, self.transformer.config.text_dim)
        # one row of zeros is Wan's null text: any number of equal rows attends to the same
        out = self.transformer(torch.cat(columns, 1), sigma.float() * 1000, text, return_dict=False)[0]
        out = out[:, :, int(framed) :]
        if self.config.prediction == "velocity":
            return out
        around = given.image_latent * drop_reference
        if self.config.appearance:
            around = given.appearance * both + around * (1 - drop_control)
        out = out + around
        return (noised - out) / sigma.clamp_min(MIN_SIGMA).view(b, 1, 1, 1, 1)


def widen(transformer: WanTransformer3DModel, in_channels: int) -> WanTransformer3DModel:
    """Give the patch embedding further input channels with zero weights: the output stays bit-identical."""
    old = transformer.patch_embedding
    if in_channels == old.in_channels:
        return transformer
    new = nn.Conv3d(
        in_channels, old.out_channels, old.kernel_size, old.stride, device=old.weight.device, dtype=old.weight.dtype
    )
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels].copy_(old.weight)
        new.bias.copy_(old.bias)
    transformer.patch_embedding = new
    transformer.register_to_config(in_channels=in_channels)
    return transformer
