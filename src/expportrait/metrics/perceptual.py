"""LPIPS (Zhang et al. 2018) by the user's installation of the package ``lpips``. Without it there is no number."""

from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from expportrait.errors import UserError

NOT_AVAILABLE = (
    "not available: LPIPS needs pretrained networks, which are not shipped; install the package lpips, with the "
    "torchvision that belongs to the installed torch, and set evaluate.lpips to alex, vgg or squeeze"
)


class Lpips:
    """Distance of two pictures in the features of a pretrained network: 0 equal, larger is worse."""

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
        return {"backend": f"package lpips {release}, network {self._net}, version 0.1", "norm": "RGB in -1..1",
                "unit": "none, 0 is equal", "reduction": "per frame, then mean over the frames"}  # fmt: skip
