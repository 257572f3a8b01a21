"""What the fit saw and what it made of it, beside each other: eight panels a frame, in all 1920 × 1080 px."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from expportrait.fit.store import FittedHead
from expportrait.render.picture import normals_to_rgb
from expportrait.show import panels
from expportrait.show.sheet import FAINT, GROUND, INK, Sheet, font
from expportrait.store import Store, decode_normals

SIZE, COLUMNS, FOOT = 480, 4, 60  # px: a panel, and the line below all of them
TITLES = ("input", "landmarks", "normals, estimated", "normals, fitted", "head on the input", "head, from its right",
          "head, from its left", "angle between the normals")  # fmt: skip
SHEET = Sheet(TITLES, COLUMNS, SIZE, FOOT)
BLOCK = 8  # frames posed at once


@dataclass
class Film:
    """Pictures of the frames ``first`` to ``end`` (not included) of a clip, with ``stores`` of crop, landmarks,
    geometry and proxy."""

    clip: str
    stores: dict[str, Store]
    fitted: FittedHead
    first: int
    end: int
    backend: str = "auto"

    def __iter__(self) -> Iterator[np.ndarray]:
        """(1080, 1920, 3) u8 each."""
        frames, normals = self.stores["crop"].lazy("frames"), self.stores["geometry"].lazy("normals")
        points = self.stores["landmarks"]["points"]
        figures = {name: self.stores["proxy"][name] for name in ("landmark_error", "normal_error", "overlap")}
        size = frames.shape[1]
        sides = panels.SideViews(self.fitted.head, self._posed(), SIZE)
        fps, sheet = self.fps, _blank()
        for t in range(self.first, self.end):
            frame, estimated = frames[t], decode_normals(normals[t])
            fitted, coverage = panels.fitted(self.fitted, t, size, self.backend)
            colours = normals_to_rgb(fitted, coverage, background=0)
            pictures = [
                frame,
                panels.landmarks(frame, points[t], SIZE),
                normals_to_rgb(estimated, background=0),
                colours,
                panels.overlay(frame, colours, coverage, size),
                *sides.draw(self.fitted.vertices(slice(t, t + 1))[0], self.backend),
                panels.error_map(estimated, fitted),
            ]
            for number, picture in enumerate(pictures):
                SHEET.put(sheet, number, picture)
            landmark, angle, overlap = (figure[t] for figure in figures.values())
            where = f"frame {t} of {frames.shape[0]}" + (f", {t / fps:.2f} s" if frames.shape[0] > 1 else "")
            told = f"landmarks {landmark:.1%} of the eyes' distance     normals {angle:.1f}°     overlap {overlap:.1%}"
            _write_line(sheet, self.clip, where, told)
            yield sheet.copy()

    @property
    def fps(self) -> float:
        return float(self.stores["crop"].attrs.get("fps") or 25)

    @torch.no_grad()
    def _posed(self) -> Iterator[torch.Tensor]:
        for t in range(self.first, self.end, BLOCK):
            yield self.fitted.vertices(slice(t, min(t + BLOCK, self.end)))


def _blank() -> np.ndarray:
    """What is the same in all frames: titles, the scale of the colours."""
    image = SHEET.blank()
    draw = ImageDraw.Draw(image)
    left, top, length = (COLUMNS - 1) * SIZE + 20, image.height - FOOT + 10, 270
    ramp = panels.error_colours(np.tile(np.linspace(0, panels.ERROR_TOP, length), (16, 1)))
    image.paste(Image.fromarray(ramp), (left, top))
    for share, anchor in ((0, "lt"), (1 / 3, "mt"), (2 / 3, "mt"), (1, "rt")):
        text = f"{share * panels.ERROR_TOP:.0f}°" + ("+" if share == 1 else "")
        draw.text((left + share * length, top + 22), text, FAINT, font(15), anchor=anchor)
    grey = (panels.ONE_SIDED,) * 3
    draw.rectangle((left + length + 30, top, left + length + 46, top + 15), fill=grey)
    draw.text((left + length + 54, top + 8), "one of them only", FAINT, font(15), anchor="lm")
    return np.array(image)


def _write_line(sheet: np.ndarray, clip: str, where: str, told: str) -> None:
    """The line below the panels, as far as the scale of the colours."""
    width = (COLUMNS - 1) * SIZE
    image = Image.new("RGB", (width, FOOT), GROUND)
    draw = ImageDraw.Draw(image)
    draw.text((20, FOOT / 2), clip, INK, font(22), anchor="lm")
    draw.text((width / 3, FOOT / 2), where, INK, font(18), anchor="lm")
    draw.text((width - 20, FOOT / 2), told, FAINT, font(18), anchor="rm")
    sheet[-FOOT:, :width] = image
