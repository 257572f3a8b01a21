"""``expportrait import …``: one command a data set, its own arguments and those that all share."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from expportrait.importers import celebvhq, folder, hdtf, nersemble, ravdess, vfhq
from expportrait.importers.common import FRAMES, PORTRAIT, TAKEN_FOR, Found, LeftOut
from expportrait.importers.split import command as split_command
from expportrait.importers.table import Options, Report, kept, write

NAMED = 3  # folders that the summary names of each kind

app = typer.Typer(
    no_args_is_help=True,
    help="Write a manifest from a data set's own annotation files and your videos. Nothing is downloaded.",
)


def _shared(
    out: Annotated[Path, typer.Option(help="Manifest to write; its sources are relative to its folder.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the manifest.")] = False,
    append: Annotated[bool, typer.Option("--append", help="Add to the manifest what is not in it yet.")] = False,
    val: Annotated[float, typer.Option(help="Share of the persons in the split val.")] = 0.05,
    test: Annotated[float, typer.Option(help="Share of the persons in the split test.")] = 0.05,
    split: Annotated[str | None, typer.Option(help="One split for all rows, instead of by person.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Its name in the manifest. (default: the command's)")] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Open the videos: for boxes that need their size, and faults.")
    ] = True,
    split_shots: Annotated[bool, typer.Option("--split-shots", help="Find the cuts; a row for each shot.")] = False,
    max_seconds: Annotated[float | None, typer.Option(min=0.1, help="Cut longer rows into equal parts.")] = None,
    min_seconds: Annotated[float, typer.Option(min=0, help="Leave out shorter shots.")] = 1.0,
    workers: Annotated[int, typer.Option(min=0, help="Videos opened at once; 0: as many as cores, at most 8.")] = 0,
) -> None:
    pass


def _command(name: str, rows: Callable[..., Iterator[Found | LeftOut]]) -> None:
    own, shared = inspect.signature(rows).parameters, inspect.signature(_shared).parameters

    def command(**values: object) -> None:
        options = {key: values[key] for key in shared} | {"dataset": values["dataset"] or name}
        options = Options(**options)
        options.check()
        typer.echo(_summary(write(rows(**{key: values[key] for key in own}), options), options))

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own.values(), *shared.values())]
    command.__signature__ = inspect.Signature(sorted(parameters, key=lambda p: p.default is not p.empty))
    hints = get_type_hints(rows, include_extras=True) | get_type_hints(_shared, include_extras=True)
    command.__annotations__ = {key: hint for key, hint in hints.items() if key != "return"}
    app.command(name, help=rows.__doc__)(command)


def _summary(report: Report, options: Options) -> str:
    splits = ", ".join(f"{count:,} {name}" for name, count in sorted(report.splits.items()))
    text = [f"{options.out}: {report.rows:,} rows of {report.persons:,} persons{f' ({splits})' if splits else ''}"]
    text += _taken_for(report.taken_for)
    for title, chosen in (("left out", False), ("something is missing", True)):
        reasons = [(why, count) for why, count in report.reasons.most_common() if kept(why) == chosen]
        if reasons:
            text.append(f"{title}, {sum(count for _, count in reasons):,}:")
            text += [f"  {count:7,}  {why}" for why, count in reasons]
    if report.reasons:
        text.append(f"one by one: {report.list}")
    return "\n".join(text)


def _taken_for(taken_for: dict[str, list[Path]]) -> list[str]:
    """What the sources were taken for, where that had to be judged, and how to have it otherwise."""
    counts = [f"{kind} ({len(taken_for[kind]):,})" for kind in TAKEN_FOR if kind in taken_for]
    text = [f"taken for: {', '.join(counts)}"] if counts else []
    if PORTRAIT in taken_for:
        homes = dict.fromkeys(source.parent for source in taken_for[PORTRAIT])
        text.append(f"  {PORTRAIT}, neighbours differ as much as any two, so each is a clip: {_some(homes)}")
        text.append("  (--images frames: a clip's frames instead; --person clip: each of them another person)")
    if FRAMES in taken_for:
        text.append(f"  {FRAMES}, each folder is one clip: {_some(taken_for[FRAMES])}")
        text.append("  (--images single: each image a clip instead)")
    return text


def _some(paths: Iterable[Path]) -> str:
    names = [str(path) for path in paths]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


for _name, _module in (("vfhq", vfhq), ("celebvhq", celebvhq), ("hdtf", hdtf), ("ravdess", ravdess),
                       ("nersemble", nersemble), ("folder", folder)):  # fmt: skip
    _command(_name, _module.rows)
split_command.add_to(app)
