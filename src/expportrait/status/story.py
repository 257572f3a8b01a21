"""One clip's story: what each stage has of it and why, and where its logs and pictures are."""

import json
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from expportrait.engine.stage import Stage
from expportrait.errors import UserError
from expportrait.manifest.pairs import clip_of
from expportrait.settings.files import made_with
from expportrait.status.survey import Cell, Survey
from expportrait.store import Store, StoreError


def story(survey: Survey, clip: str) -> str:
    """All stages of a clip, or of a pair (``<target>__<driver>``), in text. Reads the clip's stores to the end.

    Raises UserError for a clip that is not there.
    """
    rows = {row.clip: row for row in survey.rows}
    known = [*rows, *(pair.clip for pair in survey.pairs)]
    if clip not in known:
        close = get_close_matches(clip, known, n=1)
        raise UserError(
            f"{survey.config.manifest} has no clip {clip!r}" + (f"; did you mean {close[0]!r}?" if close else "")
        )
    lines = [clip]
    if clip in rows:
        row = rows[clip]
        part = (
            f", {row.start or 0:g} to {row.end if row.end is not None else 'its end'} s" if row.start or row.end else ""
        )
        there = "" if row.path.exists() else " (it is not there)"
        lines.append(
            f"  source {row.path}{there}{part}; person {row.person}, split {row.split}, data set {row.dataset}"
        )
    for name, stage in survey.stages.items():
        for member, cell in survey.cells[name].items():
            if clip_of(member) == clip:
                lines += _stage(survey, stage, member, cell)
    pairs = [pair.clip for pair in survey.pairs if clip in pair.extra.values()]
    if pairs:
        lines.append(f"  pairs with it: {', '.join(pairs)}")
    media = survey.config.results / "report" / "media" / clip
    if media.is_dir():
        lines.append(f"  pictures {media}: {', '.join(sorted(path.name for path in media.iterdir()))}")
    return "\n".join(lines)


def _stage(survey: Survey, stage: Stage, clip: str, cell: Cell) -> list[str]:
    home, result = stage.home(survey.config.results), stage.result(survey.config.results, clip)
    name = stage.name if clip_of(clip) == clip else f"{stage.name} {clip}"
    lines = [f"  {name}: {cell.status}" + (f", {cell.why}" if cell.why else "")]
    if cell.status == "stale":
        lines.append(f"    because {_difference(survey, stage, result)}")
    elif cell.status == "ok" and (changes := _changes(survey, stage, result)):
        lines.append(f"    though {changes}: a default changed under the same version of the stage")
    for file in (home / f"{clip}{ending}" for ending in stage.endings):
        if file.exists():
            lines.append(f"    {_described(file)}")
        if file.name.endswith(".failed.json") and (figures := _quality(file)):
            lines.append(f"    quality {figures}")
    where = stage.by or stage.name
    for shard, members in survey.shards(where).items():
        log = survey.config.results / "logs" / where / f"{shard}.log"
        if any(clip in (member.clip, member.extra.get("target")) for member in members):
            earlier = ", ".join(f".{number}" for number in range(1, 10) if log.with_suffix(f".{number}.log").exists())
            lines.append(
                f"    log {log}" + (f" (earlier tries: {earlier})" * bool(earlier) if log.exists() else " (none yet)")
            )
    return lines


def _quality(record: Path) -> str:
    """The figures of a clip that was refused."""
    with suppress(OSError, ValueError):
        found = json.loads(record.read_text("utf-8")).get("quality", {})
        return ", ".join(f"{name} {_rounded(value)}" for name, value in found.items())
    return ""


def _rounded(value: Any) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {_rounded(part)}' for name, part in value.items())})"
    if isinstance(value, list):
        return " to ".join(map(_rounded, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _described(path: Path) -> str:
    if path.suffix != ".zarr":
        return str(path)
    files = [file for file in path.rglob("*") if file.is_file()]
    size = f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB in {len(files)} files"
    try:
        store = Store(path)
        for name in store.names():
            _ = store[name]
    except StoreError as error:
        return f"{path}: {size}, DAMAGED: {error}; `expportrait retry --clip {path.stem}` has it made again"
    return f"{path}: {size}, whole"


def _difference(survey: Survey, stage: Stage, store: Path) -> str:
    """Why the key is another one, as far as the store's own attributes tell."""
    if not _attributes(store):
        return "what an earlier run recorded was for other settings, rows or parents"
    return _changes(survey, stage, store) or (
        "an earlier stage changed, or a file named in the settings"
        if stage.parents
        else "the row changed, or its source"
    )


def _attributes(store: Path) -> dict:
    with suppress(OSError, ValueError, KeyError):
        return json.loads((store / "zarr.json").read_bytes())["attributes"]
    return {}


def _changes(survey: Survey, stage: Stage, store: Path) -> str:
    """Settings and version that the store was made with, where today's are others."""
    attributes = _attributes(store)
    own = next((row.settings for row in survey.members(stage.name) if row.clip == store.stem), {})
    now, then = vars(stage.settings(survey.config.told(own))), made_with(attributes.get("settings", {}))
    changes = [
        f"{section}.{name} was {then[section][name]!r} and is {value!r}"
        for section, values in now.items()
        for name, value in values.singly(values.model_dump(mode="json")).items()
        if section in then and then[section][name] != value
    ]
    if attributes and attributes.get("version") != stage.version:
        changes.append(f"the stage's version was {attributes.get('version')} and is {stage.version}")
    for name, number in (stage.chosen(survey.config) if stage.chosen and not changes else {}).items():
        if attributes.get(f"{name}_version", number) != number:
            changes.append(f"the {name}'s version was {attributes[f'{name}_version']} and is {number}")
    return "; ".join(changes)
