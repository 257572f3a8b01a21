"""Stand-ins for DAViD that cost what real networks cost: none of their weights, all of their work, or their waiting.

``vit_base``: DAViD's multi-task interface around a transformer of its base size (12 layers of 768, patches of 16 px at
512 px: 1024 tokens; one layer's random weights twelve times, which costs the same). Its answers are those of
``tests.estimators.networks``; the transformer's are added with a weight that does not show.
``Busy``: a network that keeps a device busy for a given time and the CPU idle, as one on a GPU does.
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from expportrait.estimators.onnx_network import OnnxNetwork

WIDTH, LAYERS, HEADS, PATCH, SIDE = 768, 12, 12, 16, 512
UNSEEN = 1e-6


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mix, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(self.before(x)).view(-1, x.shape[1], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5).softmax(-1)
        x = x + self.out((attention @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.after(x))


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.layer = Layer()
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.patches(images).flatten(2).transpose(1, 2)
        for _ in range(LAYERS):
            x = self.layer(x)
        side = SIDE // PATCH
        trace = UNSEEN * torch.tanh(self.head(x)).transpose(1, 2).view(-1, 1, side, side)
        trace = nn.functional.interpolate(trace, (SIDE, SIDE))
        normals = images.flip(1) * 2 - 1 + trace
        return 1 - 2 * images[:, 0] + trace[:, 0], normals, 10 * images.sum(1, keepdim=True) + trace


def vit_base(file: Path) -> Path:
    """Writes 30 MB."""
    torch.manual_seed(0)
    names = {"input_names": ["input"], "output_names": ["depth", "normal", "foreground"]}
    free = {name: {0: "batch"} for name in ("input", "depth", "normal", "foreground")}
    images = (torch.rand(2, 3, SIDE, SIDE),)
    torch.onnx.export(Slow().eval(), images, str(file), **names, dynamic_axes=free, opset_version=17, dynamo=False)
    return file


class Busy:
    """``network`` whose call takes ``seconds`` a frame, of which the CPU has nothing to do but the stand-in's own."""

    def __init__(self, network: OnnxNetwork, seconds: float):
        self.network, self.seconds = network, seconds
        self.sha256, self.provider = network.sha256, network.provider

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        end = time.perf_counter() + self.seconds * len(images)
        out = self.network(images)
        time.sleep(max(0.0, end - time.perf_counter()))
        return out
