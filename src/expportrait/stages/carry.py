"""Stage ``carry``: each training window made of a reference portrait of its clip, through the codec (docs/carry.md)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import torch

from expportrait.appearance.carry import carried
from expportrait.appearance.choose import spread
from expportrait.appearance.portrait import Portrait, portrait
from expportrait.engine.stage import Clip
from expportrait.errors import ClipError
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.store import load_proxy
from expportrait.generator.codec import Codec, load_codec, reference_frames, resize, to_tensor, window_starts
from expportrait.head import Head
from expportrait.manifest.clips import Row
from expportrait.stages.latents import packable
from expportrait.store import Store, StoreWriter
from expportrait.transfer.drive import facing_of, still

KEPT = 8  # portraits in memory, some 12 MB each at 512 px


@dataclass(frozen=True)
class Tools:
    codec: Codec
    head: Head


def load(settings: SimpleNamespace, device: str) -> Tools:
    return Tools(load_codec(settings.latents, device), load_head(settings.head).to(device))


def needless(row: Row, parents: dict[str, Store], settings: SimpleNamespace) -> str:
    """Only the training reads what this makes, and looks at it at clips of the split val."""
    if row.split in ("train", "val"):
        return ""
    return f"the clip is of the split {row.split}: only train is trained on, and only val looked at meanwhile"


@torch.no_grad()
def process(clip: Clip, out: StoreWriter) -> None:
    s, look, codec = clip.settings.latents, clip.settings.appearance, clip.tools.codec
    frames, mattes = clip.parents["crop"].lazy("frames"), clip.parents["geometry"].lazy("mask")
    fitted = load_proxy(clip.parents["proxy"], clip.tools.head)
    count, window = fitted.frames, s.window
    if count < window:
        raise ClipError(f"the clip has {count} frames, fewer than a window (latents.window: {window})")
    starts, references = window_starts(count, window, s.stride), reference_frames(count, s.references)
    chosen = spread(facing_of(fitted), starts, window, references, clip.settings.carry.portraits, clip.row.clip)

    @lru_cache(KEPT)
    def shown(frame: int) -> Portrait:
        return portrait(frames[frame], mattes[frame], still(fitted, frame), clip.backend)

    def made() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Latents (C, t, h, w) and what was seen, (window, h, w) u8, of each window and portrait."""
        for start, several in zip(starts, chosen, strict=True):
            for reference in several:
                span = slice(start, start + window)
                blocks = carried(
                    shown(references[reference]), fitted, look.rim, look.still, look.body, clip.backend, span,
                    look.body_follows,
                )  # fmt: skip
                pictures, seen = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
                latents = codec.encode(to_tensor(resize(pictures, s.size)).to(clip.device))
                yield packable(latents.cpu().numpy())[0], resize(seen, s.size // codec.space)

    rows, side = sum(map(len, chosen)), s.size // codec.space
    latent = codec.channels, (window - 1) // codec.time + 1, side, side
    appearance = out.stream("appearance", rows, latent, np.float16, axes="row, channel, time, y, x")
    seen = out.stream("seen", rows, (window, side, side), np.uint8, axes="row, frame, y, x")
    for moved, known in clip.progress(clip.computed(made()), rows, "windows"):
        appearance.append(moved[None])
        seen.append(known[None])
    out.attrs(codec=codec.describe(), size=s.size, window=window, starts=starts, references=references,
              portraits=chosen, rows="the portraits of the first window, then those of the next")  # fmt: skip
