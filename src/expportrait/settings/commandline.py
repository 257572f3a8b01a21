"""Mistakes in Snakemake's own command line, which it would pass over or end with a traceback."""

import re
import sys
from collections.abc import Mapping
from functools import reduce
from pathlib import Path

from expportrait.errors import UserError

OPTION = re.compile(r"--config(?:=(?P<long>.*))?|-[nFfkp]*C=?(?P<short>.*)", re.DOTALL)
NAME = re.compile(r"[A-Za-z_][\w-]*\w")  # what Snakemake takes for a name
FILLED_IN = re.compile(r"\{.*?\}|<.*?>")  # wildcards and path variables
EXAMPLE = "--config manifest=my.csv 'proxy={batch: 8}'"


def check_command_line(arguments: list[str]) -> None:
    """Check the arguments of a call of Snakemake. Raises UserError where there is more than one --config, since
    Snakemake takes the last one alone, and where an entry of it is not written as ``name=value``."""
    given = config_entries(arguments)
    if len(given) > 1:
        raise UserError(f"there are {len(given)} --config, and Snakemake would take the last one alone: write all "
                        f"settings behind one, as in {EXAMPLE}")  # fmt: skip
    for entry in (entry for entries in given for entry in entries):
        name, equals, value = entry.partition("=")
        section, *below = name.split(".")
        if not equals:
            raise UserError(f"--config takes all that follows it, and {entry!r} is no name=value: write targets and "
                            f"files before it, and settings as in {EXAMPLE}")  # fmt: skip
        if below and all(map(NAME.fullmatch, (section, *below))):
            nested = reduce(lambda inner, key: f"{{{key}: {inner}}}", reversed(below), value)
            raise UserError(f"--config {entry}: write it as '{section}={nested}'")
        if not NAME.fullmatch(name):
            raise UserError(f"--config {entry}: {name!r} is not the name of a setting; write it as in {EXAMPLE}")


def config_entries(arguments: list[str]) -> list[list[str]]:
    """Returns the entries of each --config (or -C) among the arguments."""
    found: list[list[str]] = []
    taking = False
    for argument in arguments:
        if option := OPTION.fullmatch(argument):
            first = option["long"] if option["long"] is not None else option["short"]
            found.append([first] if first else [])
            taking = not first
        elif argument.startswith("-"):
            taking = False
        elif taking:
            found[-1].append(argument)
    return found


def check_paths(paths: Mapping[str, Path]) -> None:
    """Check ``paths``, given by the setting that names them. Raises UserError where Snakemake would take a part of a
    path for a wildcard and replace it."""
    for where, path in paths.items():
        if found := FILLED_IN.search(str(path)):
            raise UserError(f"{where} is {str(path)!r}: Snakemake takes {found[0]} for a place to be filled in; "
                            "give it another name")  # fmt: skip


def refuse() -> None:
    """End the process with one sentence where Snakemake's command line has a mistake. Profiles call it, because
    Snakemake reads them before anything else."""
    try:
        check_command_line(sys.argv[1:])
    except UserError as error:
        sys.exit(f"expportrait: {error}")
