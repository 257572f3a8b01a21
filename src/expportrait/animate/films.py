"""From what was asked to finished films."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from expportrait.animate import models
from expportrait.animate.chain import Chain
from expportrait.animate.film import Told, write_film
from expportrait.animate.sources import Portrait, choose_face, portrait_row, video_row
from expportrait.errors import ClipError, UserError
from expportrait.manifest.clips import Row
from expportrait.progress import Whole
from expportrait.settings.config import Config
from expportrait.stages import PIPELINE
from expportrait.video.reader import open_source

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
    drivers |= {name: video_row(file) for name, file in asked.others.items()}
    frames = _frames(asked)
    chain = Chain(config, asked.device, asked.backend, GENERATED if "generator" in asked.trained else PREVIEW, frames,
                  {kind: about["key"] for kind, (_, about) in asked.trained.items()})  # fmt: skip
    failed: dict[Portrait, str] = {}
    log = home / "logs" / "animate.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    distinct = list({row.clip: row for row in drivers.values()}.values())
    weights = chain.parts(len(asked.portraits), len(distinct))
    with (
        models.placed(home, asked.trained),
        log.open("a", encoding="utf-8") as lines,
        Whole("animate", weights, lines) as whole,
    ):
        rows = _portraits(asked, chain, failed)
        by_clip = {row.clip: portrait for portrait, row in rows.items()}
        for clip, why in chain.portraits([*rows.values()], whole).items():
            failed[by_clip[clip]] = _named(why, by_clip[clip], rows[by_clip[clip]])
        rows = {portrait: row for portrait, row in rows.items() if portrait not in failed}
        if not rows:
            raise UserError("; ".join(failed.values()))
        chain.drivers(distinct, whole)
        others = {name: drivers[name] for name in asked.others}
        pairs = {portrait: chain.pair(row, drivers["driver"], others) for portrait, row in rows.items()}
        by_pair = {pair.clip: portrait for portrait, pair in pairs.items()}
        without, keys = chain.pairs([*pairs.values()], whole)
        failed |= {by_pair[pair]: _named(why, by_pair[pair], rows[by_pair[pair]]) for pair, why in without.items()}
        made = []
        with whole.part("film"):
            for portrait in (one for one in pairs if one not in failed):
                file, pair, row = asked.file_of(portrait, rows[portrait]), pairs[portrait], rows[portrait]
                told = Told(str(portrait), str(asked.driver), "generator" in asked.trained, asked.paste_back)
                what = write_film(file, pair, row, drivers["driver"], chain.stores(pair, keys), told)
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
    if out.resolve() in {file.resolve() for file in (asked.driver, *(one.file for one in asked.portraits))}:
        raise UserError(f"--out {out} is one of the files that the film is made from: name another one")


def _frames(asked: Asked) -> int:
    """Of the driver, about. Raises UserError where it cannot be read."""
    try:
        source = open_source(asked.driver)
    except ClipError as error:
        raise UserError(error.reason) from None
    length = min(source.length, asked.end or source.length) - (asked.start or 0)
    return max(1, round(length * source.fps))


def _portraits(asked: Asked, chain: Chain, failed: dict[Portrait, str]) -> dict[Portrait, Row]:
    """The rows of those that can be read and tell whose face is meant; the others go to ``failed``."""
    rows: dict[Portrait, Row] = {}
    for portrait in asked.portraits:
        try:
            row = portrait_row(portrait, asked.config.results / "portraits")
            if portrait.face is not None or not chain.done(PIPELINE["crop"].name, row):
                row = choose_face(portrait, row, asked.config.crop)
            rows[portrait] = row
        except UserError as error:
            failed[portrait] = str(error)
    return rows
