"""Square pictures in rows and columns, each under its title."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from expportrait.show.panels import resize

TITLE = 30  # px, the line above a picture
GROUND, INK, FAINT = (24, 24, 27), (235, 235, 235), (160, 160, 165)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


@dataclass(frozen=True)
class Sheet:
    """``foot`` px are left free below the pictures of ``size`` px."""

    titles: tuple[str, ...]
    columns: int
    size: int
    foot: int = 0

    def corner(self, number: int) -> tuple[int, int]:
        """x and y of a picture's upper left pixel."""
        row, column = divmod(number, self.columns)
        return column * self.size, row * (self.size + TITLE) + TITLE

    def blank(self) -> Image.Image:
        """The titles alone."""
        rows = -(-len(self.titles) // self.columns)
        image = Image.new("RGB", (self.columns * self.size, rows * (self.size + TITLE) + self.foot), GROUND)
        draw = ImageDraw.Draw(image)
        for number, title in enumerate(self.titles):
            x, y = self.corner(number)
            draw.text((x + self.size / 2, y - TITLE / 2), title, INK, font(18), anchor="mm")
        return image

    def put(self, image: np.ndarray, number: int, picture: np.ndarray) -> None:
        """A square picture (H, H, 3) u8 to its place in ``image``, in place."""
        x, y = self.corner(number)
        image[y : y + self.size, x : x + self.size] = resize(picture, self.size)
