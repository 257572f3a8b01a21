"""Names of files: whether the file system takes those that a run would write."""

import os
from collections.abc import Iterable
from pathlib import Path

from expportrait.errors import UserError

SHARD = ".progress.json"  # the longest ending of a shard's files


def check_names(results: Path, members: Iterable[str], shards: Iterable[str], endings: Iterable[str]) -> None:
    """``members``: clips and pairs; ``endings``: of their files in all stages. Raises UserError where a file's name
    would be too long for the file system."""
    place = next(folder for folder in (results, *results.absolute().parents) if folder.exists())
    most = os.pathconf(place, "PC_NAME_MAX")
    behind = max(endings, key=len)
    names = [max((f"{name}{ending}" for name in all_of), key=len, default="")
             for all_of, ending in ((members, behind), (shards, SHARD))]  # fmt: skip
    longest = max(names, key=len)
    if len(longest) > most:
        raise UserError(f"{results}: the file system takes file names of {most} bytes, {longest} has {len(longest)}: "
                        "give the clips or the data set shorter names")  # fmt: skip
