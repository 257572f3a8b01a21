"""The command line: one command a stage. Heavy modules are imported inside the commands."""

import os
import signal
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer
import yaml

import expportrait
from expportrait.config import Config
from expportrait.configfile import overlay, read_config, read_yaml
from expportrait.errors import MachineFault, StageBroken, UserError
from expportrait.importers.commands import app as importing
from expportrait.manifest import Row, read_manifest, shards
from expportrait.stages import PER_CLIP

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From portrait video clips to personalised heads and control maps. `snakemake` runs the whole chain; "
    "each command here is one stage of it and works alone. Exit status: 1 for a mistake in what was asked, "
    "3 for a fault of the machine.",
)

Manifest = Annotated[Path | None, typer.Option(help="Table of the clips, one a row. (default: data_manifest.csv)")]
Results = Annotated[Path | None, typer.Option(help="Folder of all results. (default: results)")]
Shard = Annotated[list[str] | None, typer.Option(help="Only the clips of this shard, such as hdtf-0003; repeatable.")]
Shards = Annotated[
    int | None, typer.Option("--shards", min=1, help="Number of shards of its data set. (default: configured)")
]
Clips = Annotated[list[str] | None, typer.Option("--clip", help="Only this clip; repeatable.")]
Settings = Annotated[
    str | None,
    typer.Option(
        help="YAML or JSON file, or JSON text, that stands for all settings. "
        "(default: config.yaml here, then the .yaml beside the manifest)"
    ),
]
Sets = Annotated[list[str] | None, typer.Option("--set", help="One setting, such as proxy.batch=8; repeatable.")]
Device = Annotated[str, typer.Option(envvar="EXPPORTRAIT_DEVICE", help="cpu, cuda, or auto: cuda where there is one.")]
Backend = Annotated[
    str, typer.Option(envvar="EXPPORTRAIT_BACKEND", help="Rasteriser: torch, nvdiffrast, or auto: what the device has.")
]


def configuration(
    manifest: Path | None = None,
    results: Path | None = None,
    settings: str | None = None,
    sets: list[str] | None = None,
) -> Config:
    """config.yaml and the manifest's overlay, or ``settings`` instead of both; then the single settings."""
    given = {name: str(value) for name, value in (("manifest", manifest), ("results", results)) if value is not None}
    layers: list[tuple[str, dict]] = []
    if settings is not None and settings.lstrip().startswith("{"):
        layers.append(("--settings", _parse(settings, "--settings")))
    elif settings is not None:
        layers.append((settings, read_yaml(Path(settings))))
    else:
        files = [Path("config.yaml")] if Path("config.yaml").exists() else []
        layers += [(str(file), read_yaml(file)) for file in files]
        beside = overlay(read_config(*layers, ("the command line", given)).manifest)
        layers += [(str(beside), read_yaml(beside))] if beside.exists() else []
    for text in sets or ():
        name, equals, value = text.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot and key):
            raise UserError(f"--set {text}: write it as section.setting=value, such as proxy.batch=8")
        layers.append(("--set", {section: {key: _parse(value, f"--set {name}")}}))
    return read_config(*layers, ("the command line", given))


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid JSON or YAML: {getattr(error, 'problem', error)}") from None


def load_stage(name: str) -> Any:
    """The stage's module."""
    return import_module(f"expportrait.stages.{name}")


