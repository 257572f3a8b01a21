"""RAVDESS: everything stands in the files' names, seven numbers of two digits."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from expportrait.errors import UserError
from expportrait.importers.common import Found, LeftOut, walk
from expportrait.video.kinds import VIDEOS, kind

CHANNELS = {"01": "speech", "02": "song"}
EMOTIONS = {
    "01": "neutral", "02": "calm", "03": "happy", "04": "sad", "05": "angry", "06": "fearful", "07": "disgust",
    "08": "surprised",
}  # fmt: skip
INTENSITIES = {"01": "normal", "02": "strong"}


def rows(
    videos: Annotated[Path, typer.Argument(help="Folder of the videos 02-01-06-01-02-01-12.mp4, at any depth.")],
) -> Iterator[Found | LeftOut]:
    """RAVDESS: actors who speak and sing with eight emotions."""
    if not videos.is_dir():
        raise UserError(f"{videos} is not a folder; the folder of the videos is expected")
    takes: dict[str, Path] = {}
    # 01, with sound, comes before 02, the same take without
    for file in sorted((home / name for home, names in walk(videos) for name in names), key=lambda file: file.name):
        fields = file.stem.split("-")
        if not re.fullmatch(r"\d\d(-\d\d){6}", file.stem, re.ASCII):
            if file.suffix.lower() in VIDEOS:
                yield LeftOut(file.stem, "the file's name is not seven numbers of two digits", str(file))
        elif fields[0] == "03" or kind(file) != "video":
            yield LeftOut(file.stem, "sound only", str(file))
        elif fields[0] not in ("01", "02") or fields[2] not in EMOTIONS or not "01" <= fields[6] <= "24":
            yield LeftOut(file.stem, "the file's name has a number that RAVDESS does not use", str(file))
        elif (take := "-".join(fields[1:])) in takes:
            yield LeftOut(file.stem, "the same take as another file", str(takes[take]))
        else:
            takes[take] = file
            extra = {
                "channel": CHANNELS.get(fields[1], ""), "emotion": EMOTIONS[fields[2]],
                "intensity": INTENSITIES.get(fields[3], ""), "statement": fields[4], "repetition": fields[5],
            }  # fmt: skip
            yield Found(clip=file.stem, source=file, person=f"ravdess-{fields[6]}", extra=extra)
