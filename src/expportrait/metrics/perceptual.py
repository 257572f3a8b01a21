"""LPIPS (Zhang et al. 2018) by the user's weights, or by the package ``lpips``. Without either there is no number."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from expportrait.errors import UserError
from expportrait.files import sha256
from expportrait.metrics.backbone import LEAST, AlexDistance

NOT_AVAILABLE = (
    "not available: LPIPS needs pretrained networks, which are not shipped; set evaluate.lpips_backbone and "
    "evaluate.lpips_linear to the two files of `expportrait fetch-weights lpips`, or install the package lpips, with "
    "the torchvision that belongs to the installed torch, and set evaluate.lpips to alex, vgg or squeeze"
)

MEASURED = {
    "norm": "squared difference of unit features, weighted by the linear layers; RGB in -1..1",
    "unit": "none, 0 is equal",
    "reduction": "mean over the pixels and sum over the layers, then mean over the frames",
}


class Lpips:
    """Distance of two pictures in the features of a pretrained network: 0 equal, larger is worse."""

    least = 1  # px, as of OwnLpips

    def __init__(self, net: str, device: str = "cpu"):
        """``net``: alex, vgg or squeeze. Raises UserError where the package or its networks cannot be loaded."""
        try:
            import lpips

            self._model = lpips.LPIPS(net=net, verbose=False).to(device).eval()
        except Exception as error:  # a torchvision that does not match, no network for the download, and others
            why = f"{type(error).__name__}: {error}"
            raise UserError(f"evaluate.lpips is {net}, but the package lpips cannot be used ({why}); install it with "
                            "the torchvision that belongs to torch, or leave the setting empty") from error  # fmt: skip
        self._net, self._device = net, device
        networks = hashlib.sha256()
        for name, value in sorted(self._model.state_dict().items()):
            networks.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
        self._sha256 = networks.hexdigest()

    def __call__(self, images: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) u8 each -> (T,)."""
        return np.array([self._distance(a, b) for a, b in zip(images, truth, strict=True)])

    @torch.inference_mode()
    def _distance(self, a: np.ndarray, b: np.ndarray) -> float:
        x, y = (torch.from_numpy(i).to(self._device).permute(2, 0, 1)[None].float() / 127.5 - 1 for i in (a, b))
        return float(self._model(x, y))

    def backend(self) -> dict:
        try:
            release = version("lpips")
        except PackageNotFoundError:
            release = "of unknown version"
        about = {"backend": f"package lpips {release}, network {self._net}, version 0.1"}
        return about | {"weights": {"all, as loaded": self._sha256}} | MEASURED


class OwnLpips:
    """The same distance in AlexNet's features, by the user's two files. ``least``: px, smallest side it can measure."""

    least = LEAST

    def __init__(self, backbone: Path | None, linear: Path | None, device: str = "cpu"):
        """Raises UserError where a file is missing or another."""
        if backbone is None or linear is None:
            raise UserError("evaluate.lpips_backbone and evaluate.lpips_linear go together: set both or neither")
        self._model, self._device = AlexDistance(backbone, linear).to(device).eval(), device
        self._files = {"backbone": sha256(backbone), "linear": sha256(linear)}

    @torch.inference_mode()
    def __call__(self, images: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) u8 each, sides of at least ``least`` px -> (T,)."""
        both = (torch.from_numpy(np.ascontiguousarray(i)).permute(0, 3, 1, 2) for i in (images, truth))
        pairs = zip(*both, strict=True)
        return np.array([float(self._model(*(x[None].to(self._device).float() / 127.5 - 1 for x in p))) for p in pairs])

    def backend(self) -> dict:
        return {"backend": "own code, AlexNet, LPIPS version 0.1", "weights": self._files} | MEASURED
