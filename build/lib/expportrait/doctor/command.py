"""The command ``doctor``."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Annotated

import typer

from expportrait.doctor.finding import Finding
from expportrait.errors import UserError
from expportrait.options import Manifest, Pairs, Results, Sets, Settings, configuration
from expportrait.settings.config import Config


def doctor(
    manifest: Manifest = None,
    results: Results = None,
    pairs: Pairs = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    settings: Settings = None,
    sets: Sets = None,
) -> None:
    """What is here: versions, GPU, memory, disks, and the files that the settings ask for. Exit status 1 where
    something is missing that they ask for."""
    try:
        config, wrong = configuration(manifest, results, settings, sets, pairs), ""
    except UserError as error:
        config, wrong = Config(), str(error)
    found = [*examine(config, wrong)]
    missing = [finding for finding in found if finding.missing]
    if as_json:
        typer.echo(json.dumps({"ok": not missing, "findings": [asdict(finding) for finding in found]}, indent=1))
    else:
        typer.echo(page(found))
    if missing:
        raise UserError("missing: " + ", ".join(f"{finding.part} {finding.name}" for finding in missing))


def examine(config: Config, wrong: str = "") -> Iterator[Finding]:
    """All findings. ``wrong``: why the settings cannot be read; then nothing is said of what they ask for."""
    from expportrait.doctor.asked import data, files
    from expportrait.doctor.machine import machine, software
    from expportrait.doctor.places import places

    yield from software(config)
    yield from machine()
    if wrong:
        yield Finding("settings", "settings", wrong, missing=True)
        return
    yield from places(config.results)
    yield from files(config)
    yield from data(config)


def page(found: list[Finding]) -> str:
    """The findings as text, a part after the other; what is missing is marked."""
    width = max(len(finding.name) for finding in found)
    lines = []
    for part, members in groupby(found, lambda finding: finding.part):
        lines += ["", part]
        lines += [f"{'!' if f.missing else ' '} {f.name.ljust(width)}  {f.says}" for f in members]
    return "\n".join(lines[1:])
