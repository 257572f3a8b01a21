"""The log of a training, a row a step: written, read, and told in words."""

import csv
import io
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from expportrait.files import replace_file

Row = dict[str, float]
Rows = list[Row]
LOG_FILE = "loss.csv"
TAIL = 4096  # bytes, in which several rows have room
# Columns that a row cannot be without; others may be empty, as those that the version that wrote it did not have yet.
ALWAYS = ("step", "loss", "learning_rate", "seconds", "waiting")


def read_log(file: Path) -> Rows:
    """Rows of a log; a line that a kill cut short is dropped."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as text:
        return _rows(text)


def last_row(file: Path) -> Row | None:
    """The last one, without reading the others."""
    with suppress(FileNotFoundError, ValueError), file.open("rb") as data:
        head = data.readline()
        data.seek(max(len(head), file.stat().st_size - TAIL))
        found = _rows([head.decode(), *data.read().decode("utf-8", "replace").splitlines()])
        return found[-1] if found else None
    return None


def newest_log(home: Path) -> Path | None:
    """Of a stage's trainings in its folder, the one that was written last, finished or not."""
    logs = [*home.glob(f"work-*/{LOG_FILE}"), *home.glob(f"model/{LOG_FILE}")]
    return max(logs, key=lambda file: file.stat().st_mtime, default=None)


def _rows(lines: Iterable[str]) -> Rows:
    rows = (row for row in csv.DictReader(lines) if None not in row and None not in row.values())
    numbers = [{name: float(value) for name, value in row.items() if value} for row in rows
               if all(row.get(name) for name in ALWAYS)]  # fmt: skip
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
