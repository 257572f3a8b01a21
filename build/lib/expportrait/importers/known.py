"""Clips and the table that is there: which of them stand in it already, and ids that are nobody else's."""

import os
import re
from dataclasses import replace
from pathlib import Path

from expportrait.importers.common import Found, LeftOut, Place, clip_id

_PART = re.compile(r"-\d{3,}$")  # what a part's id has after the clip's


def distinct(clips: list[Found], old: list[dict[str, str]], out: Path, left: list[LeftOut]) -> list[Found]:
    """Each clip once, without those that stand in the table already, whole or in parts: by name and source."""
    there: dict[str, set[str]] = {}
    for row in old:
        for name in {row["clip"], _PART.sub("", row["clip"])}:
            there.setdefault(name, set()).add(row["source"])
    seen: set[str] = set()
    kept = []
    for clip in clips:
        name, source = clip_id(clip.clip), relative(clip.source, out)
        if name in there and (_stands(clip, there, out) or _stands(renamed(clip, out), there, out)):
            left.append(LeftOut(clip.clip, "it stands in the table already"))
        elif name in seen:
            left.append(LeftOut(clip.clip, "another clip of this import has the same name", source))
        elif source != source.strip() or source.encode("utf-8", "replace").decode() != source:
            left.append(LeftOut(clip.clip, "the source's name is not UTF-8, or has blanks at an end", repr(source)))
        else:
            seen.add(name)
            kept.append(clip)
    return kept


def _stands(clip: Found, there: dict[str, set[str]], out: Path) -> bool:
    """Whether the table has that name with that source; ``there``: name -> sources."""
    sources = there.get(clip_id(clip.clip), set())
    if relative(clip.source, out) in sources:
        return True
    real = os.path.realpath(clip.source)
    return any(os.path.realpath(out.parent / source) == real for source in sources)


def ids_of(clip: Found, places: list[Place]) -> list[str]:
    """Ids of a clip's rows: its own, or where it is cut, those of its parts."""
    name = clip_id(clip.clip)
    return [f"{name}-{index:03d}" for index in range(len(places))] if len(places) > 1 else [name]


def renamed(clip: Found, out: Path) -> Found:
    """The clip by a name that ends in a hash of its source, since another one has its name already."""
    name, home = clip_id(clip.clip), os.path.realpath(out.parent)
    own = clip_id(f"{name}/{os.path.relpath(os.path.realpath(clip.source), home)}")
    own = f"{name[:80]}{own[-9:]}"
    return replace(clip, clip=own, person=own if clip.person == name else clip.person)


def relative(source: Path, out: Path) -> str:
    """The source as the manifest ``out`` names it."""
    return os.path.relpath(source, out.parent)
