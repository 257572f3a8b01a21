"""``expportrait import split``: its options are the settings of the section ``split``, and a few of its own."""

import inspect
import json
import os
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from expportrait.errors import UserError
from expportrait.files import replace_file
from expportrait.importers.common import clip_id
from expportrait.importers.split.records import check
from expportrait.importers.split.sources import listed, named, of_shard, shard_count
from expportrait.importers.table import left_out
from expportrait.manifest.clips import SPLITS
from expportrait.options import Sets, Settings, configuration
from expportrait.settings.config import Config, Split

OWN_WAY = ("sources", "shards")  # settings that have an option of another form


def _split(
    videos: Annotated[list[Path] | None, typer.Argument(help="Videos, and folders that are looked through.")] = None,
    *,
    out: Annotated[Path, typer.Option(help="Manifest to write; its sources are relative to its folder.")],
    sources: Annotated[
        Path | None, typer.Option(help="Table of the videos instead, with a column source; others are carried along.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the manifest; what is finished is not lost.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Videos at once, a process each; 0: as many as cores.")] = 0,
    records: Annotated[
        Path | None, typer.Option(help="Folder of what was found. (default: my.split beside it)")
    ] = None,
    val: Annotated[float, typer.Option(help="Share of the persons in the split val.")] = 0.05,
    test: Annotated[float, typer.Option(help="Share of the persons in the split test.")] = 0.05,
    split: Annotated[str | None, typer.Option(help="One split for all rows, instead of by person.")] = None,
    dataset: Annotated[str, typer.Option(help="Its name in the manifest.")] = "split",
    shard: Annotated[
        int | None, typer.Option(min=0, help="Only look at the videos of this shard, for later; writes no manifest.")
    ] = None,
    shards: Annotated[int | None, typer.Option(min=1, help="Number of shards. (default: split.shards)")] = None,
    settings: Settings = None,
    sets: Sets = None,
    **own: Any,
) -> None:
    """Long videos: shots, everybody in them, and the runs of frames in which they can be used. Takes up where it was
    stopped."""
    from expportrait.importers.split.table import Options, write
    from expportrait.importers.split.work import work

    config = _configured(out, settings, sets, own)
    if (sources is None) == (not videos):
        raise UserError("name the videos, or a table of them by --sources: one of the two")
    found = listed(sources) if sources else named(videos or [])
    if shard is None:
        _check(out, force, val, test, split, dataset)
    folder = records or out.with_name(f"{out.stem}.split")
    count = shards or shard_count(found, config.split.shards)
    if shard is not None and shard >= count:
        raise UserError(f"--shard {shard}: there are {count} shards, counted from 0")
    check(folder)
    wanted = found if shard is None else of_shard(found, shard, count)
    done = work(wanted, folder, config, jobs or len(os.sched_getaffinity(0)))
    if shard is None:
        typer.echo(write(found, done, Options(out, dataset, val, test, split)))
        return
    index = {name: record["fault"] or record["key"] for name, record in sorted(done.items())}
    replace_file(folder / "shards" / f"{shard}.json", json.dumps(index, indent=1).encode())
    typer.echo(f"{len(wanted):,} of {len(found):,} videos are looked at")


def _configured(out: Path, settings: str | None, sets: list[str] | None, own: dict[str, Any]) -> Config:
    """The settings, and those that were given as options of their own."""
    said = [f"split.{name}={value!r}" for name, value in own.items() if value is not None]
    try:
        config = configuration(out, None, settings, [*(sets or ()), *said])
    except UserError as error:
        text = str(error)
        for name in own:  # by the option that was given
            text = text.replace(f"--set: split.{name} is", f"--{name.replace('_', '-')}")
        raise UserError(text) from None
    options = config.split
    if options.max_seconds < 2 * options.min_seconds:
        raise UserError(f"max_seconds is {options.max_seconds:g}, min_seconds {options.min_seconds:g}: longer runs are "
                        "cut into equal parts, so at least twice as much is needed")  # fmt: skip
    return config


def _check(out: Path, force: bool, val: float, test: float, split: str | None, dataset: str) -> None:
    """Raises UserError for what cannot be meant, before any work."""
    if val < 0 or test < 0 or val + test > 1:
        raise UserError(f"--val {val:g} --test {test:g}: shares of the persons, at most 1 together")
    if split and split not in SPLITS:
        raise UserError(f"--split {split}: none of {', '.join(SPLITS)}")
    if clip_id(dataset) != dataset:
        raise UserError(f"--dataset {dataset!r}: letters, digits and . _ + - are expected")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent} is not a folder; make it first")
    if out.exists() and not force:
        raise UserError(f"{out} exists; --force replaces it, and looks only at videos that are new")
    if out.exists() and not left_out(out).exists():
        raise UserError(f"{out} was not made by an importer ({left_out(out).name} is not beside it): move it away")


def _setting(name: str) -> inspect.Parameter:
    field = Split.model_fields[name]
    note = f"{field.description[0].upper()}{field.description[1:]}. (default: {field.default:g})"
    hint = Annotated[int | None if field.annotation is int else float | None, typer.Option(help=note)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)


def add_to(app: typer.Typer) -> None:
    """The command, with an option for each setting."""
    settings = [_setting(name) for name in Split.model_fields if name not in OWN_WAY]
    parameters = [p for p in inspect.signature(_split).parameters.values() if p.kind is not p.VAR_KEYWORD]

    def command(**values: Any) -> None:
        _split(**values)

    command.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in parameters] + settings)
    hints = get_type_hints(_split, include_extras=True) | {p.name: p.annotation for p in settings}
    command.__annotations__ = {name: hint for name, hint in hints.items() if name not in ("return", "own")}
    app.command("split", help=_split.__doc__)(command)
