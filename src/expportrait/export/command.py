"""``expportrait export LAYOUT``: one command a layout, with the same options."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expportrait.errors import UserError
from expportrait.manifest.clips import SPLITS, read_manifest
from expportrait.options import Manifest, Results, Sets, Settings, configuration
from expportrait.settings.config import Config

if TYPE_CHECKING:  # they load torch and zarr
    from expportrait.export.layout import Layout
    from expportrait.export.plan import Options

app = typer.Typer(
    no_args_is_help=True,
    help="Hand a finished run over in the layout of others' trainers, with checksums and a data card.",
)
LAYOUTS = {
    "videox-fun": ("videox_fun", "VideoXFun", "Target and control films with VideoX-Fun's metadata.json."),
    "diffsynth": (
        "diffsynth",
        "DiffSynth",
        "Films, control films and references with DiffSynth-Studio's metadata.csv.",
    ),
    "nemo": ("nemo", "NeMo", "Latents as NeMo Automodel's .meta files."),
    "webdataset": ("webdataset", "WebDataset", "Everything, as WebDataset's tar shards."),
    "folder": ("folder", "Folder", "Everything, a folder a clip and a table a split."),
}
NAMED = 10  # reasons that are told


def _command(name: str, module: str, class_: str, about: str) -> None:
    def command(
        out: Annotated[Path, typer.Option(help="Folder to write to: a new one, or that of an earlier such export.")],
        manifest: Manifest = None,
        results: Results = None,
        split: Annotated[
            list[str] | None, typer.Option("--split", help="train, val, test or all; repeatable. (default: train)")
        ] = None,
        only: Annotated[
            list[str] | None,
            typer.Option(
                "--only",
                help="Only clips with this value in a column of the manifest, such as licence=CC-BY-4.0; repeatable, "
                "the same column for one of several values.",
            ),
        ] = None,
        part: Annotated[
            list[str] | None,
            typer.Option(
                "--part",
                help="Only this part (docs/export.md), which each clip has to have; repeatable. "
                "(default: the layout's)",
            ),
        ] = None,
        text: Annotated[
            str, typer.Option(help="Caption of clips without one in the manifest's column text.")
        ] = "A portrait video of one person.",
        crf: Annotated[int, typer.Option(min=0, max=51, help="Of films that are encoded: less is finer.")] = 12,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what it would write, and how long it would take.")
        ] = False,
        settings: Settings = None,
        sets: Sets = None,
    ) -> None:
        from importlib import import_module

        from expportrait.export.plan import Options

        config = configuration(manifest, results, settings, sets)
        options = Options(_splits(split), tuple(only or ()), tuple(part or ()), text, crf)
        layout = getattr(import_module(f"expportrait.export.{module}"), class_)()
        for line in export(config, layout, out, options, dry_run):
            typer.echo(line)

    app.command(name, help=about)(command)


def _splits(names: list[str] | None) -> tuple[str, ...]:
    chosen = SPLITS if names and "all" in names else tuple(dict.fromkeys(names or ["train"]))
    for name in chosen:
        if name not in SPLITS:
            raise UserError(f"--split {name}: {', '.join(SPLITS)} or all is expected")
    return chosen


def export(config: Config, layout: "Layout", out: Path, options: "Options", dry_run: bool = False) -> list[str]:
    """Make the export; what is to be told of it. Raises UserError where there is nothing to hand over, or ``out`` holds
    something else."""
    from expportrait.export import card, run
    from expportrait.export.estimate import estimate
    from expportrait.export.plan import make_plan

    rows = read_manifest(config.manifest)
    plan = make_plan(rows, config, layout, options)
    run.open_export(out, layout)
    told = [f"{len(plan.samples):,} of {len(rows):,} clips"]
    reasons = Counter(why for _, why in plan.left_out).most_common()
    told += [f"  left out, {count:,}: {why}" for why, count in reasons[:NAMED]]
    told += [f"  and {len(reasons) - NAMED:,} reasons more"] if len(reasons) > NAMED else []
    told += [f"  without {name}: {count:,} clips" for name, count in sorted(plan.without.items())]
    if not plan.samples:
        raise UserError("\n".join(["nothing to hand over:", *told]))
    before = run.made_before(plan, layout, out)
    todo = [sample for sample in plan.samples if sample.clip not in before]
    if dry_run:
        takes = estimate(todo, layout, config.results)
        told.append(f"to be made: {len(todo):,} clips, {takes.frames:,.0f} frames, {takes.hours:.2f} h")
        size, time = takes.size / 1e9, takes.seconds
        took = f"{time:.0f} s" if time < 120 else f"{time / 60:.0f} min" if time < 7200 else f"{time / 3600:.1f} h"
        return [*told, f"about {size:.2f} GB and {took} of one core, estimated"]
    removed = run.remove_unwanted(plan, out)
    made = run.make_all(plan, layout, config.results, out, options, before)
    sums = layout.finish(out, made)
    sums |= dict.fromkeys(card.write_card(out, layout, made, plan, rows, config, options), "")
    run.write_sums(out, sums)
    told += layout.remarks(made)
    told += [f"removed, no longer wanted: {removed:,} clips"] if removed else []
    size = run.bytes_of(out, sums) / 1e6
    return [*told, f"made {len(todo):,}, kept {len(made) - len(todo):,}; {size:,.1f} MB in {out}",
            f"look at {out / 'README.md'}; check by `cd {out} && sha256sum -c --quiet {run.SUMS}`"]  # fmt: skip


for _name, _rest in LAYOUTS.items():
    _command(_name, *_rest)
