"""Any folder of videos, images and folders of frames."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from expportrait.errors import UserError
from expportrait.importers.common import IMAGES, VIDEOS, Found, LeftOut, clip_id, walk


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
        typer.Option(help="Images of one folder: a clip's frames, or clips; auto: frames if only their digits differ."),
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
    found: list[tuple[Path, bool]] = []  # and whether it is a folder of frames
    for home, names in walk(folder):
        pictures = [name for name in names if Path(name).suffix.lower() in IMAGES]
        frames = bool(pictures) and _are_frames(pictures, images)
        if frames:
            found.append((home, True))
        for name in names:
            if name in pictures:
                found += [] if frames else [(home / name, False)]
            elif Path(name).suffix.lower() in VIDEOS:
                found.append((home / name, False))
            else:
                yield LeftOut((home / name).relative_to(folder).as_posix(), "neither a video nor an image")
    paths = [path.relative_to(folder) for path, _ in found]
    names = ["_".join((path if frames else path.with_suffix("")).parts) or folder.resolve().name
             for path, (_, frames) in zip(paths, found, strict=True)]  # fmt: skip
    twice = {name for name, count in Counter(names).items() if count > 1}
    for (path, frames), relative, name in zip(found, paths, names, strict=True):
        clip = clip_id(f"{relative}/" if name in twice else name)  # with a slash it gets the hash of its own path
        who = relative.parts[0] if person == "folder" and len(relative.parts) > 1 else clip
        if pattern is not None:
            match = pattern.search(relative.as_posix())
            who = next((group for group in (*match.groups(), match[0]) if group), "") if match else ""
            if not who:
                yield LeftOut(relative.as_posix(), "--person-regex finds no person in the path")
                continue
        yield Found(clip=clip, source=path, person=who, fps=fps if frames else None)


def _are_frames(names: list[str], images: str) -> bool:
    if images != "auto":
        return images == "frames"
    return len(names) > 1 and len({re.sub(r"\d+", "", name) for name in names}) == 1
