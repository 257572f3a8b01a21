"""What ``animate`` is given: portraits and videos, as the rows that the stages take."""

import csv
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from expportrait.errors import ClipError, UserError
from expportrait.files import replace_file, sha256
from expportrait.manifest.clips import Row
from expportrait.manifest.tables import opened
from expportrait.settings.config import Crop
from expportrait.video.framing import face_box
from expportrait.video.images import read_image
from expportrait.video.kinds import is_image
from expportrait.video.reader import open_source

DATASET = "animate"
COLUMNS = ("portrait", "frame", "face")
DIGITS = 9  # of a number of a frame or a face at most
LOOK_AT = 1280  # px, longer side of the picture in which faces are counted
RIVAL = 0.6  # of the largest face's size: from there on another one may be the one that is meant


@dataclass(frozen=True)
class Portrait:
    """One portrait as it was asked for: an image, or one ``frame`` of a video; ``face``: which of its faces, counted
    from the left, 1 being the leftmost; None where that is not said."""

    file: Path
    frame: int = 0
    face: int | None = None

    def __str__(self) -> str:
        return f"{self.file}, frame {self.frame}" if self.frame else str(self.file)


def read_portraits(given: list[Path], frame: int, face: int | None) -> list[Portrait]:
    """The portraits of the command line; a table (.csv) stands for those that it lists, one a row: ``portrait``, a path
    seen from the table's folder, and where they are wanted ``frame`` and ``face``.

    Raises UserError, which names file, line and column.
    """
    found: list[Portrait] = []
    for file in given:
        found += _listed(file, frame, face) if file.suffix.lower() == ".csv" else [Portrait(file, frame, face)]
    return list(dict.fromkeys(found))


def _listed(table: Path, frame: int, face: int | None) -> list[Portrait]:
    with opened(table, "table") as text:
        reader = csv.DictReader(text, strict=True, skipinitialspace=True)
        names = [*(reader.fieldnames or ())]
        if "portrait" not in names:
            raise UserError(f"{table}, line 1: there is no column portrait")
        if unknown := sorted({*names} - {*COLUMNS}):
            raise UserError(f"{table}, line 1: there is no column {unknown[0]}, only {', '.join(COLUMNS)}")
        found = []
        for cells in reader:
            path = (cells["portrait"] or "").strip()
            if not path:
                continue
            where = f"{table}, line {reader.line_num}"
            numbers = {name: _whole(cells.get(name), f"{where}, column {name}") for name in COLUMNS[1:]}
            first, which = (
                given if numbers[name] is None else numbers[name] for name, given in (("frame", frame), ("face", face))
            )
            found.append(Portrait(table.parent / path, first, which))
    if not found:
        raise UserError(f"{table} lists no portraits: give it one row each")
    return found


def _whole(cell: str | None, where: str) -> int | None:
    text = (cell or "").strip()
    if not text:
        return None
    if not text.isdecimal() or len(text) > DIGITS:
        raise UserError(f"{where}: {text!r} is no whole number of at most {DIGITS} digits")
    return int(text)


def portrait_row(portrait: Portrait, home: Path) -> Row:
    """The portrait's row. Frames of videos are kept as pictures in the folder ``home``, so that the picture is
    ``row.path`` in any case.

    Raises UserError where there is no such file, frame or face, and where it is not said which of several faces.
    """
    name, rev = _named(portrait.file)
    if not is_image(portrait.file):
        file = home / f"{name}-{portrait.frame}.png"
        if not file.exists():
            _keep_frame(portrait, file)
        row = Row(file.stem, DATASET, file.name, file, split="test", rev=rev)
    elif portrait.frame:
        raise UserError(f"{portrait.file} is an image, so it has no frame {portrait.frame}: leave --frame out")
    else:
        row = Row(name, DATASET, portrait.file.name, portrait.file, split="test", rev=rev)
    if portrait.face is None:
        return row
    return row._replace(clip=f"{row.clip}-face{portrait.face}", person=row.clip)


