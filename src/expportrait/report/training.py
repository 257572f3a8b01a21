"""The two trainings that make one thing of the whole run: status, facts, curves and figures."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from expportrait.engine.log import in_words, newest_log, read_log
from expportrait.engine.looks import LOOKS_FILE, Look, look_in_words, read_looks
from expportrait.engine.record import Outcome
from expportrait.report.charts import training_chart
from expportrait.report.looks import held_out, look_charts

NOT_RUN = Outcome("missing", None, "not run yet")
LAST = 0.05  # part of the steps that "at the end" means
FIGURES = {  # of training.json of transfer, as the page calls them
    "train": "clips trained on",
    "held_out_persons": "clips of people never trained on",
    "unseen_clips": "other clips of people trained on",
}


@dataclass
class Training:
    """What the template shows of one training."""

    stage: str
    outcome: Outcome = NOT_RUN
    facts: list[tuple[str, str]] = field(default_factory=list)
    chart: str = ""  # SVG
    caption: str = ""
    looks: list[Look] = field(default_factory=list)
    home: Path = Path()  # of the log and the looks' films
    charts: list[tuple[str, str]] = field(default_factory=list)  # of the looks: caption, SVG
    films: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)  # title, figures, film
    # of transfer: which clips, share explained, and what it rests on; or why there is no figure, and nothing
    figures: list[tuple[str, str, str]] = field(default_factory=list)


def read_trainings(results: Path) -> list[Training]:
    return [_read(results / stage, fill) for stage, fill in (("transfer", _transfer), ("generator", _generator))]


def _read(home: Path, fill: Callable[[Training, Path, dict], None]) -> Training:
    """A training that was never finished is missing; one whose files cannot be read has failed."""
    training = Training(home.name)
    try:
        try:
            index = json.loads((home / "index.json").read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            _unfinished(training, home)
            return training
        training.outcome = Outcome(index["status"], index["key"], index["why"])
        if index["status"] == "ok":
            fill(training, home / "model", index)
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError) as error:
        why = f"the files in {home.name}/model cannot be read ({error}); run the stage again"
        training = Training(home.name, Outcome("failed", None, why))
    return training


def _transfer(training: Training, model: Path, index: dict) -> None:
    about = _about(model / "training.json", index)
    curves = {name: np.array(about["curves"][name], float) for name in ("loss", "offset", "zero")}
    training.facts = [
        ("clips", str(len(index["clips"]))),
        *_size(model),
        ("steps", f"{len(curves['loss']):,}"),
        ("loss", _from_to(curves["loss"], " mm")),
    ]
    training.chart = training_chart(curves, "Loss of the transfer by step, logarithmic")
    training.caption = "mm by step; offset: the loss's first term, zero: what it would be without any offsets"
    for name, label in FIGURES.items():
        figure = about["figures"].get(name, "not available: not recorded")
        if isinstance(figure, str):
            training.figures.append((label, figure, ""))
            continue
        clips = f"{figure['clips']} clip{'s' if figure['clips'] != 1 else ''}"
        told = f"{clips}, error {figure['error']:.3g} mm, without offsets {figure['zero']:.3g} mm"
        training.figures.append((label, f"{figure['explained']:.0%}", told))


def _generator(training: Training, model: Path, index: dict) -> None:
    about = _about(model / "generator.json", index)
    kind = about["model"]
    training.facts = [
        ("model", f"{kind['preset']}, predicts {kind['prediction']}, reference by {kind['reference']}"),
        *_size(model / "transformer", model),
        ("windows", f"{about['window']} frames at {about['size']} px, of {len(index['clips'])} clips"),
        ("control maps", ", ".join(about["maps"])),
        ("codec", "{codec}, {channels} channels".format(**about["codec"])),
    ]
    _log(training, model / "loss.csv", about["steps"])
    if about.get("floor"):
        training.facts.append(("floor of a step", about["floor"]))
    training.facts.append(("control sensitivity", _sensitivity(about.get("control_sensitivity") or {})))


def _about(file: Path, index: dict) -> dict[str, Any]:
    about = json.loads(file.read_text("utf-8"))
    if about["key"] != index["key"]:
        raise ValueError(f"{file.name} and index.json are of different trainings")
    return about


def _unfinished(training: Training, home: Path) -> None:
    """How far the training has come that is still running, or was killed."""
    if log := newest_log(home):
        training.outcome = Outcome("missing", None, "not finished yet")
        _log(training, log, None)


def _log(training: Training, file: Path, steps: int | None) -> None:
    """Curves and facts from a training's log and its looks."""
    rows = read_log(file)
    loss, seconds, waiting = (np.array([row[name] for row in rows]) for name in ("loss", "seconds", "waiting"))
    training.facts.append(("steps", f"{len(rows):,}" + (f" of {steps:,}" if steps is not None else " so far")))
    if not rows:
        return
    waited = waiting.sum() / max(seconds.sum(), 1e-9)
    told = f"{_duration(seconds.sum())}, {seconds.mean():.2g} s a step, {waited:.0%} of it waiting for data"
    training.facts += [("time", told), ("loss", _from_to(loss)), (f"step {rows[-1]['step'] + 1:,}", in_words(rows[-1]))]
    training.home, training.looks = file.parent, read_looks(file.with_name(LOOKS_FILE))
    training.facts += [("last look", f"step {look['step']:,}: {look_in_words(look)}") for look in training.looks[-1:]]
    training.charts = look_charts(training.looks, len(rows))
    title = f"Loss of the {training.stage} by step, logarithmic"
    training.chart = training_chart({"loss": loss}, title, held_out(training.looks))
    kind = "flow matching loss" if training.stage == "generator" else "loss in mm"
    training.caption = f"{kind} by step, and its running mean"


def _sensitivity(found: dict[str, float]) -> str:
    if not found:
        return "not available: there is one window only, so no other control maps to compare with"
    right, wrong = found["right"], found["wrong"]
    more = f", {wrong / right - 1:+.0%}" if right > 0 else ""
    return (f"loss {right:.3g} with the right control maps, {wrong:.3g} with those of another clip or window{more}; "
            "no difference would mean that the control is ignored")  # fmt: skip


def _from_to(loss: np.ndarray, unit: str = "") -> str:
    """Means over the first and the last steps."""
    part = max(1, round(LAST * len(loss)))
    return f"{loss[:part].mean():.3g} to {loss[-part:].mean():.3g}{unit} (means of {part:,} steps)"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _size(*folders: Path) -> list[tuple[str, str]]:
    """Number of parameters, from the headers of the weights; nothing where there are none."""
    count = sum(_parameters(file) for folder in folders for file in folder.glob("*.safetensors"))
    return [("parameters", f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.2f} M")] if count else []


def _parameters(file: Path) -> int:
    """A safetensors file starts with the length of its header and the header in JSON; the weights are not read."""
    with file.open("rb") as weights:
        header = json.loads(weights.read(struct.unpack("<Q", weights.read(8))[0]))
    return sum(int(np.prod(tensor["shape"])) for name, tensor in header.items() if name != "__metadata__")
