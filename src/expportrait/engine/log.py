"""The log of a training, a row a step: written, read, and told in words."""

import csv
import io
from pathlib import Path

from expportrait.files import replace_file

Row = dict[str, float]
Rows = list[Row]
LOG_FILE = "loss.csv"
# Columns that a row cannot be without; others may be empty, as those that the version that wrote it did not have yet.
ALWAYS = ("step", "loss", "learning_rate", "seconds", "waiting")


def read_log(file: Path) -> Rows:
    """Rows of a log; a line that a kill cut short is dropped."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as text:
        rows = [row for row in csv.DictReader(text) if None not in row.values() and all(row[name] for name in ALWAYS)]
    numbers = [{name: float(value) for name, value in row.items() if value} for row in rows]
    return [row | {"step": int(row["step"])} for row in numbers]


def write_log(file: Path, rows: Rows) -> None:
    """Where a row has no value, an empty cell; never seen half-written."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*dict.fromkeys(name for row in (rows[-1], *rows) for name in row)])
    writer.writeheader()
    writer.writerows(rows)
    replace_file(file, text.getvalue().encode())


def shares(row: Row) -> Row:
    """Which part of the step's seconds went by waiting for data, and which for all that is not the transformer, that
    waiting among it."""
    parts = ((f"{name}_share", row[name]) for name in ("waiting", "other") if name in row)
    return {name: seconds / max(row["seconds"], 1e-9) for name, seconds in parts}


def in_short(row: Row) -> str:
    """What a bar has room for, beside loss and seconds; empty where the row does not have it."""
    if "floor" not in row:
        return ""
    part = shares(row)
    return (f", {row['floor']:.3g}x floor, {row['memory']:.3g} GiB, {part['waiting_share']:.0%} waiting, "
            f"{part['other_share']:.0%} not DiT")  # fmt: skip


def in_words(row: Row) -> str:
    """All figures of a row."""
    part = shares(row)
    text = [f"loss {row['loss']:.4g}"]
    if "gradient" in row:
        text.append(f"gradient {row['gradient']:.3g}")
    text.append(f"learning rate {row['learning_rate']:.3g}")
    text.append(f"{row['seconds']:.3g} s a step")
    if "tokens" in row:
        text.append(f"{row['tokens']:,.0f} tokens, {row['tflops']:.3g} TFLOP/s a process, {row['floor']:.3g} times the "
                    f"floor, {row['memory']:.3g} GiB")  # fmt: skip
    text.append(f"{part['waiting_share']:.1%} of it waiting for data")
    if "other_share" in part:
        text.append(f"{part['other_share']:.1%} not the transformer")
    return ", ".join(text)
