"""NeRSemble: PARTICIPANT/sequences/SEQUENCE/images/cam_SERIAL.mp4, sixteen cameras."""

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from expportrait.errors import UserError
from expportrait.importers.common import Found, LeftOut, walk
from expportrait.video.kinds import IMAGES, kind

FRONTAL = "222200037"


def rows(
    videos: Annotated[Path, typer.Argument(help="Folder of the participants, 017/sequences/…")],
    camera: Annotated[
        list[str] | None, typer.Option(help=f"Serial number; repeatable. (default: the frontal one, {FRONTAL})")
    ] = None,
    sequence: Annotated[
        list[str] | None, typer.Option(help="Only sequences of this name or pattern, such as EXP-*; repeatable.")
    ] = None,
) -> Iterator[Found | LeftOut]:
    """NeRSemble: multi-view recordings of expressions; by default its frontal camera."""
    if not videos.is_dir():
        raise UserError(f"{videos} is not a folder; the folder of the participants is expected")
    for home, names in walk(videos):
        above = [part for part in home.relative_to(videos).parts[:-1] if part != "sequences"]
        if home.name != "images" or len(above) < 2:
            continue
        person, take = above[-2:]
        if not any(fnmatch.fnmatchcase(take, pattern) for pattern in sequence or ["*"]):
            continue
        serials = {serial[1]: name for name in names if (serial := re.fullmatch(r"cam_(\d+)\.\w+", name))
                   and kind(home / name) == "video"}  # fmt: skip
        if not serials and any(Path(name).suffix.lower() in IMAGES for name in names):
            yield LeftOut(f"{person}_{take}", "images of several cameras in one folder; videos are expected", str(home))
            continue
        for serial in camera or [FRONTAL]:
            clip = f"{person}_{take}_{serial}"
            if serial not in serials:
                yield LeftOut(clip, "there is no video of this camera", str(home))
                continue
            extra = {"sequence": take, "camera": serial}
            yield Found(clip=clip, source=home / serials[serial], person=f"nersemble-{person}", extra=extra)
