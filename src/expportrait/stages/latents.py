"""Stage ``latents``: each clip's windows and reference portraits through the video codec (docs/latents.md)."""

from types import SimpleNamespace

import numpy as np

from expportrait.errors import ClipError
from expportrait.generator.codec import Codec, load_codec, resize, to_tensor, window_starts
from expportrait.stage import Clip, Stage
from expportrait.store import StoreWriter

STEPS = 64  # latents have about unit variance: rounded 47 dB below it, they pack better


def load(settings: SimpleNamespace, device: str) -> Codec:
    return load_codec(settings.latents, device)


def process(clip: Clip, out: StoreWriter) -> None:
    s, codec = clip.settings.latents, clip.tools
    frames = clip.parents["crop"].lazy("frames")
    count = frames.shape[0]
    if count < s.window:
        raise ClipError(f"the clip has {count} frames, fewer than a window (latents.window: {s.window})")

    def encode(first: int, number: int) -> np.ndarray:
        pixels = to_tensor(resize(frames[first : first + number], s.size)).to(clip.device)
        latents = codec.encode(pixels)[0].cpu().numpy()
        return (np.rint(latents * STEPS) / STEPS).astype(np.float16)

    starts = window_starts(count, s.window, s.stride)
    references = np.unique(np.linspace(0, count - 1, s.references).round().astype(int)).tolist()
    windows = [encode(start, s.window) for start in clip.progress(starts, len(starts), "windows")]
    out.array("windows", np.stack(windows), axes="window, channel, time, y, x")
    out.array("reference_latents", np.stack([encode(i, 1) for i in references]), axes="reference, channel, time, y, x")
    out.array("reference_images", np.concatenate([resize(frames[i : i + 1], s.size) for i in references]), color="RGB")
    out.attrs(codec=codec.describe(), size=s.size, window=s.window, starts=starts, references=references, frames=count)


STAGE = Stage(name="latents", version=2, sections=("latents",), parents=("crop",), process=process, load=load)