def choose_device(device: str) -> str:
    """Resolve auto. Raises MachineFault when a GPU is asked for and there is none."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise MachineFault(f"--device {device}: there is no usable GPU on this machine")
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: cpu, cuda or auto is expected")
    return device


def select(
    config: Config, names: list[str] | None, number: int | None, clips: list[str] | None
) -> dict[str, list[Row]]:
    """Shard -> the rows to work on."""
    rows = read_manifest(config.manifest)
    counts = dict(config.shards)
    if number is not None:
        if not names:
            raise UserError("--shards: say which shard is meant, by --shard")
        counts |= {name.rpartition("-")[0]: number for name in names}
    table = shards(rows, counts)
    for wanted, known, what in ((names, [*table], "shard"), (clips, [row.clip for row in rows], "clip")):
        for name in wanted or ():
            if name not in known:
                close = get_close_matches(name, known, n=1) or known[:1]
                raise UserError(f"{config.manifest} has no {what} {name!r}; did you mean {close[0]!r}?")
    table = {name: table[name] for name in names or table}
    if clips:
        table = {name: [row for row in chosen if row.clip in clips] for name, chosen in table.items()}
    return {name: chosen for name, chosen in table.items() if chosen}


def _per_clip(name: str) -> None:
    section = type(getattr(Config(), name))

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
        from expportrait.stage import read_index, run, write_index

        config = configuration(manifest, results, settings, sets)
        table = select(config, shard, number, clip)
        stage, where = load_stage(name).STAGE, choose_device(device)
        for part, rows in table.items():
            index = run(stage, rows, config, where, backend)
            file = config.results / name / f"{part}.json"
            # an index must list its whole shard, so single clips only update one that exists
            if not clip or file.exists():
                write_index(file, (read_index(file) if clip else {}) | index)

    app.command(name, help=f"{(section.__doc__ or '').strip()} Writes RESULTS/{name}/CLIP.zarr.")(command)


def _demo(
    manifest: Manifest = None,
    clip: Annotated[list[str] | None, typer.Option("--clip", help="Only this clip; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Video to write. (default: the clip's source)")] = None,
    settings: Settings = None,
    sets: Sets = None,
    device: Device = "auto",
) -> None:
    """Make the demo's clips: two public-domain portraits animated with known motion."""
    from expportrait.stage import content_key

    config = configuration(manifest, None, settings, sets)
    if out is not None and len(clip or ()) != 1:
        raise UserError("--out: say which clip it is, by one --clip")
    sources = {row.clip: row.path for row in read_manifest(config.manifest) if row.dataset == "demo"}
    demo, where = load_stage("demo"), choose_device(device)
    stage = demo.STAGE
    for name in clip or sources:
        if name not in sources:
            raise UserError(f"{config.manifest} has no clip {name!r} of the data set demo, only {', '.join(sources)}")
        video = out or sources[name]
        video.parent.mkdir(parents=True, exist_ok=True)
        demo.make(name, video, SimpleNamespace(**{s: getattr(config, s) for s in stage.sections}), where)
        key = content_key("demo", stage.version, config.identity(stage.sections, name), {"clip": name})
        Path(f"{video}.key").write_text(key + "\n", "utf-8")


def _report(manifest: Manifest = None, results: Results = None, settings: Settings = None, sets: Sets = None) -> None:
    """One HTML page on the whole run: what was made, what failed and why. Writes RESULTS/report/index.html."""
    config = configuration(manifest, results, settings, sets)
    rows = read_manifest(config.manifest)
    report = load_stage("report")
    settings_shown = SimpleNamespace(**{s: getattr(config, s) for s in report.STAGE.sections})
    page = report.build(rows, config.results, settings_shown, shards(rows, config.shards))
    typer.echo(f"wrote {page}")


app.command("demo")(_demo)
for _name in PER_CLIP:
    _per_clip(_name)
app.command("report")(_report)


head = typer.Typer(no_args_is_help=True, help="Look into head models, export and convert them.")
app.add_typer(head, name="head")


@head.callback()
def _head() -> None:
    pass


if sys.argv[1:2] == ["head"]:  # importing the head loads torch
    for _name in ("info", "export", "convert"):
        head.command(_name)(getattr(import_module("expportrait.head.commands"), _name))

app.add_typer(importing, name="import")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"expportrait {expportrait.__version__}")
        raise typer.Exit


@app.callback()
def _top(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass


def main() -> None:
    """Entry point: mistakes and faults end in one sentence; a bug keeps its traceback."""
    from expportrait.faults import machine_faults

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin beside another job's
    if "OMP_NUM_THREADS" in os.environ:
        os.environ.setdefault("OPENCV_FOR_THREADS_NUM", os.environ["OMP_NUM_THREADS"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave through the clean-up
    try:
        with machine_faults():
            app()
    except (UserError, StageBroken) as error:
        sys.exit(f"expportrait: {error}")
    except MachineFault as error:
        print(f"expportrait: {error}", file=sys.stderr)
        sys.exit(3)
