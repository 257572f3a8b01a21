"""Stage ``appearance``: each pair's portrait in its own colours, moved by the driven head (docs/appearance.md)."""

from types import SimpleNamespace

import numpy as np
import torch

from expportrait.appearance.carry import BLOCK, carried
from expportrait.appearance.portrait import portrait
from expportrait.engine.stage import Clip
from expportrait.errors import ClipError
from expportrait.estimators.head_landmarks import load_head
from expportrait.head import Head
from expportrait.show.panels import marked
from expportrait.stages.drive import driven_head
from expportrait.store import StoreWriter, videocodec
from expportrait.video.mark import moved
from expportrait.video.sound import Sound
from expportrait.video.write import Mp4Writer


def load(settings: SimpleNamespace, device: str) -> Head:
    return load_head(settings.head).to(device)


@torch.no_grad()
def process(clip: Clip, out: StoreWriter) -> None:
    s, frame = clip.settings.appearance, clip.settings.drive.reference
    made, fitted = driven_head(clip)
    image, matte = clip.parents["portrait"].lazy("frames")[frame], clip.parents["matte"].lazy("mask")[frame]
    driver, names = clip.parents["film"], (clip.row.extra["target"], clip.row.extra["driver"])
    driving, fps, times = driver.lazy("frames"), driver.attrs["fps"], driver["timestamps"][: made.frames]
    if len(driving) < made.frames:
        raise ClipError(
            f"the driver's clip has {len(driving)} frames, its head {made.frames}: run crop and proxy again"
        )
    shown = portrait(image, matte, fitted, clip.backend)
    film = out.path.with_suffix(".mp4")
    size = image.shape[:2]
    maps = out.stream("appearance", made.frames, (*size, 3), np.uint8, videocodec.COLOURS, color="RGB")
    seen = out.stream("seen", made.frames, size, np.uint8, videocodec.TRUST)
    blocks = clip.computed(carried(shown, made, s.rim, s.still, s.body, clip.backend, body_follows=s.body_follows))
    common = {
        "times": times,
        "sound": Sound.of(clip.row.path, driver, made.frames),
        "mark": moved(*names, generated=False),
    }
    with Mp4Writer(film, fps, **common) as alone, Mp4Writer(film.with_suffix(".side.mp4"), fps, **common) as beside:
        first = 0
        for pictures, known in clip.progress(blocks, -(-made.frames // BLOCK), "carry"):
            maps.append(pictures)
            seen.append(known)
            for picture, one, seen_there in zip(pictures, known, driving[first : first + len(known)], strict=True):
                alone.append(picture)
                beside.append(np.hstack([image, seen_there, picture, marked(picture, one)]))
            first += len(known)
    out.array("timestamps", times, unit="s")
    out.attrs(
        target=names[0],
        driver=names[1],
        reference=frame,
        fps=fps,
        seen="0 to 255: whether a pixel shows what the portrait shows, or a guess",
        registered_to="the pair's control maps, frame by frame",
    )
