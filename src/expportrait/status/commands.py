"""The commands ``status``, ``watch``, ``retry`` and ``prune``."""

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from expportrait.errors import UserError
from expportrait.options import Manifest, Pairs, Results, Sets, Settings, configuration
from expportrait.settings.config import Config
from expportrait.stages import recorded

Stages = Annotated[list[str] | None, typer.Option("--stage", help="Only this stage; repeatable.")]
Clips = Annotated[list[str] | None, typer.Option("--clip", help="Only this clip, and its pairs; repeatable.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def status(
    manifest: Manifest = None,
    results: Results = None,
    pairs: Pairs = None,
    clip: Annotated[
        str | None, typer.Option(help="The story of this clip or pair, with its logs and pictures.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every array of every store too: as long as the disk needs for that.")
    ] = False,
    stage: Annotated[
        list[str] | None, typer.Option("--stage", help="With --deep: read these only; repeatable.")
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="What was spent instead: hours, memory, and rules that ask for too much.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    settings: Settings = None,
    sets: Sets = None,
) -> None:
    """How many clips are ok, failed, skipped, stale or missing in each stage, and what a run would do."""
    from expportrait.engine.heartbeat import read_heartbeats
    from expportrait.status.costs import bill, bill_as_data
    from expportrait.status.story import story
    from expportrait.status.survey import survey
    from expportrait.status.text import as_data, overview
    from expportrait.status.training import trainings, trainings_data
    from expportrait.status.watch import at_work_now

    config = configuration(manifest, results, settings, sets, pairs)
    if cost:
        typer.echo(json.dumps(bill_as_data(config), indent=1) if as_json else bill(config))
        return
    _known(stage, [*recorded(config)])
    seen = survey(config, deep, stage or ())
    if clip is not None:
        typer.echo(story(seen, clip))
    else:
        if as_json:
            typer.echo(json.dumps(as_data(seen) | {"trainings": trainings_data(seen)}, indent=1))
            return
        parts = overview(seen), at_work_now(read_heartbeats(seen.config.results)), trainings(seen)
        typer.echo("\n".join(part for part in parts if part))


def watch(
    manifest: Manifest = None,
    results: Results = None,
    pairs: Pairs = None,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 5,
    once: Annotated[bool, typer.Option("--once", help="Look once, write the page, and end.")] = False,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Print nothing: for a run without a terminal.")
    ] = False,
    settings: Settings = None,
    sets: Sets = None,
) -> None:
    """The run while it runs: jobs at work, pace, time left. Keeps RESULTS/report/status.html up to date."""
    from expportrait.engine.heartbeat import Pulse, read_heartbeats
    from expportrait.status.survey import survey
    from expportrait.status.watch import screen, write_page

    config = configuration(manifest, results, settings, sets, pairs)
    terminal, pulse = sys.stdout.isatty(), Pulse()
    while True:
        began = time.monotonic()
        seen = survey(config)
        beats = pulse.feel(read_heartbeats(config.results))
        text = screen(seen, beats)
        page = write_page(seen, beats, text, every)
        # from the top left corner, each line to its end, then the rest of the screen
        shown = (
            "\x1b[H" + "".join(f"{line}\x1b[K\n" for line in text.split("\n")) + "\x1b[J" if terminal else f"{text}\n"
        )
        if not page_only:
            typer.echo(f"{shown}\n{page}", nl=True)
        if once:
            return
        try:  # looking must not become the machine's main work
            time.sleep(max(every, 10 * (time.monotonic() - began)))
        except KeyboardInterrupt:
            return


def last_page(config: Config) -> Path:
    """RESULTS/report/status.html as it is at the end of a run, with or without somebody watching."""
    from expportrait.engine.heartbeat import read_heartbeats
    from expportrait.status.survey import survey
    from expportrait.status.watch import screen, write_page

    seen, beats = survey(config), read_heartbeats(config.results)
    return write_page(seen, beats, screen(seen, beats), 60)


def retry(
    manifest: Manifest = None,
    results: Results = None,
    pairs: Pairs = None,
    stage: Stages = None,
    reason: Annotated[str | None, typer.Option(help="Only failures whose reason has this text in it.")] = None,
    clip: Clips = None,
    everything: Annotated[bool, typer.Option("--all", help="All failures.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also damaged stores: reads those of --stage, or all.")] = False,
    dry_run: DryRun = False,
    settings: Settings = None,
    sets: Sets = None,
) -> None:
    """Forget failures, so that the next run tries them again."""
    from expportrait.status.survey import survey
    from expportrait.status.tidy import check_idle, to_retry
    from expportrait.status.tidy import retry as forget

    if not (stage or reason or clip or everything or deep):
        raise UserError("retry: say which failures, by --stage, --reason or --clip, or --all")
    config = configuration(manifest, results, settings, sets, pairs)
    _known(stage, [*recorded(config)])
    seen = survey(config, deep, stage or ())
    chosen = to_retry(seen, stage or (), reason or "", clip or ())
    counts = Counter(name for name, _, _ in chosen)
    if not chosen:
        typer.echo("No failure is like that; `expportrait status` lists them.")
        return
    said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    if dry_run:
        typer.echo(f"{said} would be tried again")
        return
    check_idle(seen.config.results)
    forget(seen, chosen)
    typer.echo(f"{said} will be tried again by the next run: snakemake")


def prune(
    manifest: Manifest = None,
    results: Results = None,
    pairs: Pairs = None,
    stale: Annotated[
        bool, typer.Option("--stale", help="Also stores that were made from other settings, rows or parents.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    settings: Settings = None,
    sets: Sets = None,
) -> None:
    """Remove stores of clips and pairs that are no more, and what killed jobs and earlier trainings left behind."""
    from expportrait.status.survey import survey
    from expportrait.status.tidy import check_idle, remove, waste

    seen = survey(configuration(manifest, results, settings, sets, pairs))
    things = waste(seen, stale)
    if not things:
        typer.echo(f"Nothing in {seen.config.results} is to be removed.")
        return
    sizes: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for thing in things:
        sizes[thing.why] += thing.bytes
        numbers[thing.why] += 1
        if dry_run:
            typer.echo(f"{thing.bytes / 1e6:10.1f} MB  {thing.path}")
    for why, size in sizes.most_common():
        typer.echo(f"{numbers[why]:,} of {size / 1e9:.3f} GB: {why}")
    if dry_run:
        return
    check_idle(seen.config.results)
    if not yes:
        typer.confirm(f"Remove {len(things):,} things in {seen.config.results} for good?", abort=True)
    remove(things)
    typer.echo(f"removed {sizes.total() / 1e9:.3f} GB")


def _known(names: list[str] | None, known: list[str]) -> None:
    for name in names or ():
        if name not in known:
            raise UserError(f"there is no stage {name!r}, only {', '.join(known)}")
