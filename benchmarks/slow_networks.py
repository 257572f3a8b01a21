"""Stand-ins for DAViD and Sapiens that cost what real networks cost: none of their weights, all of their work.

``david_base``, ``sapiens_small``: files of the published interfaces around networks of the real ones' arithmetic, with
random weights. DAViD's model cards call its networks DPT-based and its files say vitb16: a vision transformer of the
base size with DPT's decoder has 106 million parameters, files of 428 MB hold 107. Sapiens' sizes are those of its
configurations
(seg/configs/sapiens_*/.../sapiens_0.3b_*-1024x768.py at 3e829ac). The transformer's layers share one layer's weights,
which keeps the files small and costs the same. The answers are those of ``stand_in_networks``; the network's
own are added with a weight that does not show.
``Busy``: a network that keeps a device busy for a given time and the CPU idle, as one on a GPU does.
"""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.stand_in_networks import FOREGROUND, NEARNESS, NORMALS, SAPIENS, Colours
from torch import Tensor, nn

from expportrait.estimators.geometry.david import SIDE
from expportrait.estimators.onnx_network import OnnxNetwork
from expportrait.estimators.sapiens_network import HEIGHT, WIDTH

PATCH = 16
UNSEEN = 1e-6


class Layer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.after(x))


class Transformer(nn.Module):
    """(N,3,H,W) -> the (N,width,H/16,W/16) after each of the layers in ``taken``. ``shared``: one layer for all."""

    def __init__(self, width: int, layers: int, heads: int, taken: tuple[int, ...], shared: bool = True):
        super().__init__()
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        self.layers = nn.ModuleList([Layer(width, heads) for _ in range(1 if shared else layers)])
        self.count, self.taken = layers, taken

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.patches(images)
        size, out = x.shape[2:], []
        x = x.flatten(2).transpose(1, 2)
        for number in range(self.count):
            x = self.layers[number % len(self.layers)](x)
            if number in self.taken:
                out.append(x.transpose(1, 2).unflatten(2, size))
        return out


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class Dpt(nn.Module):
    """A vision transformer of base size with the decoder of DPT (Ranftl et al., ICCV 2021), without read-out token."""

    def __init__(self, outputs: int, shared: bool = True):
        super().__init__()
        width, levels, inner = 768, (96, 192, 384, 768), 256
        self.transformer = Transformer(width, 12, 12, (2, 5, 8, 11), shared)
        sizes = [
            nn.ConvTranspose2d(levels[0], levels[0], 4, 4), nn.ConvTranspose2d(levels[1], levels[1], 2, 2),
            nn.Identity(), nn.Conv2d(levels[3], levels[3], 3, 2, 1),
        ]  # fmt: skip
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, n, 1), size, nn.Conv2d(n, inner, 3, padding=1, bias=False))
            for n, size in zip(levels, sizes, strict=True)
        )
        self.given = nn.ModuleList(Residual(inner) for _ in levels)
        self.joined = nn.ModuleList(Residual(inner) for _ in levels)
        self.outs = nn.ModuleList(nn.Conv2d(inner, inner, 1) for _ in levels)
        self.fine, self.finer = nn.Conv2d(inner, inner // 2, 3, padding=1), nn.Conv2d(inner // 2, 32, 3, padding=1)
        self.last = nn.Conv2d(32, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = None
        for k, tokens in reversed(list(enumerate(self.transformer(images)))):
            level = self.levels[k](tokens)
            x = level if x is None else x + self.given[k](level)
            x = self.outs[k](F.interpolate(self.joined[k](x), scale_factor=2.0, mode="bilinear"))
        x = F.interpolate(self.fine(x), scale_factor=2.0, mode="bilinear")
        return self.last(F.relu(self.finer(x)))


class Sapiens(nn.Module):
    """Sapiens' 0.3b with one of its heads: deconvolutions, each twice the size, then 1x1 convolutions."""

    def __init__(self, outputs: int, width: int, deconvolutions: int, convolutions: int, shared: bool = True):
        super().__init__()
        self.transformer = Transformer(1024, 24, 16, (23,), shared)
        given, steps = 1024, []
        for k in range(deconvolutions + convolutions):
            up = k < deconvolutions
            steps.append(nn.ConvTranspose2d(given, width, 4, 2, 1, bias=False) if up else nn.Conv2d(width, width, 1))
            steps += [nn.InstanceNorm2d(width), nn.SiLU()]
            given = width
        self.head = nn.Sequential(*steps, nn.Conv2d(width, outputs, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.transformer(images)[0])


class Answered(nn.Module):
    """``answer``'s maps, for which ``network`` has worked."""

    def __init__(self, network: nn.Module, answer: nn.Module):
        super().__init__()
        self.network, self.answer = network, answer

    def forward(self, images: Tensor) -> Tensor:
        out = self.answer(images)
        out = out + UNSEEN * F.interpolate(torch.tanh(self.network(images)), out.shape[2:])
        return out.squeeze(1) if isinstance(self.answer, Rows) and self.answer.flat else out


class Rows(nn.Module):
    """Channels from B, G, R of 0..1 and a constant; ``flat``: without the axis of channels, as depth is."""

    def __init__(self, rows: list, flat: bool):
        super().__init__()
        rows, self.flat = torch.tensor(rows, dtype=torch.float32), flat
        self.register_buffer("weight", rows[:, :3, None, None])
        self.register_buffer("bias", rows[:, 3])

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images, self.weight, self.bias)


def david_base(folder: Path) -> dict[str, Path]:
    """DAViD's three single files by setting, 110 MB each."""
    torch.manual_seed(0)
    files = {}
    for key, name, rows in (
        ("normals", "normal", NORMALS), ("depth", "depth", NEARNESS), ("mask", "foreground", FOREGROUND)
    ):  # fmt: skip
        network = Answered(Dpt(len(rows)), Rows(rows, name == "depth")).eval()
        files[key] = folder / f"{key}-base.onnx"
        names = {"input_names": ["input"], "output_names": [name]}
        free = {each: {0: "batch"} for each in ("input", name)}
        images = (torch.rand(2, 3, SIDE, SIDE),)
        with torch.inference_mode():
            torch.onnx.export(
                network, images, str(files[key]), **names, dynamic_axes=free, opset_version=17, dynamo=False
            )
    return files


def sapiens_small(folder: Path) -> dict[str, Path]:
    """Sapiens' three files of its smallest size, 0.3b, by setting."""
    torch.manual_seed(0)
    files = {}
    heads = {"normals": (3, 768, 3, 3), "depth": (1, 384, 4, 2), "mask": (28, 768, 3, 3)}
    with torch.inference_mode():
        for key, head in heads.items():
            network = Answered(Sapiens(*head), Colours(SAPIENS[key])).eval()
            files[key] = folder / f"{key}-0.3b.pt2"
            torch.jit.trace(network, torch.zeros(1, 3, HEIGHT, WIDTH), check_trace=False).save(str(files[key]))
    return files


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
