"""A user's Sapiens network in a TorchScript file: what all of them take, whatever they estimate."""

from pathlib import Path

import numpy as np
import torch

from expportrait.errors import UserError

HEIGHT, WIDTH = 1024, 768
MEAN, DEVIATION = (123.5, 116.5, 103.5), (58.5, 57.0, 57.5)  # of the channels R, G, B, 0..255


def normalized(images: np.ndarray, device: str) -> torch.Tensor:
    """Pictures (N,1024,768,3) u8 RGB -> (N,3,1024,768) float32 on the device, as the networks were trained."""
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous().float()
    mean, deviation = (torch.tensor(v, device=device)[:, None, None] for v in (MEAN, DEVIATION))
    return (pixels - mean) / deviation


def load_network(file: Path, key: str, device: str) -> torch.jit.ScriptModule:
    """The network in the file that the setting ``key`` names. Raises UserError where there is none."""
    if not file.is_file():
        raise UserError(f"{key}: {file} is no file")
    try:
        return torch.jit.load(str(file), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        text = str(error).strip().splitlines() or ["?"]
        if "memory" in text[0].lower():
            raise
        raise UserError(f"{key}: {file} is not a TorchScript file: {text[0]}") from None


def run_network(network: torch.jit.ScriptModule, images: torch.Tensor, key: str, file: Path) -> torch.Tensor:
    """Raises UserError where the file that the setting ``key`` names does not take such images."""
    try:
        return network(images)
    except RuntimeError as error:
        text = str(error).strip().splitlines()[-1]
        if "memory" in text.lower():
            raise
        raise UserError(f"{key}: {file} does not run: {text}") from None
