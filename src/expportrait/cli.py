"""The command line: one command a stage. Heavy modules are imported inside the commands."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import expportrait
from expportrait.animate.command import animate
from expportrait.doctor.command import doctor
from expportrait.engine.stage import Stage
from expportrait.errors import MachineFault, StageBroken, UserError
from expportrait.export.command import app as exporting
from expportrait.importers.commands import app as importing
from expportrait.launch import first_to_say, launch
from expportrait.manifest.clips import read_manifest, shards
from expportrait.options import (
    Backend,
    Clips,
    Device,
    Manifest,
    Pair,
    Pairs,
    Results,
    Sets,
    Settings,
    Shard,
    Shards,
    choose_device,
    configuration,
    select,
    select_pairs,
)
from expportrait.people.command import people
from expportrait.settings.config import Config
from expportrait.settings.weights import check_given, fetch_weights
from expportrait.show import head_commands
from expportrait.stages import PIPELINE, job, with_code
from expportrait.status import commands

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From portrait video clips to personalised heads and a portrait-video generator. `snakemake` runs the whole "
    "chain; each command here is one stage of it and works alone. Exit status: 1 for a mistake in what was asked, "
    "3 for a fault of the machine.",
)


def _title(name: str) -> str:
    return (type(getattr(Config(), name)).__doc__ or "").strip()


def _per_clip(stage: Stage) -> None:
    name = stage.name

    def command(
        manifest: Manifest = None,
        results: Results = None,
        shard: Shard = None,
        number: Shards = None,
        clip: Clips = None,
        settings: Settings = None,
        sets: Sets = None,
        device: Device = "auto",
        backend: Backend = "auto",
    ) -> None:
        from expportrait.engine.loop import run

        config = configuration(manifest, results, settings, sets)
        coded, where = with_code(name), choose_device(device)
        check_given(config, stage.sections)
        for part, rows in select(config, shard, number, clip).items():
            index = run(coded, rows, config, where, backend, "" if clip else part)
            _write(config.results / name / f"{part}.json", index, whole=not clip)

    app.command(name, help=f"{_title(name)} Writes RESULTS/{name}/CLIP.zarr.")(command)


def _per_pair(stage: Stage) -> None:
    name = stage.name

    def command(
        manifest: Manifest = None,
        results: Results = None,
        pairs: Pairs = None,
        shard: Shard = None,
        number: Shards = None,
        pair: Pair = None,
        settings: Settings = None,
        sets: Sets = None,
        device: Device = "auto",
        backend: Backend = "auto",
    ) -> None:
        from expportrait.engine.loop import run

        config = configuration(manifest, results, settings, sets, pairs)
        coded, where = job(name, config), choose_device(device)
        clips = read_manifest(config.manifest)
        for part, rows in select_pairs(config, shard, number, pair).items():
            for one in coded:
                index = run(one, one.members(clips, rows), config, where, backend, "" if pair else part)
            _write(config.results / name / f"{part}.json", index, whole=not pair)

    app.command(name, help=f"{_title(name)} Writes RESULTS/{name}/TARGET__DRIVER.zarr.")(command)


def _write(file: Path, index: dict[str, Any], whole: bool) -> None:
    """An index must list its whole shard, so some members only update one that exists."""
    from expportrait.engine.record import read_index, write_index

    if whole or file.exists():
        write_index(file, index if whole else read_index(file) | index)


def _training(stage: Stage) -> None:
    name = stage.name

    def command(
        manifest: Manifest = None,
        results: Results = None,
        settings: Settings = None,
        sets: Sets = None,
        device: Device = "auto",
    ) -> None:
        config = configuration(manifest, results, settings, sets)
        with_code(name).run(read_manifest(config.manifest), config, choose_device(device))

    app.command(name, help=f"{_title(name)} Writes RESULTS/{name}/model.")(command)


def _generator(
    manifest: Manifest = None,
    results: Results = None,
    settings: Settings = None,
    sets: Sets = None,
    device: Device = "auto",
    processes: Annotated[int, typer.Option(min=0, help="Train on so many, one a GPU. (default: one)")] = 0,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what it will take: memory, hours, disk.")] = False,
    gpu: Annotated[str, typer.Option(help="With --plan: h100, h200, a100, a100-40, l40s or 4090.")] = "h100",
    ratio: Annotated[float, typer.Option(min=1, help="With --plan: a step's time, by that at the GPU's peak.")] = 2.0,
) -> None:
    config = configuration(manifest, results, settings, sets)
    if plan:
        from expportrait.generator.bill import told

        typer.echo(told(config, max(1, processes), gpu, ratio))
        return
    launch(processes)
    with_code("generator").run(read_manifest(config.manifest), config, choose_device(device))


def _all_pairs(stage: Stage) -> None:
    name = stage.name

    def command(
        manifest: Manifest = None,
        results: Results = None,
        pairs: Pairs = None,
        settings: Settings = None,
        sets: Sets = None,
        device: Device = "auto",
    ) -> None:
        from expportrait.engine.loop import run

        config = configuration(manifest, results, settings, sets, pairs)
        rows = [row for part in select_pairs(config).values() for row in part]
        rows.sort(key=lambda row: (row.extra["target"], row.extra["driver"]))
        run(with_code(name), rows, config, choose_device(device))
        typer.echo(f"wrote {config.results / stage.table}")

    app.command(name, help=f"{_title(name)} Writes RESULTS/{stage.table}.")(command)


def _demo(
    manifest: Manifest = None,
    clip: Annotated[list[str] | None, typer.Option("--clip", help="Only this clip; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Video to write. (default: the clip's source)")] = None,
    settings: Settings = None,
    sets: Sets = None,
    device: Device = "auto",
) -> None:
    """Make the demo's clips: two public-domain portraits animated with known motion."""
    from expportrait.engine.keys import Keys

    config = configuration(manifest, None, settings, sets)
    if out is not None and len(clip or ()) != 1:
        raise UserError("--out: say which clip it is, by one --clip")
    sources = {row.clip: row.path for row in read_manifest(config.manifest) if row.dataset == "demo"}
    stage, where = with_code("demo"), choose_device(device)
    for name in clip or sources:
        if name not in sources:
            raise UserError(f"{config.manifest} has no clip {name!r} of the data set demo, only {', '.join(sources)}")
        video = out or sources[name]
        video.parent.mkdir(parents=True, exist_ok=True)
        stage.run(name, video, stage.settings(config), where)
        Path(f"{video}.key").write_text(Keys(stage, config).of_source(name) + "\n", "utf-8")


