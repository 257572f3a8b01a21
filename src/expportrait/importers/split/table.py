"""From the records of all videos to the rows of a manifest, and the table of what was left out."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expportrait.errors import UserError
from expportrait.importers.common import split_of
from expportrait.importers.known import relative
from expportrait.importers.split.persons import persons
from expportrait.importers.split.sources import FIGURES, Source
from expportrait.importers.table import left_out, write_csv
from expportrait.manifest.clips import COLUMNS

LEFT_OUT = ("dataset", "what", "start", "end", "reason", "detail")
CANNOT = "the source cannot be used"


@dataclass(frozen=True)
class Options:
    """What stands in all rows alike, and how people are shared out among the splits."""

    out: Path
    dataset: str
    val: float
    test: float
    split: str | None


def write(sources: list[Source], records: dict[str, dict[str, Any]], options: Options) -> str:
    """Writes manifest and table; returns what they hold, in lines. The bytes depend on videos and options alone.

    Raises UserError where there is no clip; the table of what was left out is written all the same.
    """
    of = [records[source.name] for source in sources]
    who = persons([[None if clip["row"] is None else np.array(clip["row"]) for clip in record["clips"]]
                   for record in of])  # fmt: skip
    rows, left = [], []
    for source, record, people in zip(sources, of, who, strict=True):
        for n, (clip, person) in enumerate(zip(record["clips"], people, strict=True)):
            name = f"{source.name}-{n:04d}"
            rows.append(
                _row(source, name, clip, f"{sources[person[0]].name}-p{person[1]}" if person else name, options)
            )
        left += _left(source, record, options)
    place = left_out(options.out)
    write_csv(place, LEFT_OUT, left)
    if not rows:
        why = [f"split: no clip is left, {options.out} is not written", *_why(left, options)]
        raise UserError("\n".join(why))
    columns = dict.fromkeys((*COLUMNS, *FIGURES, *(name for row in rows for name in row)))
    write_csv(options.out, columns, rows)
    return _told(rows, left, of, options)


def _row(source: Source, name: str, clip: dict[str, Any], person: str, options: Options) -> dict[str, str]:
    own = {
        "clip": name, "dataset": source.given.get("dataset") or options.dataset,
        "source": relative(source.path, options.out), "start": _number(clip["start"]), "end": _number(clip["end"]),
        "face": " ".join(map(_number, clip["face"])), "person": person,
        "split": source.given.get("split") or options.split or split_of(person, options.val, options.test),
    }  # fmt: skip
    figures = {column: "" if clip[column] is None else f"{clip[column]:.4g}" for column in FIGURES}
    return source.given | figures | own


def _left(source: Source, record: dict[str, Any], options: Options) -> list[dict[str, str]]:
    common = {"dataset": source.given.get("dataset") or options.dataset, "what": source.name}
    if record["fault"]:
        return [common | {"reason": CANNOT, "detail": record["fault"]}]
    lines = []
    for one in record["left"]:
        faces = f"{one['count']} faces, the largest" if one["count"] > 1 else "a face of"
        detail = f"{faces} {one['size']:.0f} px" if one["count"] else ""
        lines.append(common | {"start": _number(one["start"]), "end": _number(one["end"]), "reason": one["reason"],
                               "detail": detail})  # fmt: skip
    return lines


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _told(rows: list[dict[str, str]], left: list[dict[str, str]], of: list[dict[str, Any]], options: Options) -> str:
    hours, kept = (sum(values) / 3600 for values in ([record["length"] for record in of],
                   [float(row["end"]) - float(row["start"]) for row in rows]))  # fmt: skip
    splits = ", ".join(f"{count:,} {name}" for name, count in sorted(Counter(row["split"] for row in rows).items()))
    people = len({row["person"] for row in rows})
    videos = sum(not record["fault"] for record in of)
    text = [f"{options.out}: {_several(len(rows), 'clip')} of {_several(people, 'person')} ({splits}), {kept:.2f} h "
            f"out of {hours:.2f} h of {_several(videos, 'video')}"]  # fmt: skip
    return "\n".join([*text, *_why(left, options)])


def _why(left: list[dict[str, str]], options: Options) -> list[str]:
    """What was left out, by reason."""
    if not left:
        return []
    seconds: Counter[str] = Counter()
    for line in left:
        seconds[line["reason"]] += float(line["end"]) - float(line["start"]) if line.get("start") else 0
    lines = Counter(line["reason"] for line in left).most_common()
    told = [f"  {count:7,}  {reason}" + (f", {seconds[reason]:,.0f} s" if seconds[reason] else "")
            for reason, count in lines]  # fmt: skip
    return ["left out:", *told, f"one by one: {left_out(options.out)}"]


def _several(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
