"""What was seen at each look at a training: rows of ``looks.csv``, beside its log. Loads no torch."""

import csv
from pathlib import Path
from typing import Any

from expportrait.engine.log import write_log

LOOKS_FILE = "looks.csv"
TEXTS = ("clip", "of", "film", "panels")  # columns that are no numbers
# Quarters of the noise levels 0..1: column -> its ends
NOISE = {f"loss_{low}_{low + 25}": (low / 100, (low + 25) / 100) for low in (0, 25, 50, 75)}
HELD_OUT, TRAINED_ON = "held-out", "training"  # what may stand under ``of``

Look = dict[str, Any]


def read_looks(file: Path) -> list[Look]:
    """By step, without the cells that are empty; a line that was cut short is dropped."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as text:
        rows = [row for row in csv.DictReader(text) if None not in row.values() and row["step"]]
    looks = [{name: value if name in TEXTS else float(value) for name, value in row.items() if value} for row in rows]
    return sorted((look | {"step": int(look["step"])} for look in looks), key=lambda look: look["step"])


def write_looks(file: Path, looks: list[Look]) -> None:
    """As the log is written, which has rows of the same kind."""
    write_log(file, looks)


def look_in_words(look: Look) -> str:
    """Its figures, such as it has them."""
    parts = [f"{look['of']} loss {look['loss']:.4g}"]
    if "wrong" in look:
        parts.append(f"{sensitivity(look):+.0%} with other control maps")
    forms = {"psnr": "PSNR {:.2f} dB", "aed": "AED {:.4f}", "csim": "CSIM {:.3f}"}
    return ", ".join(parts + [form.format(look[name]) for name, form in forms.items() if name in look])


def sensitivity(look: Look) -> float:
    """By which part of it the loss grows where the control maps are of another clip or window."""
    return look["wrong"] / max(look["right"], 1e-9) - 1
