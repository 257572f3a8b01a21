"""The command line's options, and what they mean: settings, device, and the rows to work on."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from expportrait.errors import MachineFault, UserError
from expportrait.manifest.clips import Row, read_manifest, shards
from expportrait.manifest.pairs import pair_shards, read_pairs
from expportrait.settings.config import SECTIONS, Config
from expportrait.settings.files import merge, overlay, read_config, read_yaml

Manifest = Annotated[Path | None, typer.Option(help="Table of the clips, one a row. (default: data_manifest.csv)")]
Results = Annotated[Path | None, typer.Option(help="Folder of all results. (default: results)")]
Shard = Annotated[list[str] | None, typer.Option(help="Only the clips of this shard, such as hdtf-0003; repeatable.")]
Shards = Annotated[
    int | None, typer.Option("--shards", min=1, help="Number of shards of its data set. (default: configured)")
]
Clips = Annotated[list[str] | None, typer.Option("--clip", help="Only this clip; repeatable.")]
Pairs = Annotated[
    Path | None, typer.Option(help="Table target,driver; . for the manifest's default pairs. (default: configured)")
]
Pair = Annotated[list[str] | None, typer.Option(help="Only this pair, <target>__<driver> or its own name; repeatable.")]
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
    pairs: Path | None = None,
) -> Config:
    """config.yaml and the manifest's overlay, or ``settings`` instead of both; then the single settings."""
    given = {name: str(value) for name, value in (("manifest", manifest), ("results", results)) if value is not None}
    if pairs is not None:
        given["pairs"] = None if pairs == Path() else str(pairs)
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
    return layered(layers, sets, given)


def layered(layers: list[tuple[str, dict]], sets: list[str] | None, given: dict) -> Config:
    """The settings of ``layers`` (``read_config``), of the single ones ``sets``, and of what the command line has
    ``given`` in options of its own; later ones win."""
    singly: dict = {}
    for text in sets or ():
        name, equals, value = text.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot and key):
            raise UserError(f"--set {text}: write it as section.setting=value, such as proxy.batch=8")
        said = _parse(value, f"--set {name}")
        group, dot, below = key.partition(".")
        grouped = {group: {below: said}} if dot and section in SECTIONS else {key: said}
        singly = merge(singly, {section: grouped})
    return read_config(*layers, ("--set", singly), ("the command line", given))


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid JSON or YAML: {getattr(error, 'problem', error)}") from None


def choose_device(device: str) -> str:
    """Resolve auto. Raises MachineFault when a GPU is asked for and there is none."""
    if device == "cpu":  # nothing is to be found out
        return device
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
    return _narrow(
        rows, shards(rows, _counts(config, names, number)), names, clips, f"{config.manifest} has no", "clip"
    )


def select_pairs(
    config: Config, names: list[str] | None = None, number: int | None = None, pairs: list[str] | None = None
) -> dict[str, list[Row]]:
    """The same for pairs: shard -> rows of ``pairs.read_pairs``."""
    rows = read_pairs(config.pairs, read_manifest(config.manifest))
    missing = f"{config.pairs} has no" if config.pairs else "there is no"
    return _narrow(rows, pair_shards(rows, _counts(config, names, number)), names, pairs, missing, "pair")


def _counts(config: Config, names: list[str] | None, number: int | None) -> dict[str, int]:
    if number is None:
        return config.shards
    if not names:
        raise UserError("--shards: say which shard is meant, by --shard")
    return config.shards | {name.rpartition("-")[0]: number for name in names}


def _narrow(
    rows: list[Row],
    table: dict[str, list[Row]],
    names: list[str] | None,
    members: list[str] | None,
    missing: str,
    noun: str,
) -> dict[str, list[Row]]:
    """Raises UserError for a shard or a member that is not there."""
    for wanted, known, what in ((names, [*table], "shard"), (members, [row.clip for row in rows], noun)):
        for name in wanted or ():
            if name not in known:
                close = get_close_matches(name, known, n=1) or known[:1]
                raise UserError(f"{missing} {what} {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    table = {name: table[name] for name in names or table}
    if members:
        table = {name: [row for row in chosen if row.clip in members] for name, chosen in table.items()}
    return {name: chosen for name, chosen in table.items() if chosen}
