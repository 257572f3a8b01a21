"""The command ``people``."""

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from expportrait.errors import UserError
from expportrait.manifest.clips import Row, mixed_splits, read_manifest, shards
from expportrait.options import Manifest, Results, Sets, Settings, Shard, configuration, select
from expportrait.progress import progress, say

if TYPE_CHECKING:  # it loads torch
    from expportrait.people.findings import Line

NAMED = 5  # persons that a line names
HOME = "people"


def people(
    manifest: Manifest = None,
    results: Results = None,
    shard: Shard = None,
    same: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Mean cosine from which two names are one person. (default: 0.5)"),
    ] = None,
    different: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Mean cosine below which clips are two people. (default: 0.3)")
    ] = None,
    settings: Settings = None,
    sets: Sets = None,
) -> None:
    """Persons of the manifest, compared by the faces in finished crops: one person under two names, two under one,
    splits that leak. Writes RESULTS/people/people.csv and .jpg; with --shard only looks at those clips, for later."""
    from expportrait.people.faces import Reader, read_shard
    from expportrait.people.findings import DIFFERENT, SAME, Clips, findings, write_table
    from expportrait.people.sheet import draw, rows_of, write_sheet

    config = configuration(manifest, results, settings, sets)
    rows = read_manifest(config.manifest)
    table = {row.clip: row for row in rows}
    home, crops = config.results / HOME, config.results / "crop"
    wanted = select(config, shard, None, None) if shard else shards(rows, config.shards)
    same, different = SAME if same is None else same, DIFFERENT if different is None else different
    if same < different:
        raise UserError(f"--same {same:g} is below --different {different:g}: clips could be both")
    reader, clips, looked, faults = Reader(), Clips(), 0, []
    for name, part in progress(wanted.items(), len(wanted), HOME):
        found, new, wrong = read_shard(home / f"{name}.npz", part, crops, reader)
        clips.add(found, table, different)
        looked += new
        faults += wrong
    for fault in faults:
        say(f"people: {fault}; left out")
    total = sum(map(len, wanted.values()))
    if not clips.count:
        raise UserError(f"{crops} has no crop of the {total:,} clips of {config.manifest}: run "
                        "`snakemake --until crop` first")  # fmt: skip
    typer.echo(f"{clips.count:,} of {total:,} clips have a crop, {looked:,} of them looked at now")
    if shard:
        return
    lines = findings(clips, table, same, different)
    write_table(home / "people.csv", lines)
    write_sheet(home / "people.jpg", draw(rows_of(lines), lambda clip, t: reader.picture(crops / f"{clip}.zarr", t)))
    for text in (*told(lines), *_leaks_by_name(rows)):
        typer.echo(text)
    typer.echo(f"wrote {home / 'people.csv'} and people.jpg")


def told(lines: list["Line"]) -> list[str]:
    """The findings in sentences, which name the first few."""
    by_group: dict[object, list[Line]] = defaultdict(list)
    for line in lines:
        if line.finding == "same":
            by_group[line.group].append(line)
    leaking = {group: found for group, found in by_group.items() if found[0].leak}

    def groups(of: dict[object, list["Line"]]) -> str:
        return _few([" = ".join(dict.fromkeys(line.person for line in found[:NAMED])) for found in of.values()])

    texts = [f"probably one person under several names: {len(by_group):,}{groups(by_group)}"]
    if leaking:
        texts.append(f"of these in several splits, which leaks: {len(leaking):,}{groups(leaking)}")
    for finding, what in (("different", "clips that are probably not the person that they are named for"),
                          ("within", "clips with another face in some frames"),
                          ("unseen", "clips without a face that is recognised")):  # fmt: skip
        found = [line.clip for line in lines if line.finding == finding]
        texts.append(f"{what}: {len(found):,}{_few(found)}")
    return texts


def _leaks_by_name(rows: list[Row]) -> list[str]:
    mixed = mixed_splits(rows)
    return [f"persons whose own clips are in several splits: {len(mixed):,}{_few(mixed)}"] if mixed else []


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f" ({', '.join(names[:NAMED])}{more})" if names else ""
