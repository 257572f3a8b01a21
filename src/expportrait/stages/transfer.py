"""Stage ``transfer``: train the expression transfer on all fitted clips of the split train (docs/transfer.md)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from expportrait.engine.heartbeat import Heartbeat, training
from expportrait.engine.record import state, write_json
from expportrait.engine.training import LOG_FILE
from expportrait.errors import UserError
from expportrait.estimators.head_landmarks import load_head
from expportrait.manifest.clips import Row
from expportrait.progress import progress, say
from expportrait.settings.config import Config
from expportrait.stages.contracts import contract, transfer_key
from expportrait.transfer.data import FittedClips
from expportrait.transfer.model import Transfer, TransferConfig
from expportrait.transfer.train import evaluate, train

STAGE = replace(contract("transfer"), version=1)


def run(rows: list[Row], config: Config, device: str) -> Path:
    """Bring results/transfer up to date; returns its index.json, written last.

    Nothing is trained again when model/ was made with the same key. A run that was killed goes on from its last
    checkpoint, kept in work-<key>/. Raises UserError where no clip can be used.
    """
    with training(config.results, STAGE.name, config.transfer.steps) as beat:
        return _run(rows, config, device, beat)


def _run(rows: list[Row], config: Config, device: str, beat: Heartbeat) -> Path:
    home, s = config.results / STAGE.name, config.transfer
    fitted = {row.clip: state(config.results / "proxy", row.clip) for row in sorted(rows, key=lambda row: row.clip)}
    fitted = {clip: outcome.key for clip, outcome in fitted.items() if outcome.status == "ok"}
    groups = split(rows, set(fitted))
    chosen = {clip: fitted[clip] for clip in groups.pop("train")}
    if not chosen:
        raise UserError(f"no clip of the split train has a fitted head in {config.results / 'proxy'}: see why in that "
                        "stage's indexes, or in the report")  # fmt: skip
    key = transfer_key(config, chosen)
    evaluated = {clip: fitted[clip] for clips in groups.values() for clip in clips}
    done = {"status": "ok", "key": key, "why": "", "clips": chosen, "evaluated": evaluated}
    index = home / "index.json"
    if finished(home) == (key, evaluated):
        say(f"transfer: {home / 'model'} is up to date")
        write_json(index, done)  # a run of the workflow deletes it first
        return index
    head = load_head(*config.head.model_dump().values())

    def read(names: list[str]) -> FittedClips:
        paths = {clip: config.results / "proxy" / f"{clip}.zarr" for clip in names}
        return FittedClips(paths, head, progress(names, len(names), "transfer: read"))

    clips = read([*chosen])
    if not clips.names:
        raise UserError("transfer learns from motion, and every fitted clip of the split train has a single frame")
    model = build(clips, config, head.sha256)
    count = sum(p.numel() for p in model.parameters())
    say(f"transfer: {len(clips.names)} clips, {len(clips.rows)} vertices, {count / 1e6:.2f} M parameters, {device}")
    work = home / f"work-{key}"
    curves = train(model, clips, s, work, device, beat)
    figures: dict = {"train": evaluate(model, clips)}
    for name, members in groups.items():
        others = read(members) if members else None
        figures[name] = evaluate(model, others) if others and others.names else f"not available: no {MEANING[name]}"
    about = {"key": key, "evaluated": evaluated, "unit": "mm", "curves": curves, "figures": figures}
    save(home, model.cpu(), about, work / LOG_FILE)
    write_json(index, done)
    for old in home.glob("work-*"):
        if old != work:
            shutil.rmtree(old, ignore_errors=True)
    shares = {name: f if isinstance(f, str) else f"{f['explained']:.0%}" for name, f in figures.items()}
    say("transfer: share of the dynamic offsets explained: " + ", ".join(f"{name} {f}" for name, f in shares.items()))
    return index


MEANING = {
    "held_out_persons": "fitted clip of the splits val and test shows a person without a clip in train",
    "unseen_clips": "fitted clip of the splits val and test shows a person who has a clip in train",
}


def split(rows: list[Row], fitted: set[str]) -> dict[str, list[str]]:
    """Fitted clips by use: train; of val and test, those of persons never trained on, and the others."""
    usable = sorted((row for row in rows if row.clip in fitted), key=lambda row: row.clip)
    known = {row.person for row in usable if row.split == "train"}
    return {
        "train": [row.clip for row in usable if row.split == "train"],
        "held_out_persons": [row.clip for row in usable if row.split != "train" and row.person not in known],
        "unseen_clips": [row.clip for row in usable if row.split != "train" and row.person in known],
    }


def build(clips: FittedClips, config: Config, head_sha256: str) -> Transfer:
    """An untrained module for these clips."""
    s, name = config.transfer, clips.names[0]
    expression = clips.clips[name].motion.shape[1] - 6
    with torch.random.fork_rng():
        torch.manual_seed(s.seed)
        sizes = s.encoder_width, s.code, s.vertex_width
        features = clips.features(name).shape[1]
        return Transfer(TransferConfig(expression, features, *sizes, clips.scale(), head_sha256))


def save(home: Path, model: Transfer, training: dict, log: Path) -> None:
    """Replace home/model by the trained module, with its curves and figures in training.json, and its log."""
    temporary = home / ".model.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    write_json(temporary / "training.json", training)
    shutil.copy(log, temporary)
    shutil.rmtree(home / "model", ignore_errors=True)
    temporary.rename(home / "model")


def finished(home: Path) -> tuple[str, dict] | None:
    """Key of the module in ``home`` and the clips it was evaluated on, None where there is no whole one."""
    try:
        training = json.loads((home / "model" / "training.json").read_text("utf-8"))
        return training["key"], training["evaluated"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
