"""Stage ``reenact``: the target's portrait moved by the driver's control maps, one video a pair (docs/reenact.md)."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from torch import Tensor

from expportrait.engine.record import whole_state
from expportrait.engine.stage import Clip
from expportrait.errors import UserError
from expportrait.generator.codec import Codec, load_codec, resize, to_tensor
from expportrait.generator.data import control_maps
from expportrait.generator.files import load_generator
from expportrait.generator.model import PortraitTransformer
from expportrait.generator.sample import Sampler, generate
from expportrait.render.picture import normals_to_rgb
from expportrait.store import Store, StoreWriter, decode_normals
from expportrait.video.mark import moved
from expportrait.video.sound import Sound
from expportrait.video.write import Mp4Writer

PANEL = 256  # px, least side of the videos' pictures: smaller ones are enlarged, so that players show them


def load(settings: SimpleNamespace, device: str) -> Codec:
    return load_codec(settings.latents, device)


@lru_cache(1)
def trained(folder: Path, key: str, device: str) -> tuple[PortraitTransformer, dict]:
    """The generator in ``folder``; ``key`` only tells one training from the next."""
    model, about = load_generator(folder)
    return model.to(device), about


def check(about: dict, codec: Codec, overlap: int, folder: Path) -> None:
    """Raises UserError where the codec is not the one that the generator was trained with."""
    if about["codec"] != codec.describe():
        raise UserError(f"{folder} was trained on latents of {about['codec']}, but the section latents now says "
                        f"{codec.describe()}: set it back, or run the generator again")  # fmt: skip
    if overlap >= about["window"]:
        raise UserError(
            f"reenact.overlap is {overlap}, but the generator's window is {about['window']} frames: set it lower"
        )


def process(clip: Clip, out: StoreWriter) -> None:
    s, codec = clip.settings.reenact, clip.tools
    drive, target, driver = (clip.parents[name] for name in ("drive", "target", "driver"))
    home, reference = drive.path.parents[1] / "generator", drive.attrs["reference"]
    key = whole_state(home).key
    model, about = trained(home / "model", key, clip.device)
    check(about, codec, s.overlap, home / "model")
    size, maps = about["size"], about["maps"]
    portrait = target.lazy("frames")[reference : reference + 1]
    frames = drive.lazy("normals").shape[0]

    def control(wanted: slice) -> Tensor:
        return control_maps(drive, wanted, size, maps)

    def carried(wanted: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        moved = clip.parents["appearance"]
        return moved.lazy("appearance")[wanted], moved.lazy("seen")[wanted], drive.lazy("coverage")[wanted]

    sampler = Sampler(s.steps, s.shift, s.reference_scale, s.control_scale)
    blocks = generate(
        model, codec, sampler, frames, about["window"], s.overlap, control,
        to_tensor(resize(portrait, size))[0, :, 0], control_maps(drive, slice(0, 1), size, maps, "reference_")[:, 0],
        s.seed, carried if "appearance" in clip.parents else None, s.detail,
    )  # fmt: skip
    fps, video, names = (
        driver.attrs["fps"],
        out.path.with_suffix(".mp4"),
        (drive.attrs["target"], drive.attrs["driver"]),
    )
    times = driver["timestamps"][:frames]
    common = {"times": times, "sound": Sound.of(clip.row.path, driver, frames)}
    stored = out.stream("frames", frames, (size, size, 3), np.uint8, color="RGB")
    with (
        torch.autocast(clip.device.split(":")[0], torch.bfloat16, enabled=about["precision"] == "bf16"),
        Mp4Writer(video, fps, mark=moved(*names, generated=True), **common) as film,
        Mp4Writer(
            video.with_suffix(".side.mp4"), fps, mark=moved(*names, generated=True, alone=False), **common
        ) as beside,
        clip.bar("frames", frames) as bar,
    ):
        first = 0
        for made in blocks:  # of a window or less: memory does not grow with the clip
            stored.append(made)
            for result, panels in zip(made, side_by_side(portrait[0], driver, drive, made, first), strict=True):
                film.append(enlarge(result))
                beside.append(panels)
            first += len(made)
            bar.update(len(made))
    out.array("timestamps", times, unit="s")
    out.attrs(target=names[0], driver=names[1], reference=reference, fps=fps,
              generator=key, registered_to="the pair's control maps, frame by frame")  # fmt: skip


def enlarge(image: np.ndarray, size: int = PANEL) -> np.ndarray:
    """(H, W, 3) u8 with its shorter side at least ``size`` px."""
    scale = max(1, -(-size // min(image.shape[:2])))
    return image if scale == 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def side_by_side(
    portrait: np.ndarray, driver: Store, drive: Store, made: np.ndarray, first: int
) -> Iterator[np.ndarray]:
    """Frames (S, 4S, 3) u8 of the block ``made`` that begins at frame ``first``: reference, driver, control, result."""
    side = enlarge(made[0]).shape[0]

    def panel(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if len(image) > side else cv2.INTER_CUBIC)

    span = slice(first, first + len(made))
    normals, coverage, driving = drive.lazy("normals")[span], drive.lazy("coverage")[span], driver.lazy("frames")[span]
    for t, result in enumerate(made):
        colours = normals_to_rgb(decode_normals(normals[t]), coverage[t] / 255)
        yield np.hstack([panel(image) for image in (portrait, driving[t], colours, result)])
