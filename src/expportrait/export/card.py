"""The data card: ``README.md`` with the YAML head that dataset hubs read, a picture of the figures, and the tables
behind it: the exported rows of the manifest, what was left out and why, and the settings.

Nothing of it depends on when or where it was made: equal exports have equal cards.
"""

import csv
import io
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import expportrait
from expportrait.engine.record import read_record
from expportrait.export.facts import FIGURES
from expportrait.export.layout import HOME, Layout, Made, as_csv, as_json, by_split, columns_of, write
from expportrait.export.parts import PARTS
from expportrait.export.plan import Options, Plan, cell
from expportrait.files import replace_file, sha256
from expportrait.machine import writing
from expportrait.manifest.clips import COLUMNS, Row, mixed_splits
from expportrait.settings.config import Config

LICENCE = ("licence", "license")  # the columns that hubs' field license is taken from
HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
VALUES = 12  # of a column that are told one by one
TOGETHER = (
    "Films have one frame a frame of the clip, in order, so that films of a clip go together by number. Metres, "
    "radians and axes are those of the project's docs/artifacts.md."
)
FILES = ("README.md", "figures.png", "manifest.csv", "left_out.csv", "settings.json")


def write_card(
    out: Path, layout: Layout, made: Sequence[Made], plan: Plan, rows: list[Row], config: Config, options: Options
) -> list[str]:
    """The card's files, as paths in the export."""
    columns = [name for name in (*COLUMNS, "text", *columns_of(made))
               if name in COLUMNS or any(name in one.sample.row.extra for one in made)]  # fmt: skip
    table = [{name: cell(one.sample.row, name) for name in columns} for one in made]
    digests = sorted({one.facts["settings"] for one in made})
    settings = {digest: read_record(out / HOME / "settings" / f"{digest}.json") for digest in digests}
    with writing(out / "figures.png"):
        replace_file(out / "figures.png", figures(made))
    write(out, "manifest.csv", as_csv(columns, table))
    left_out = ({"clip": clip, "why": why} for clip, why in plan.left_out)
    write(out, "left_out.csv", as_csv(("clip", "why"), left_out))
    write(out, "settings.json", as_json(settings))
    parts = [_head(layout, made), _title(layout, made), _people(made, rows, config), _columns(made)]
    parts += [_contents(made), _quality(made), _left_out(plan), _how(layout, made, config, options)]
    write(out, "README.md", "\n\n".join(parts) + "\n")
    return list(FILES)


def _head(layout: Layout, made: Sequence[Made]) -> str:
    head: dict[str, Any] = {"pretty_name": f"{', '.join(_datasets(made))}, by ExpPortrait-Pipeline"}
    licences = {_licence(one.sample.row) for one in made}
    known = licences - {""}
    if len(known) == 1 and len(licences) == 1:
        head["license"] = known.pop().lower()
    elif known:
        head |= {"license": "other", "license_name": "per-clip", "license_link": "manifest.csv"}
    else:
        head["license"] = "unknown"
    head["size_categories"] = [next((name for most, name in SIZES if len(made) < most), "n>1M")]
    head["tags"] = ["video", "portrait", "face", "expportrait", layout.name]
    if lines := layout.split_lines():
        files = [{"split": HUB_SPLITS[split], "path": f"{split}/{lines['ending']}"} for split in by_split(made)]
        head["configs"] = [{"config_name": "default", "data_files": files}]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---"


def _datasets(made: Sequence[Made]) -> list[str]:
    return sorted({one.sample.row.dataset for one in made})


def _licence(row: Row) -> str:
    return next((row.extra[name] for name in LICENCE if row.extra.get(name)), "")


def _hours(made: Iterable[Made]) -> float:
    return sum(one.facts["frames"] / one.facts["fps"] for one in made) / 3600


def _title(layout: Layout, made: Sequence[Made]) -> str:
    sizes = Counter((one.facts["width"], one.facts["height"]) for one in made)
    told = ", ".join(f"{w} × {h} px" for (w, h), _ in sizes.most_common(3))
    frames, persons = sum(one.facts["frames"] for one in made), len({one.sample.row.person for one in made})
    return "\n\n".join([
        f"# {', '.join(_datasets(made))}",
        f"Portrait clips with fitted heads: {_number(len(made), 'clip')} of {_number(persons, 'person')}, "
        f"{_hours(made):.2f} hours, {_number(frames, 'frame')} of {told}.",
        " ".join([f"Layout `{layout.name}`.", layout.about, *layout.remarks(made)]),
    ])  # fmt: skip


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _people(made: Sequence[Made], rows: list[Row], config: Config) -> str:
    lines = ["## People and splits", "", "| split | clips | persons | hours |", "| --- | --- | --- | --- |"]
    for split, of in by_split(made).items():
        lines.append(f"| {split} | {len(of):,} | {len({one.sample.row.person for one in of}):,} | {_hours(of):.2f} |")
    mixed = mixed_splits(rows)
    leaks = "No person of the whole manifest stands in more than one split, by the manifest's names."
    if mixed:
        leaks = f"In more than one split of the whole manifest: {_number(len(mixed), 'person')} ({_few(mixed)})."
    return "\n".join([*lines, "", leaks, _looked(config)])


def _looked(config: Config) -> str:
    file = config.results / "people" / "people.csv"
    if not file.exists():
        return "Whether two names are one person was not looked for (`expportrait people`)."
    with file.open(encoding="utf-8", newline="") as text:
        lines = list(csv.DictReader(text))
    groups = {line["group"] for line in lines if line["finding"] == "same"}
    leaking = {line["group"] for line in lines if line["finding"] == "same" and line["leak"]}
    return (
        f"By their faces (`expportrait people`) {_number(len(groups), 'person')} probably under several names, "
        f"{len(leaking):,} of them in several splits."
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:VALUES]) + (f" and {len(names) - VALUES:,} more" if len(names) > VALUES else "")


