"""Stage ``demo``: clips with known motion, animated from two public-domain portraits (docs/demo.md)."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from expportrait.demo.clip import draw, prepare, save_truth
from expportrait.demo.motion import CLIPS, FPS
from expportrait.errors import UserError
from expportrait.progress import progress
from expportrait.video.write import write_mp4


def run(clip: str, out: Path, settings: SimpleNamespace, device: str = "cpu") -> None:
    """Write the video ``out`` and its truth, the .npz beside it. ``device`` does not matter: all runs on the CPU."""
    if clip not in CLIPS:
        raise UserError(f"the demo has no clip {clip!r}: choose one of {', '.join(CLIPS)}")
    s = settings.demo
    torch.set_num_threads(1)  # the order of additions, so the frames, must not depend on the machine's cores
    prepared = prepare(clip, np.arange(s.frames) / FPS, s.size, s.yaw)
    frames, points = draw(prepared, partial(progress, total=s.frames, desc=clip))
    save_truth(out.with_suffix(".npz"), prepared, points)
    write_mp4(out, frames, FPS)
