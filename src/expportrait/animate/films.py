"""From what was asked to finished films."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import typer

from expportrait.animate import models
from expportrait.animate.chain import Chain
from expportrait.animate.film import Told, side_of, write_film
from expportrait.animate.sources import Portrait, choose_face, portrait_row, video_row
from expportrait.errors import ClipError, UserError
from expportrait.manifest.clips import Row
from expportrait.progress import Whole
from expportrait.settings.config import Config
from expportrait.video.reader import open_source

NAME_MAX = 255  # bytes of a file's name
PREVIEW, GENERATED = ("drive", "appearance"), ("drive", "appearance", "reenact")


@dataclass(frozen=True)
class Asked:
    """What the command line asks for. ``others``: the videos that pose_from and expression_from name; ``trained``:
    stage -> folder and description of the trained model (``models.find``)."""

    portraits: list[Portrait]
    driver: Path
    out: Path | None
    start: float | None
    end: float | None
    others: Mapping[str, Path]
    trained: dict[str, tuple[Path, dict[str, Any]]]
    paste_back: bool
    config: Config
    device: str
    backend: str

    def file_of(self, portrait: Portrait, row: Row) -> Path:
        """The film of that portrait."""
        several, numbered = len(self.portraits) > 1, row.clip.removeprefix(_stem(row.clip))
        name = f"{portrait.file.stem}_{self.driver.stem}.mp4"
        if several and sum(one.file.stem == portrait.file.stem for one in self.portraits) > 1:
            name = f"{portrait.file.stem}{numbered}_{self.driver.stem}.mp4"
        if several:
            return (self.out or Path()) / name
        return self.out or Path(name)


def _stem(clip: str) -> str:
    return re.sub(r"-[0-9a-f]{8}.*", "", clip)


def films(asked: Asked) -> None:
    """Make all films that are asked for, and print where they are.

    Raises UserError for the first thing that is wrong with the driver or the command line, and where no film, or not
    every one, could be made of the portraits; the other films are written.
    """
    _check_out(asked)
    config, home = asked.config, asked.config.results
    drivers = {"driver": video_row(asked.driver, asked.start, asked.end)}
    own = os.path.realpath(asked.driver)  # where it stands for another video, too, it is the same part of it
    drivers |= {name: drivers["driver"] if os.path.realpath(file) == own else video_row(file)
                for name, file in asked.others.items()}  # fmt: skip
    frames = _frames(asked)
    chain = Chain(config, asked.device, asked.backend, GENERATED if "generator" in asked.trained else PREVIEW, frames,
                  {kind: about["key"] for kind, (_, about) in asked.trained.items()})  # fmt: skip
    failed: dict[Portrait, str] = {}
    distinct = list({row.clip: row for row in drivers.values()}.values())
    weights = chain.parts(len(asked.portraits), len(distinct))
    with (
        _log(home) as lines,
        models.placed(home, asked.trained),
        Whole("animate", weights, lines) as whole,
    ):
        rows = _portraits(asked, chain, failed)
        _check_files(asked, (asked.file_of(portrait, row) for portrait, row in rows.items()))
        once = {row.clip: row for row in rows.values()}  # copies of a picture are one clip
        without = chain.portraits([*once.values()], whole)
        failed |= {portrait: _named(without[row.clip], portrait, once[row.clip])
                   for portrait, row in rows.items() if row.clip in without}  # fmt: skip
        rows = {portrait: row for portrait, row in rows.items() if portrait not in failed}
        if not rows:
            raise UserError("; ".join(failed.values()))
        chain.drivers(distinct, whole)
        others = {name: drivers[name] for name in asked.others}
        pairs = {portrait: chain.pair(row, drivers["driver"], others) for portrait, row in rows.items()}
        without = chain.pairs([*{pair.clip: pair for pair in pairs.values()}.values()], whole)
        failed |= {portrait: _named(without[pair.clip], portrait, rows[portrait])
                   for portrait, pair in pairs.items() if pair.clip in without}  # fmt: skip
        made = []
        with whole.part("film"):
            for portrait in (one for one in pairs if one not in failed):
                file, pair, row = asked.file_of(portrait, rows[portrait]), pairs[portrait], rows[portrait]
                told = Told(str(portrait), str(asked.driver), "generator" in asked.trained, asked.paste_back)
                what = write_film(file, pair, row, drivers["driver"], chain.stores(pair), told)
                made.append((file, what))
    for file, what in made:
        typer.echo(f"wrote {file} ({what})")
    if failed:
        raise UserError(f"{len(failed)} of {len(asked.portraits)} films could not be made: {'; '.join(failed.values())}"
                        if made else "; ".join(failed.values()))  # fmt: skip


def _named(why: str, portrait: Portrait, row: Row) -> str:
    """Why there is no film, with the portrait's name as the user knows it."""
    why = why.replace(str(row.path), str(portrait))
    return why if str(portrait) in why else f"{portrait}: {why}"


def _check_out(asked: Asked) -> None:
    """Raises UserError where the films cannot be called what they are to be called."""
    out, several = asked.out, len(asked.portraits) > 1
    if out is None:
        return
    if several and out.suffix:
        raise UserError(f"--out {out}: of {len(asked.portraits)} portraits come as many films: name a folder")
    if several and out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; of several portraits, a folder is expected")
    if not several and out.suffix.lower() != ".mp4":
        raise UserError(f"--out {out}: films are MP4 files: name one that ends in .mp4")


def _check_files(asked: Asked, films: Iterable[Path]) -> None:
    """Raises UserError where one of the films, or what lies beside it, would take the place of a file that it is made
    from, or cannot be written: that is said before an hour's work, not after it."""
    sources = {os.path.realpath(one) for one in (asked.driver, *asked.others.values())}
    sources |= {os.path.realpath(one.file) for one in asked.portraits}
    for file in (one for film in films for one in (film, side_of(film))):
        if len(os.fsencode(file.name)) > NAME_MAX:
            raise UserError(f"{file}: that name is too long for a file: name a shorter one by --out")
        if os.path.realpath(file) in sources:
            raise UserError(f"{file} is one of the files that the film is made from: name another one by --out")
        if file.is_dir():
            raise UserError(f"{file} is a folder, where the film is to be written: name another file by --out")
        home = next(folder for folder in file.absolute().parents if folder.exists())
        if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
            raise UserError(f"{file} cannot be written: {home} is no folder in which you may write")


def _log(home: Path) -> TextIO:
    """The log of all calls, to be written on. Raises UserError where the folder ``home`` cannot be written."""
    log = home / "logs" / "animate.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("a", encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"nothing can be kept in {home} ({error.strerror}): name another folder by --results") from None


def _frames(asked: Asked) -> int:
    """Of the driver, about. Raises UserError where it cannot be read."""
    try:
        source = open_source(asked.driver)
    except ClipError as error:
        raise UserError(error.reason) from None
    length = min(source.length, asked.end or source.length) - (asked.start or 0)
    return round(max(1.0, length * source.fps))


def _portraits(asked: Asked, chain: Chain, failed: dict[Portrait, str]) -> dict[Portrait, Row]:
    """The rows of those that can be read and tell whose face is meant; the others go to ``failed``."""
    rows: dict[Portrait, Row] = {}
    for portrait in asked.portraits:
        try:
            row = portrait_row(portrait, asked.config.results / "portraits")
            if portrait.face is not None or not chain.done("crop", row):
                row = choose_face(portrait, row, asked.config.crop)
            rows[portrait] = row
        except UserError as error:
            failed[portrait] = str(error)
    return rows
