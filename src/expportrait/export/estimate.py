"""What an export will take, before it is made: bytes and time, from the stores' sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expportrait.export.layout import Layout, Sample
from expportrait.export.parts import PARTS, there
from expportrait.export.run import stores_of
from expportrait.store import Lazy

LOOKED_AT = 64  # clips, spread over all
# Measured on the demo's clips, 512 px, at --crf 12 (docs/export.md): bytes for a byte of the store's array, and seconds
# of one core for a million pixels.
COLOURS, NORMALS, HALF, MAP, COPY = (0.19, 0.062), (0.116, 0.138), (10.2, 0.026), (0.85, 0.007), (1.0, 0.0004)
PICTURE = 9.6  # bytes of a picture without losses, for a byte of a frame in the store


@dataclass(frozen=True)
class Estimate:
    size: float = 0  # bytes
    seconds: float = 0  # of one core
    frames: float = 0
    hours: float = 0


def estimate(samples: Sequence[Sample], layout: Layout, results: Path) -> Estimate:
    """Of all ``samples``, from some of them."""
    if not samples:
        return Estimate()
    step = max(1, len(samples) // LOOKED_AT)
    looked = samples[::step]
    found = [_of(sample, results) for sample in looked]
    factor = len(samples) / len(looked)
    return Estimate(*(factor * sum(values) for values in zip(*found, strict=True)))


def _of(sample: Sample, results: Path) -> tuple[float, float, float, float]:
    stores = stores_of(results, sample)
    count = stores["crop"].lazy("frames").shape[0]
    bytes_ = seconds = 0.0
    for part in (PARTS[name] for name in sample.parts):
        if not there(part, stores):
            continue
        store = stores[part.stage]
        if not part.array:
            bytes_ += sum(math.prod(a.shape) * a.dtype.itemsize for a in map(store.lazy, store.names()))
            continue
        array = store.lazy(part.array)
        on_disk = sum(file.stat().st_size for file in (store.path / part.array).rglob("*") if file.is_file())
        if part.name == "reference":
            bytes_ += PICTURE * on_disk / len(array)
            continue
        rate = _rate(array)
        bytes_ += rate[0] * on_disk
        seconds += rate[1] * math.prod(array.shape[:3]) / 1e6
    return bytes_, seconds, count, count / float(stores["crop"].attrs.get("fps") or 25) / 3600


def _rate(array: Lazy) -> tuple[float, float]:
    if array.ndim == 4:
        return NORMALS if array.dtype == np.int8 else COLOURS
    if array.dtype != np.uint8:
        return HALF
    return MAP if array.packed() is None else COPY
