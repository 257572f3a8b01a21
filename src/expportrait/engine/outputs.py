"""What the files of a clip or pair are called in a stage's folder: its name, and one of these endings."""

import os
from collections.abc import Iterable
from pathlib import Path

from expportrait.errors import UserError

STORE = (".zarr", ".failed.json", ".damaged")
OTHERS = {"reenact": (*STORE, ".mp4", ".side.mp4"), "evaluate": (".json", ".failed.json")}
SHARD = ".progress.json"  # the longest ending of a shard's files


def endings(stage: str) -> tuple[str, ...]:
    """Of everything that a stage writes of one clip or pair."""
    return OTHERS.get(stage, STORE)


def check_names(results: Path, members: Iterable[str], shards: Iterable[str]) -> None:
    """``members``: clips and pairs. Raises UserError where a file's name would be too long for the file system."""
    place = next(folder for folder in (results, *results.absolute().parents) if folder.exists())
    most = os.pathconf(place, "PC_NAME_MAX")
    behind = max((ending for one in (STORE, *OTHERS.values()) for ending in one), key=len)
    names = [max((f"{name}{ending}" for name in all_of), key=len, default="")
             for all_of, ending in ((members, behind), (shards, SHARD))]  # fmt: skip
    longest = max(names, key=len)
    if len(longest) > most:
        raise UserError(f"{results}: the file system takes file names of {most} bytes, {longest} has {len(longest)}: "
                        "give the clips or the data set shorter names")  # fmt: skip
