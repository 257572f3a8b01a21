"""What the settings ask for: files of networks and other files, the manifest, and the pairs."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from expportrait.doctor.finding import Finding, Said, findings, size
from expportrait.errors import UserError
from expportrait.files import sha256
from expportrait.manifest.clips import mixed_splits, read_manifest
from expportrait.manifest.pairs import read_pairs
from expportrait.settings.config import SECTIONS, Config
from expportrait.settings.known_files import KNOWN, comes_from
from expportrait.settings.weights import check_given

NEAR = 0.01  # share by which a file may differ from its published size, which has few digits


def files(config: Config) -> Iterator[Finding]:
    """The files that settings name, those that settings need and do not name, and which settings name none."""
    named = config.paths(*SECTIONS)
    yield from findings(
        "files", [(where, lambda w=where, p=path: _file(config, w, p)) for where, path in named.items()]
    )
    for section in SECTIONS:
        lacking = [*findings("files", [(section, lambda s=section: _given(config, s))])]
        yield from (finding for finding in lacking if finding.says)
    empty = [where for where in _all_places(config) if where not in named]
    yield Finding("files", "settings without one", ", ".join(empty) or "none")


def _given(config: Config, section: str) -> Said:
    try:
        check_given(config, (section,))
        if section == "evaluate" and config.evaluate.by_files and config.evaluate.tracks is None:
            raise UserError(f"evaluate.tracker is {config.evaluate.tracker}, but evaluate.tracks is empty")
    except UserError as error:
        return str(error), True
    return ""


def _all_places(config: Config) -> Iterator[str]:
    """The settings that may name a file or folder."""
    for section in SECTIONS:
        fields = type(getattr(config, section)).model_fields
        yield from (f"{section}.{name}" for name, field in fields.items() if _is_path(field.annotation))


def _is_path(annotation: object) -> bool:
    return annotation is Path or any(map(_is_path, get_args(annotation)))


def _file(config: Config, where: str, path: Path) -> Said:
    section, name = where.split(".")
    meant = type(getattr(config, section)).model_fields[name].description
    if not path.exists():
        return f"{path} does not exist{comes_from(where, path)} ({meant})", True
    if path.is_dir():
        return f"{path}, a folder with {sum(1 for _ in path.iterdir()):,} entries ({meant})"
    if lost := _listed(path):
        return f"{path} lists {lost[0]}, which is not there ({meant})", True
    checksum = sha256(path)
    right, judgement = judged(where, path, checksum)
    return f"{path}, {size(path.stat().st_size)}, sha256 {checksum}; {judgement} ({meant})", not right


def _listed(index: Path) -> list[Path]:
    """Files that an index of safetensors files lists and that are not beside it."""
    if not index.name.endswith(".index.json"):
        return []
    names = json.loads(index.read_text("utf-8"))["weight_map"].values()
    return [file for name in sorted({*names}) if not (file := index.parent / name).exists()]


def judged(where: str, path: Path, checksum: str) -> tuple[bool, str]:
    """Whether the file of a setting may be what was published under its name, and what is known of that."""
    known = next((one for one in KNOWN if where in (one.key, one.also) and one.name == path.name), None)
    if known is None:
        return True, "your own: there is nothing to compare it with"
    megabytes = path.stat().st_size / 1e6
    if known.sha256 and not checksum.startswith(known.sha256):
        return False, f"not what was published: that one's sha256 begins with {known.sha256}"
    if known.megabytes and abs(megabytes / known.megabytes - 1) > NEAR:
        return False, f"not what was published: that one has {known.megabytes:,.0f} MB"
    checks = [*["sha256"] * bool(known.sha256), *["size"] * bool(known.megabytes)]
    return True, f"right by its {' and '.join(checks)}" if checks else "neither size nor sha256 of it was published"


def data(config: Config) -> Iterator[Finding]:
    """The table of the clips, and that of the pairs."""
    yield from findings("data", [("manifest", lambda: _manifest(config)), ("pairs", lambda: _pairs(config))])


def _manifest(config: Config) -> Said:
    try:
        rows = read_manifest(config.manifest)
    except UserError as error:
        return str(error), True
    sets = ", ".join(f"{name} {count:,}" for name, count in Counter(row.dataset for row in rows).items())
    lost = [row for row in rows if not row.path.exists()]
    sources = f"{len(lost):,} sources are not there, such as {lost[0].path}" if lost else "all sources are there"
    mixed = "; people stand in two splits" if mixed_splits(rows) else ""
    return f"{config.manifest}: {len(rows):,} clips ({sets}); {sources}{mixed}"


def _pairs(config: Config) -> Said:
    try:
        pairs = read_pairs(config.pairs, read_manifest(config.manifest))
    except UserError as error:
        return str(error), True
    return f"{config.pairs or 'by default'}: {len(pairs):,} pairs"
