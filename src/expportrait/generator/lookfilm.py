"""The film of a look: portrait, control, truth and what the generator makes of them, side by side, and its figures."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from expportrait.engine.looks import Look
from expportrait.errors import UserError
from expportrait.estimators.blendshapes import FaceLandmarker
from expportrait.estimators.sface import SFace
from expportrait.files import replace_file
from expportrait.generator.codec import Codec
from expportrait.generator.data import Batch, Windows
from expportrait.metrics import blendshapes, identity, image
from expportrait.metrics.pair import Look as Face
from expportrait.metrics.pair import Viewer
from expportrait.render.picture import normals_to_rgb
from expportrait.video.mark import moved
from expportrait.video.write import write_mp4

FRAMES = 25  # as many of them where the clip has windows for it: a window of the demo has nine
MEASURED = 12  # of them, evenly spread, in which faces are looked for: that costs more than to make them
KEYS = 12  # frames from key frame to key frame, for the report's slider


def film_windows(starts: list[int], length: int) -> list[tuple[int, int]]:
    """Windows of ``length`` frames that follow each other, by number, and how many frames of each the one before shows
    already. ``starts``: the first frames of all."""
    chosen, end = [(0, 0)], starts[0] + length
    while end - starts[0] < FRAMES:
        following = [i for i, start in enumerate(starts) if start <= end < start + length]
        if not following:
            break
        chosen.append((following[-1], end - starts[following[-1]]))
        end = starts[following[-1]] + length
    return chosen


class LookFilm:
    """``write`` makes ``look-<step>.mp4`` in ``folder``, and a picture of its middle frame. ``codec()`` gives the
    codec."""

    def __init__(self, fps: float, codec: Callable[[], Codec], folder: Path):
        self._fps, self._made_codec, self._folder = fps, codec, folder
        self._true: Face | None = None  # of the truth, which is the same at each look

    @cached_property
    def _codec(self) -> Codec:
        return self._made_codec()

    @cached_property
    def _viewer(self) -> Viewer:
        return Viewer(FaceLandmarker(), SFace())  # on the CPU: the GPU's memory is the training's

    def write(self, step: int, parts: list[tuple[Batch, Tensor, int]]) -> Look:
        """``parts``: windows one after the other, what was sampled of each, and how many frames of it to leave out.
        Returns the look's figures of the film. The truth is as the codec gives it back."""
        made, truth = (self._shown(part) for part in ([(x, cut) for _, x, cut in parts],
                                                      [(batch.latents, cut) for batch, _, cut in parts]))  # fmt: skip
        columns = {"portrait": np.concatenate([_portrait(batch, cut) for batch, _, cut in parts])}
        if "normals" in parts[0][0].control:
            columns["control"] = np.concatenate([_normals(batch, cut) for batch, _, cut in parts])
        columns |= {"truth": truth, "generated": made}
        frames, clip, name = np.concatenate([*columns.values()], 2), parts[0][0].clips[0], f"look-{step}.mp4"
        write_mp4(self._folder / name, frames, self._fps, crf=20, keys=KEYS,
                  mark=moved(clip, clip, generated=True, alone=False))  # fmt: skip
        _, poster = cv2.imencode(".jpg", frames[len(frames) // 2][..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 90))
        replace_file(self._folder / f"look-{step}.jpg", poster.tobytes())
        about = {"film": name, "panels": " ".join(columns), "frames": len(frames), "fps": self._fps,
                 "width": frames.shape[2], "height": frames.shape[1]}  # fmt: skip
        return self._measured(made, truth) | about

    def _shown(self, parts: list[tuple[Tensor, int]]) -> np.ndarray:
        """(T, H, W, 3) u8 RGB."""
        codec = self._codec.to(str(parts[0][0].device))
        try:
            films = [codec.decode(latents)[0, :, cut:].float().cpu() for latents, cut in parts]
        finally:
            codec.to("cpu")  # what it takes of the GPU is for the training again
        video = torch.cat(films, 1).clamp(-1, 1)
        return ((video + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()

    def _measured(self, made: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        """PSNR, AED and CSIM as the stage evaluate has them of a clip that drives itself; none where no face shows."""
        chosen = np.linspace(0, len(made) - 1, min(MEASURED, len(made))).round().astype(int)
        self._true = self._true or self._viewer(truth[chosen])
        of, true = self._viewer(made[chosen]), self._true
        values = {"psnr": image.psnr(made, truth), "aed": blendshapes.aed(of.face, true.face),
                  "csim": identity.csim(of.embedded, true.embedded)}  # fmt: skip
        found = {name: value[np.isfinite(value)] for name, value in values.items()}
        return {name: float(value.mean()) for name, value in found.items() if len(value)}


def checked(codec: Codec, windows: Windows) -> Codec:
    """Raises UserError where it is not the one of the windows."""
    if codec.describe() != windows.made_by["codec"]:
        raise UserError(f"the latents are of {windows.made_by['codec']}, but the section latents says "
                        f"{codec.describe()}")  # fmt: skip
    return codec


def _portrait(batch: Batch, cut: int) -> np.ndarray:
    picture = ((batch.image[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    frames = next(iter(batch.control.values())).shape[1]
    return picture[None].repeat(frames - cut, 0)


def _normals(batch: Batch, cut: int) -> np.ndarray:
    normals = batch.control["normals"][0, cut:].float().cpu().numpy()
    if not batch.control["normals"].is_floating_point():
        normals = normals / 127
    covered = (np.linalg.norm(normals, axis=-1) > 0.5).astype(np.float32)
    return np.stack([normals_to_rgb(*of) for of in zip(normals, covered, strict=True)])
