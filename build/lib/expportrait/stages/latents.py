"""Stage ``latents``: each clip's windows and reference portraits through the video codec (docs/latents.md)."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
from torch import Tensor

from expportrait.engine.stage import Clip
from expportrait.errors import ClipError
from expportrait.generator.codec import Codec, load_codec, reference_frames, resize, to_tensor, window_starts
from expportrait.manifest.clips import Row
from expportrait.store import Store, StoreWriter, videocodec

STEPS = 64  # latents have about unit variance: rounded 47 dB below it, they pack better


def load(settings: SimpleNamespace, device: str) -> Codec:
    return load_codec(settings.latents, device)


def needless(row: Row, parents: dict[str, Store], settings: SimpleNamespace) -> str:
    """Only the training reads latents: it takes windows of clips of the split train, and a portrait has none."""
    count, window = parents["crop"].lazy("frames").shape[0], settings.latents.window
    if count == 1 < window:
        return "the clip is a single picture, which nothing is trained on"
    if count < window and row.split != "train":
        return (f"the clip has {count} frames, fewer than a window (latents.window: {window}), and only the split "
                "train is trained on")  # fmt: skip
    return ""


def packable(latents: np.ndarray) -> np.ndarray:
    """Latents rounded to ``STEPS``, float16."""
    return (np.rint(latents * STEPS) / STEPS).astype(np.float16)


def process(clip: Clip, out: StoreWriter) -> None:
    s, codec = clip.settings.latents, clip.tools
    frames = clip.parents["crop"].lazy("frames")
    count = frames.shape[0]
    if count < s.window:
        raise ClipError(f"the clip has {count} frames, fewer than a window (latents.window: {s.window})")

    def read(span: tuple[int, int]) -> Tensor:
        first, number = span
        return to_tensor(resize(frames[first : first + number], s.size))

    def encode(pixels: Tensor) -> np.ndarray:
        return packable(codec.encode(pixels.to(clip.device)).cpu().numpy())

    starts = window_starts(count, s.window, s.stride)
    references = reference_frames(count, s.references)
    spans = [(start, s.window) for start in starts] + [(frame, 1) for frame in references]
    passing = clip.computed(map(encode, clip.ahead(map(read, spans))))
    made = iter(clip.progress(passing, len(spans), "windows"))
    windows, axes = islice(made, len(starts)), "channel, time, y, x"
    out.array("windows", windows, frames=len(starts), axes=f"window, {axes}")
    out.array("reference_latents", made, frames=len(references), axes=f"reference, {axes}")
    images = out.stream("reference_images", len(references), (s.size, s.size, 3), np.uint8, videocodec.COLOURS, chunk=1,
                        color="RGB")  # fmt: skip
    for frame in references:
        images.append(resize(frames[frame : frame + 1], s.size))
    out.attrs(codec=codec.describe(), size=s.size, window=s.window, starts=starts, references=references, frames=count)