def _report(
    manifest: Manifest = None,
    results: Results = None,
    pairs: Pairs = None,
    settings: Settings = None,
    sets: Sets = None,
) -> None:
    """One HTML page on the whole run: what was made, what failed and why. Writes RESULTS/report/index.html."""
    config = configuration(manifest, results, settings, sets, pairs)
    rows = read_manifest(config.manifest)
    stage = with_code("report")
    page = stage.run(rows, config.results, stage.settings(config), shards(rows, config.shards), select_pairs(config))
    typer.echo(f"wrote {page}")
    typer.echo(f"wrote {commands.last_page(config)}")


_OF_KIND = {"clip": _per_clip, "pair": _per_pair, "model": _training}
app.command("demo")(_demo)
for _stage in PIPELINE.values():
    if _stage.name == "generator":
        app.command("generator", help=f"{_title('generator')} Writes RESULTS/generator/model.")(_generator)
    elif _stage.kind in _OF_KIND and not _stage.by:
        (_all_pairs if _stage.table else _OF_KIND[_stage.kind])(_stage)
app.command("report")(_report)
for _name in ("status", "watch", "retry", "prune"):
    app.command(_name)(getattr(commands, _name))


show = typer.Typer(no_args_is_help=True, help="Films and mesh files of one clip's or pair's results.")
app.add_typer(show, name="show")


