"""The faces behind the lines of a comparison, a row a finding."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from expportrait.files import replace_file
from expportrait.machine import writing
from expportrait.people.findings import Line
from expportrait.show.sheet import FAINT, GROUND, INK, font

FACE, LEAST, ACROSS, MOST = 112, 5, 8, 40  # px; faces a row, from and to; rows
TITLE, CAPTION, EDGE, LETTERS = 26, 34, 10, 16  # px; letters of a name that fit below a face
TITLES = {"same": "Probably one person under several names", "different": "Probably two people under one name",
          "within": "Another face within one clip"}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A face: whose clip, which of its frames (None: the middle one that has a face), what stands below it."""

    clip: str
    frame: int | None
    below: str


def rows_of(lines: list[Line]) -> list[tuple[str, list[Shown]]]:
    """Titles and faces of the rows: each group of names, then each name, then each clip."""
    together: dict[tuple, list[Line]] = {}
    for line in lines:
        if line.finding in TITLES:
            by = {"same": line.group, "different": line.person, "within": line.clip}[line.finding]
            together.setdefault((line.finding, by), []).append(line)
    rows = []
    for (finding, _), found in together.items():
        first = found[0]
        title = f"{TITLES[finding]}{f' ({first.group})' if finding == 'same' else f': {first.person}'}"
        title += f", in the splits {first.leak.replace(' ', ' and ')}" if first.leak else ""
        title += f"; {ACROSS} of {len(found)} are shown" if len(found) > ACROSS else ""
        if finding == "same":
            shown = [
                Shown(line.clip, None, f"{_short(line.person)}\n{line.cosine:.2f}, {line.split}") for line in found
            ]
        elif finding == "different":
            shown = [Shown(first.like, None, f"{_short(first.like)}\nmost clips")]
            shown += [Shown(line.clip, None, f"{_short(line.clip)}\n{line.cosine:.2f}") for line in found]
        else:
            others = first.frames.split()
            shown = [Shown(first.clip, None, f"{_short(first.clip)}\nmost frames")]
            shown += [Shown(first.clip, int(t), f"frame {t}\n{first.cosine:.2f}") for t in others]
        rows.append((title, shown[:ACROSS]))
    return rows


def draw(rows: list[tuple[str, list[Shown]]], face: Callable[[str, int | None], np.ndarray]) -> Image.Image:
    """The first MOST rows. ``face``: the picture (112, 112, 3) u8 of a clip's frame."""
    height = TITLE + FACE + CAPTION + EDGE
    left_out = len(rows) - MOST
    rows = rows[:MOST]
    across = max([LEAST, *(len(shown) for _, shown in rows)])
    size = 2 * EDGE + across * (FACE + EDGE), EDGE + max(1, len(rows)) * height + (TITLE if left_out > 0 else 0)
    image = Image.new("RGB", size, GROUND)
    pen = ImageDraw.Draw(image)
    for number, (title, shown) in enumerate(rows):
        top = EDGE + number * height
        pen.text((EDGE, top), title, INK, font(16))
        for place, one in enumerate(shown):
            corner = EDGE + place * (FACE + EDGE), top + TITLE
            image.paste(Image.fromarray(face(one.clip, one.frame)), corner)
            pen.multiline_text((corner[0], corner[1] + FACE + 2), one.below, FAINT, font(12), spacing=2)
    if not rows:
        pen.text((EDGE, EDGE), "Nothing was found.", INK, font(16))
    if left_out > 0:
        pen.text((EDGE, size[1] - TITLE), f"{left_out:,} more rows are in the table", INK, font(16))
    return image


def write_sheet(file: Path, image: Image.Image) -> None:
    """As a JPEG file."""
    packed = BytesIO()
    image.save(packed, "JPEG", quality=88)
    with writing(file):
        replace_file(file, packed.getvalue())


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
