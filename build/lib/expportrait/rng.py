"""Random choices that depend on nothing but what they are for."""

import hashlib

import torch


def random_generator(seed: int, *what: str | int) -> torch.Generator:
    """The generator of one random choice. ``what`` begins with a tag: without it, two choices could draw the same."""
    text = "/".join(map(str, (seed, *what)))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))
