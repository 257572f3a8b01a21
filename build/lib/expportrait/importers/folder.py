"""Any folder of videos, images and folders of frames."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from expportrait.errors import UserError
from expportrait.importers.common import FRAMES, IMAGE, PORTRAIT, VIDEO, Found, LeftOut, clip_id, walk
from expportrait.importers.sequence import is_sequence
from expportrait.video.kinds import IMAGES, kind


def rows(
    folder: Annotated[Path, typer.Argument(help="Looked through at any depth.")],
    person: Annotated[
        Literal["folder", "clip"],
        typer.Option(help="Who it is: the first folder below FOLDER (in FOLDER itself: each file), or each file."),
    ] = "folder",
    person_regex: Annotated[
        str | None, typer.Option(help="Who it is: the first group, or the whole match, in the path below FOLDER.")
    ] = None,
    images: Annotated[
        Literal["auto", "frames", "single"],
        typer.Option(help="Images of one folder: a clip's frames, or clips; auto: frames if numbered and much alike."),
    ] = "auto",
    fps: Annotated[float | None, typer.Option(min=0.001, help="Frames a second of folders of frames.")] = None,
) -> Iterator[Found | LeftOut]:
    """Any folder of videos, images and folders of frames."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    try:
        pattern = re.compile(person_regex) if person_regex else None
    except re.error as error:
        raise UserError(f"--person-regex {person_regex}: not a regular expression: {error}") from None
    found: list[tuple[Path, str]] = []  # and what it is taken for
    for home, names in walk(folder):
        pictures = [name for name in names if Path(name).suffix.lower() in IMAGES]
        taken_for = _images_are([home / name for name in pictures], images)
        if taken_for == FRAMES:
            found.append((home, FRAMES))
        for name in names:
            if name in pictures:
                found += [] if taken_for == FRAMES else [(home / name, taken_for)]
            elif what := kind(home / name):
                found.append((home / name, VIDEO if what == "video" else IMAGE))
            else:
                yield LeftOut((home / name).relative_to(folder).as_posix(), "neither a video nor an image")
    paths = [path.relative_to(folder) for path, _ in found]
    names = ["_".join((path if taken_for == FRAMES else path.with_suffix("")).parts) or folder.resolve().name
             for path, (_, taken_for) in zip(paths, found, strict=True)]  # fmt: skip
    twice = {name for name, count in Counter(names).items() if count > 1}
    for (path, taken_for), relative, name in zip(found, paths, names, strict=True):
        clip = clip_id(f"{relative}/" if name in twice else name)  # with a slash it gets the hash of its own path
        who = relative.parts[0] if person == "folder" and len(relative.parts) > 1 else clip
        if pattern is not None:
            match = pattern.search(relative.as_posix())
            who = next((group for group in (*match.groups(), match[0]) if group), "") if match else ""
            if not who:
                yield LeftOut(relative.as_posix(), "--person-regex finds no person in the path")
                continue
        rate = fps if taken_for == FRAMES else None
        yield Found(clip=clip, source=path, person=who, fps=rate, taken_for=taken_for)


def _images_are(files: list[Path], images: str) -> str:
    """What the images of one folder are taken for."""
    if images != "auto" or not files:
        return FRAMES if files and images == "frames" else IMAGE
    if len(files) == 1 or len({re.sub(r"\d+", "", file.name) for file in files}) > 1:
        return IMAGE
    return FRAMES if is_sequence(files) else PORTRAIT
