"""The rows of a run as means over its pairs, and as a page in Markdown beside the paper's published rows."""

from collections import Counter

from expportrait.metrics import floor, published
from expportrait.metrics.bootstrap import interval
from expportrait.metrics.pair import METHODS, METRICS

MODES = ("self", "cross")
EXTRA = ("jaw", "gaze")
SHOWN = {"self": (*published.SELF, *EXTRA), "cross": (*published.CROSS, *EXTRA)}
COLUMNS = [(mode, name) for mode in MODES for name in SHOWN[mode]]
BETTER = {"psnr": "↑", "ssim": "↑", "csim": "↑"}  # the others are better when lower
DIGITS = {"psnr": 2}
OWN = (
    "appearance alone: the portrait's own colours moved by the driven head, without a network. copy reference: the "
    "portrait held still, so what there is to gain. noise floor: the driver's frames encoded again "
    f"(H.264, crf {floor.CRF}) against themselves, in cross pairs too, so a difference below it is none. jaw, gaze: "
    "this project's own columns, since its AED leaves both out. [low, high]: 95 % bootstrap interval of the mean over "
    "the pairs, where two have a number; pairs that share a person are fewer than they look. –: no number, see the "
    "reasons below."
)


def summary(rows: list[dict]) -> list[dict]:
    """Method by method: source ("this run" or "published"), and for self and cross metric -> mean over the pairs that
    have a number (published rows: the number), with ``intervals`` as metric -> low and high end of that mean's 95 %
    interval, where there are two such pairs, ``pairs`` as metric -> how many there are, and ``of`` how many pairs."""
    table = []
    for method in METHODS:
        line: dict = {"method": method, "source": "this run", "intervals": {}, "pairs": {}, "of": {}}
        for mode in MODES:
            chosen = [row for row in rows if row["method"] == method and row["mode"] == mode]
            numbers = {name: [row[name] for row in chosen if row[name] is not None] for name in METRICS}
            line[mode] = {name: sum(values) / len(values) for name, values in numbers.items() if values}
            ends = {name: interval(values) for name, values in numbers.items()}
            line["intervals"][mode] = {name: found for name, found in ends.items() if found}
            line["pairs"][mode] = {name: len(values) for name, values in numbers.items()}
            line["of"][mode] = len(chosen)
        table.append(line)
    return table + [{**row, "source": "published"} for row in published.ROWS]


def markdown(rows: list[dict], means: list[dict]) -> str:
    """The page: ``means``, which are the rows' ``summary``, beside the published ones, each pair, why numbers are
    missing, and what measured them."""
    pairs = {mode: len({row["pair"] for row in rows if row["mode"] == mode}) for mode in MODES}
    what = f"Means over {pairs['self']} self and {pairs['cross']} cross pairs of this run"
    lines = ["# Evaluation", "", f"{what}, beside published rows, which were not measured here.", "", *_means(means)]
    lines += ["", f"- {published.PROTOCOL}", f"- {published.WARNING}", f"- {OWN}"]
    return "\n".join([*lines, "", "## Pairs", "", *_pairs(rows), *_reasons(rows), *_backends(rows)]) + "\n"


def _means(means: list[dict]) -> list[str]:
    lines = _head(["method", "source", *(f"{mode} {title(name)}" for mode, name in COLUMNS)])
    for line in means:
        cells = []
        for mode, name in COLUMNS:
            cell = number(name, line[mode].get(name), line["source"] == "published")
            if ends := between(line, mode, name):
                cell += f" {ends}"
            if some := of_some(line, mode, name):
                cell += f" ({some} pairs)"
            cells.append(cell)
        lines.append(_line([line["method"], line["source"], *cells]))
    return lines


def between(line: dict, mode: str, name: str) -> str:
    """The interval of a mean of ``summary``, as it is written; empty without one."""
    ends = line.get("intervals", {}).get(mode, {}).get(name)
    return f"[{number(name, ends[0])}, {number(name, ends[1])}]" if ends else ""


def of_some(line: dict, mode: str, name: str) -> str:
    """Of how many pairs a mean of ``summary`` is, where it is not of all."""
    if line["source"] == "published" or not 0 < line["pairs"][mode][name] < line["of"][mode]:
        return ""
    return f"{line['pairs'][mode][name]} of {line['of'][mode]}"


def _pairs(rows: list[dict]) -> list[str]:
    if not rows:
        return ["There are no pairs: give the manifest clips of the split test, or name pairs in pairs.csv."]
    about = ["pair", "mode", "method", "size, px", "frames", "without a face"]
    lines = _head([*about, *map(title, METRICS), "in the training"])
    for row in rows:
        missing = f"{row['no_face']['result']} result, {row['no_face']['driver']} driver" if row["no_face"] else "–"
        numbers = [number(name, row[name]) for name in METRICS]
        size, frames = row["size"] or "–", row["frames"] or "–"
        trained = "–" if row["trained_on"] is None else ", ".join(row["trained_on"]) or "neither"
        lines.append(_line([row["pair"], row["mode"], row["method"], size, frames, missing, *numbers, trained]))
    return lines


def reasons(rows: list[dict]) -> list[tuple[str, int, str]]:
    """Why numbers are missing: the metrics, in how many rows, the reason."""
    counts = Counter((why, name) for row in rows for name, why in row["reasons"].items())
    names: dict[tuple[str, int], list[str]] = {}
    for (why, name), count in counts.items():
        names.setdefault((why, count), []).append(name)
    return [(", ".join(map(label, sorted(of, key=METRICS.index))), count, why) for (why, count), of in names.items()]


def backends(rows: list[dict]) -> list[tuple[str, str]]:
    """Metric and what measured it."""
    kinds: dict[tuple[str, str], None] = {}
    for row in rows:
        for name, about in row["backends"].items():
            text = "; ".join(f"{key}: {_told(value)}" for key, value in about.items() if key not in ("fit", "files"))
            kinds[name, text] = None
    return [(label(name), text) for name, text in sorted(kinds, key=lambda kind: METRICS.index(kind[0]))]


def _told(value: object) -> str:
    return ", ".join(f"{of} {one}" for of, one in value.items()) if isinstance(value, dict) else str(value)


def _reasons(rows: list[dict]) -> list[str]:
    lines = [f"- {names} ({count} of {len(rows)} rows): {why}." for names, count, why in reasons(rows)]
    return ["", "## Why numbers are missing", "", *lines] if lines else []


def _backends(rows: list[dict]) -> list[str]:
    lines = [f"- {name}: {text}." for name, text in backends(rows)]
    files = "All of it, row by row: `table.json`; frame by frame: `frames.csv`."
    return ["", "## What measured them", "", *lines, "", files] if lines else []


def label(name: str) -> str:
    """A metric's name as it is written."""
    return name if name in EXTRA else name.upper()


def title(name: str) -> str:
    """A metric's name with an arrow to where it is better."""
    return f"{label(name)} {BETTER.get(name, '↓')}"


def number(name: str, value: float | None, exact: bool = False) -> str:
    """``exact``: with the digits of the published rows."""
    if value is None:
        return "–"
    places = {"psnr": 4}.get(name, 5) if exact else DIGITS.get(name, 4)
    return f"{value:.{places}f}"


def _head(cells: list[str]) -> list[str]:
    return [_line(cells), _line(["---"] * len(cells))]


def _line(cells: list) -> str:
    return f"| {' | '.join(map(str, cells))} |"