def video_row(file: Path, start: float | None = None, end: float | None = None) -> Row:
    """A driving video's row: its pictures between ``start`` and ``end``, s. Raises UserError where it is no file."""
    name, rev = _named(file)
    if start is not None or end is not None:
        name += f"-{start or 0:g}to{'end' if end is None else f'{end:g}'}"
    return Row(name, DATASET, file.name, file, start, end, split="test", rev=rev)


def _named(file: Path) -> tuple[str, str]:
    """What a file's results are called, and its rev: both change with its bytes, and with its name, but not with its
    folder."""
    if not file.exists():
        raise UserError(f"there is no file {file}")
    if file.is_dir():
        raise UserError(f"{file} is a folder: name one file")
    if not file.is_file():
        raise UserError(f"{file} is no file that can be read more than once: save what comes from it as one")
    if not file.stat().st_size:
        raise UserError(f"{file} is an empty file (0 bytes): copy it again")
    rev = sha256(file)[:16]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", file.stem)[:40] or "_"
    return f"{stem if stem[0] != '-' else f'_{stem}'}-{rev[:8]}", rev


def _keep_frame(portrait: Portrait, file: Path) -> None:
    try:
        frames = open_source(portrait.file).frames()
        picture = next(islice(frames, portrait.frame, None), None)
    except ClipError as error:
        raise UserError(error.reason) from None
    if picture is None:
        raise UserError(f"{portrait.file} has no frame {portrait.frame}: its frames count from 0, and it has fewer")
    replace_file(file, cv2.imencode(".png", cv2.cvtColor(picture[1], cv2.COLOR_RGB2BGR))[1].tobytes())


def choose_face(portrait: Portrait, row: Row, crop: Crop) -> Row:
    """The row with the box around the face that is meant; as it is where the picture shows only one, or none.

    Raises UserError where there is no face of that number, and where it is not said which of several it is.
    """
    try:
        picture = read_image(row.path)
    except ClipError as error:
        raise UserError(error.reason) from None
    faces = _faces(picture)
    sizes = (faces[:, 2:] - faces[:, :2]).max(1) if len(faces) else np.zeros(0)
    several = f"{portrait} shows {len(faces)} faces: say which one by --face, 1 (the leftmost) to {len(faces)}"
    if portrait.face is None:
        if (sizes >= RIVAL * sizes.max(initial=0)).sum() > 1:
            raise UserError(several)
        return row
    if not 1 <= portrait.face <= len(faces):
        raise UserError(several if len(faces) > 1 else
                        f"{portrait} shows {('no face', 'one face')[len(faces)]}: leave --face out")  # fmt: skip
    own = faces[portrait.face - 1]
    box = face_box(own[None], crop.scale, crop.lift, crop.min_scale, *picture.shape[:2])
    others = np.delete(faces, portrait.face - 1, 0)
    middles = (others[:, :2] + others[:, 2:]) / 2
    inside = ((middles >= box[:2]) & (middles <= box[2:])).all(1)
    if inside.any():  # then the box has to leave them out
        half = max(own[2:] - own[:2]) * crop.min_scale / 2
        middle = (own[:2] + own[2:]) / 2
        box = tuple(int(v) for v in np.rint([*(middle - half), *(middle + half)]))
    return row._replace(box=tuple(float(v) for v in box))


def _faces(picture: np.ndarray) -> np.ndarray:
    """(n, 4) px: the boxes of all faces in a picture (H, W, 3) u8 RGB, from left to right."""
    from expportrait.estimators.landmarks.mediapipe import LandmarkDetector

    scale = min(1.0, LOOK_AT / max(picture.shape[:2]))
    small = picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    boxes = LandmarkDetector().faces(small)[:, :4] / scale
    return boxes[np.argsort(boxes[:, 0] + boxes[:, 2])]