def _columns(made: Sequence[Made]) -> str:
    """Licence, source, consent, camera and whatever else the manifest says."""
    lines = ["## Papers", ""]
    columns = columns_of(made)
    if not columns:
        return "\n".join([*lines, "The manifest says nothing of licence, source or consent: it has no such columns."])
    lines += [
        "What the manifest says of the clips; clip by clip in `manifest.csv`.",
        "",
        "| column | values |",
        "| --- | --- |",
    ]
    for column in columns:
        values = Counter(one.sample.row.extra.get(column, "") for one in made)
        told = ", ".join(f"{value or '(empty)'}: {count:,}" for value, count in sorted(values.items()))
        told = f"{len(values):,} different ones" if len(values) > VALUES else told
        lines.append(f"| {_cell(column)} | {_cell(told)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _contents(made: Sequence[Made]) -> str:
    lines = ["## What is in it", "", "| part | clips | MB | |", "| --- | --- | --- | --- |"]
    clips, bytes_ = Counter(), Counter()
    for one in made:
        clips.update({name.partition(".")[0] for name in one.files})
        for name, of in one.files.items():
            bytes_[name.partition(".")[0]] += of["bytes"]
    for name, part in PARTS.items():
        if name in clips:
            lines.append(f"| `{name}` | {clips[name]:,} | {bytes_[name] / 1e6:,.1f} | {part.about} |")
    return "\n".join([*lines, "", TOGETHER])


def _quality(made: Sequence[Made]) -> str:
    lines = ["## Figures", "", "![histograms of the figures, by clips](figures.png)", "",
             "| figure | clips | 5 % | median | 95 % |", "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, about in FIGURES.items():
        values = _values(made, name)
        if len(values):
            low, middle, high = np.percentile(values, (5, 50, 95))
            lines.append(f"| {about} | {len(values):,} | {low:.3g} | {middle:.3g} | {high:.3g} |")
    return "\n".join(lines)


def _values(made: Sequence[Made], name: str) -> np.ndarray:
    return np.array([one.facts["figures"][name] for one in made if name in one.facts["figures"]])


def figures(made: Sequence[Made]) -> bytes:
    """A histogram of each figure over the clips, as a PNG; and of their lengths."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = {"length, s": np.array([one.facts["frames"] / one.facts["fps"] for one in made])}
    shown |= {about: values for name, about in FIGURES.items() if len(values := _values(made, name))}
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    width, height = 3.6 * columns, 2.2 * rows  # inches; matplotlib's own layouts take longer than all the rest
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.45 / width, right=1 - 0.15 / width, bottom=0.3 / height, top=1 - 0.3 / height,
                           wspace=0.45 / 2.85, hspace=0.55 / 1.65)  # fmt: skip
    for place, (about, values) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.hist(values, bins=min(30, max(5, len(values))), color="#4a6fa5")
        axes.set_title(about, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.yaxis.get_major_locator().set_params(integer=True)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100, metadata={"Software": None})
    return data.getvalue()


def _left_out(plan: Plan) -> str:
    lines = ["## What was left out", ""]
    if not plan.left_out:
        return "\n".join([*lines, "No clip of the manifest."])
    reasons = Counter(why for _, why in plan.left_out)
    lines += [
        f"{len(plan.left_out):,} clips of the manifest; one by one in `left_out.csv`.",
        "",
        "| clips | why |",
        "| --- | --- |",
    ]
    lines += [
        f"| {count:,} | {_cell(why)} |"
        for why, count in sorted(reasons.items(), key=lambda of: (-of[1], of[0]))[:VALUES]
    ]
    return "\n".join(lines)


def _how(layout: Layout, made: Sequence[Made], config: Config, options: Options) -> str:
    stages = sorted({(stage, version) for one in made for stage, version in one.facts["stages"].items()})
    software = sorted({item for one in made for item in one.facts["software"].items()})
    networks = sorted({item for one in made for item in one.facts["networks"].items()})
    manifest = config.manifest.name  # where it lies is nobody's business
    command = f"expportrait export {layout.name} --out DIR --manifest {manifest} --results RESULTS"
    for name, values in (("split", options.splits), ("only", options.only), ("part", options.parts)):
        command += "".join(f" --{name} {shlex.quote(value)}" for value in values)
    command += f" --text {shlex.quote(options.text)} --crf {options.crf}"
    lines = ["## How it was made", ""]
    lines += [f"By ExpPortrait-Pipeline {expportrait.__version__}, from the manifest `{manifest}` with the sha256"]
    lines += [f"`{sha256(config.manifest)}`:", ""]
    lines += [
        f"    snakemake --config manifest={manifest} results=RESULTS --until control latents",
        f"    {command}",
        "",
    ]
    lines += ["The settings of every stage are in `settings.json`, by a hash that each clip's record names.", ""]
    lines += [f"Stages and their versions: {_pairs(stages)}. Software: {_pairs(software)}.", ""]
    if networks:
        lines += ["| network or model | sha256 |", "| --- | --- |"]
        lines += [*(f"| {_cell(name)} | `{sum_}` |" for name, sum_ in networks), ""]
    return "\n".join([*lines, "Every file's sha256 is in `SHA256SUMS` (`sha256sum -c --quiet SHA256SUMS`)."])


def _pairs(of: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in of) or "unknown"