@show.callback()
def _show() -> None:
    pass


@show.command("proxy")
def _show_proxy(
    clip: str,
    manifest: Manifest = None,
    results: Results = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to. (default: RESULTS/show)")] = None,
    frames: Annotated[str, typer.Option(help="a:b, b not included; either may be left out.")] = ":",
    mesh: Annotated[str, typer.Option(help="File format of the head: glb, ply, or none.")] = "glb",
    sequence: Annotated[bool, typer.Option("--sequence", help="The head in these frames too.")] = False,
    every: Annotated[int, typer.Option(min=1, help="Of the sequence, each such frame only.")] = 1,
    backend: Backend = "auto",
) -> None:
    """A fitted head: a film of what the fit saw and made of it, and the head as a mesh that Blender opens."""
    from expportrait.show.proxy import show_proxy

    config = configuration(manifest, results, settings)
    select(config, None, None, [clip])  # says so when the manifest has no such clip
    folder = out or config.results / "show"
    for file in show_proxy(clip, config.results, folder, frames, mesh, sequence, every, backend):
        typer.echo(f"wrote {file}")


@show.command("pair")
def _show_pair(
    pair: str,
    manifest: Manifest = None,
    results: Results = None,
    settings: Settings = None,
    pairs: Pairs = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to. (default: RESULTS/show)")] = None,
    strip: Annotated[int, typer.Option(min=1, help="Frames in the picture.")] = 6,
) -> None:
    """What was made of a pair (TARGET__DRIVER), panel beside panel: as a film, and as a picture of some frames."""
    from expportrait.show.pair import show_pair

    config = configuration(manifest, results, settings, pairs=pairs)
    (row,) = (row for part in select_pairs(config, pairs=[pair]).values() for row in part)
    for file in show_pair(row, config.results, out or config.results / "show", strip):
        typer.echo(f"wrote {file}")


head = typer.Typer(no_args_is_help=True, help="Look into head models, export and convert them.")
app.add_typer(head, name="head")


@head.callback()
def _head() -> None:
    pass


for _name in ("info", "check", "export", "bust", "convert"):
    head.command(_name)(getattr(head_commands, _name))

app.add_typer(importing, name="import")
app.add_typer(exporting, name="export")
app.command("fetch-weights")(fetch_weights)
app.command("animate")(animate)
app.command("people")(people)
app.command("doctor")(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"expportrait {expportrait.__version__}")
        raise typer.Exit


@app.callback()
def _top(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass


def _mark_damaged(error: Exception) -> None:
    """Mark the store that a training could not read, and raise MachineFault; do nothing where it is another error."""
    from expportrait.engine.damage import mark
    from expportrait.machine import machine_fault
    from expportrait.store import StoreError

    if isinstance(error, StoreError) and error.path is not None and not machine_fault(error):
        mark(error.path, str(error))
        raise MachineFault(f"{error}. Run snakemake again: it makes that store anew") from error


def main() -> None:
    """Entry point: mistakes and faults end in one sentence; a bug keeps its traceback."""
    from expportrait.machine import machine_faults

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin beside another job's
    if "OMP_NUM_THREADS" in os.environ:
        os.environ.setdefault("OPENCV_FOR_THREADS_NUM", os.environ["OMP_NUM_THREADS"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave through the clean-up
    try:
        with machine_faults():
            try:
                app()
            except Exception as error:
                _mark_damaged(error)
                raise
    except (UserError, StageBroken) as error:
        sys.exit(f"expportrait: {error}" if first_to_say(str(error)) else 1)
    except MachineFault as error:
        if first_to_say(str(error)):
            print(f"expportrait: {error}", file=sys.stderr)
        sys.exit(3)
