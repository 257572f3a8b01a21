"""AlexNet's features and the LPIPS distance on them (Zhang et al. 2018, version 0.1), without torchvision or lpips.

Two files: AlexNet's weights as torchvision publishes them (``features.N.weight``), and the five linear layers of LPIPS
(``linN.model.1.weight``). Of torch, or as ``.npz``, and then it may be one file that has both.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.errors import UserError

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of RGB in -1..1, LPIPS' scaling layer
# number of the layer among torchvision's features, channels in and out, kernel, stride, padding; pooled before
LAYERS = (
    (0, 3, 64, 11, 4, 2, False),
    (3, 64, 192, 5, 1, 2, True),
    (6, 192, 384, 3, 1, 1, True),
    (8, 384, 256, 3, 1, 1, False),
    (10, 256, 256, 3, 1, 1, False),
)
LEAST = 63  # px, side of the smallest picture whose last features are not empty


class AlexDistance(torch.nn.Module):
    """Images (B, 3, H, W) RGB in -1..1 twice -> (B,), 0 equal."""

    def __init__(self, backbone: Path, linear: Path):
        """Raises UserError where a file is missing or has other weights."""
        super().__init__()
        features = _read(backbone, "evaluate.lpips_backbone")
        weights = _read(linear, "evaluate.lpips_linear")
        for i, (number, inside, out, kernel, *_) in enumerate(LAYERS):
            names = {
                f"weight{i}": (features, f"features.{number}.weight", (out, inside, kernel, kernel)),
                f"bias{i}": (features, f"features.{number}.bias", (out,)),
                f"linear{i}": (weights, f"lin{i}.model.1.weight", (1, out, 1, 1)),
            }
            for name, (state, key, shape) in names.items():
                file = (
                    f"evaluate.lpips_linear: {linear}" if state is weights else f"evaluate.lpips_backbone: {backbone}"
                )
                found = state.get(key)
                if found is None or tuple(found.shape) != shape:
                    what = "LPIPS 0.1 for alex" if state is weights else "torchvision's AlexNet"
                    raise UserError(f"{file} has no {key} of {shape}, so it is not {what}")
                self.register_buffer(name, found.float())
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])

    def features(self, images: Tensor) -> list[Tensor]:
        """Rectified outputs of the five convolutions, each pixel's channels made unit."""
        x, out = (images - self.shift) / self.scale, []
        for i, (_, _, _, _, stride, padding, pooled) in enumerate(LAYERS):
            x = F.max_pool2d(x, 3, 2) if pooled else x
            x = F.relu(F.conv2d(x, getattr(self, f"weight{i}"), getattr(self, f"bias{i}"), stride, padding))
            out.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return out

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.distance(self.features(a), self.features(b))

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """The same of two pictures' ``features``."""
        pairs = enumerate(zip(a, b, strict=True))
        return sum(F.conv2d((x - y) ** 2, getattr(self, f"linear{i}")).mean((1, 2, 3)) for i, (x, y) in pairs)


def _read(file: Path, key: str) -> dict[str, Tensor]:
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays}
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{key}: {file} does not exist") from None
    except Exception as error:  # of pickle, zip, numpy and torch
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{key}: {file} is not a file of torch weights: {why}") from None
    return state if isinstance(state, dict) else {}
