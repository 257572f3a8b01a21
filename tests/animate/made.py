"""A generator that was never trained, as the stage leaves one: it changes nothing of the portrait that is carried."""

from pathlib import Path

from expportrait.generator.codec import LinearCodec
from expportrait.generator.data import control_channels
from expportrait.generator.files import build, save_generator
from expportrait.generator.model import ModelConfig

MAPS = ["normals", "coverage", "appearance", "seen"]


def untrained(folder: Path, size: int = 128) -> Path:
    """Writes it into ``folder``/model."""
    codec = LinearCodec(48, 4, 8)
    grid = codec.channels, control_channels(MAPS), codec.time, codec.space
    model = build(ModelConfig("tiny", *grid, "conv", "x0", appearance=True, seen=True), None)
    about = {"key": "untrained", "maps": MAPS, "precision": "no", "shift": 8.0, "codec": codec.describe()}
    save_generator(folder / "model", model, about | {"size": size, "window": 9})
    return folder
