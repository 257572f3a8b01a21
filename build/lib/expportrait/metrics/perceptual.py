"""LPIPS (Zhang et al. 2018) by two files of AlexNet's weights, or by the package ``lpips``."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from expportrait.errors import UserError
from expportrait.files import sha256
from expportrait.metrics.backbone import LEAST, AlexDistance

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

    def of_all(self, truth: np.ndarray, films: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Name -> (T,) distances of each of ``films`` (T, H, W, 3) u8 from the truth."""
        return {name: self(film, truth) for name, film in films.items()}

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

    def __call__(self, images: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) u8 each, sides of at least ``least`` px -> (T,)."""
        return self.of_all(truth, {"": images})[""]

    @torch.inference_mode()
    def of_all(self, truth: np.ndarray, films: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Name -> (T,) distances of each of ``films`` (T, H, W, 3) u8 from the truth, whose features are made once."""
        for film in films.values():
            if film.shape != truth.shape:
                raise ValueError(f"the images are {film.shape}, the truth is {truth.shape}: they have to be alike")
        held = {name: self._features(film[0]) for name, film in films.items() if len(film) and not film.strides[0]}
        out = {name: np.empty(len(truth)) for name in films}
        for t, frame in enumerate(truth):
            true = self._features(frame)
            for name, film in films.items():  # of a frame that is held there is one in memory, and one is enough
                out[name][t] = float(self._model.distance(held.get(name) or self._features(film[t]), true))
        return out

    def _features(self, frame: np.ndarray) -> list[torch.Tensor]:
        x = torch.from_numpy(np.array(frame)).to(self._device)
        return self._model.features(x.permute(2, 0, 1)[None].float() / 127.5 - 1)

    def backend(self) -> dict:
        return {"backend": "own code, AlexNet, LPIPS version 0.1", "weights": self._files} | MEASURED
