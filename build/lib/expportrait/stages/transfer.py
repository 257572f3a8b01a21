"""Stage ``transfer``: train the expression transfer on all fitted clips of the split train (docs/transfer.md)."""

import shutil
from pathlib import Path

import torch

from expportrait.engine.heartbeat import Heartbeat, training
from expportrait.engine.models import Model, there
from expportrait.engine.record import write_json
from expportrait.errors import UserError
from expportrait.estimators.head_landmarks import load_head
from expportrait.manifest.clips import Row
from expportrait.progress import progress, say
from expportrait.settings.config import Config
from expportrait.stages import PIPELINE
from expportrait.transfer.data import FittedClips
from expportrait.transfer.model import Transfer, TransferConfig
from expportrait.transfer.train import evaluate, train


def run(rows: list[Row], config: Config, device: str) -> Path:
    """Bring results/transfer up to date; returns its index.json, written last.

    Nothing is trained again when model/ was made with the same key. A run that was killed goes on from its last
    checkpoint, kept in work-<key>/. Raises UserError where no clip can be used.
    """
    with training(config.results, "transfer", config.transfer.steps) as beat:
        return _run(rows, config, device, beat)


def _run(rows: list[Row], config: Config, device: str, beat: Heartbeat) -> Path:
    stage, s = PIPELINE["transfer"], config.transfer
    parts = there(stage, rows, config)
    if not parts["clips"]:
        raise UserError(f"no clip of the split train has a fitted head in {config.results / 'proxy'}: see why in that "
                        "stage's indexes, or in the report")  # fmt: skip
    made = Model(stage, config, parts)
    if made.finished("training.json"):
        say(f"transfer: {made.folder} is up to date")
        return made.write_index()
    head = load_head(config.head)

    def read(names: list[str]) -> FittedClips:
        paths = {clip: config.results / "proxy" / f"{clip}.zarr" for clip in names}
        return FittedClips(paths, head, progress(names, len(names), "transfer: read"))

    clips = read([*parts["clips"]])
    if not clips.names:
        raise UserError("transfer learns from motion, and every fitted clip of the split train has a single frame")
    model = build(clips, config, head.sha256)
    count = sum(p.numel() for p in model.parameters())
    say(f"transfer: {len(clips.names)} clips, {len(clips.rows)} vertices, {count / 1e6:.2f} M parameters, {device}")
    curves = train(model, clips, s, made.work, device, beat)
    figures: dict = {"train": evaluate(model, clips)}
    for name, members in split(rows, parts).items():
        others = read(members) if members else None
        figures[name] = evaluate(model, others) if others and others.names else f"not available: no {MEANING[name]}"
    about = {"key": made.key, "evaluated": parts["evaluated"], "unit": "mm", "curves": curves, "figures": figures}
    with made.replaced() as folder:
        model.cpu().save_pretrained(folder)
        write_json(folder / "training.json", about)
    index = made.write_index()
    for old in made.home.glob("work-*"):
        if old != made.work:
            shutil.rmtree(old, ignore_errors=True)
    shares = {name: f if isinstance(f, str) else f"{f['explained']:.0%}" for name, f in figures.items()}
    say("transfer: share of the dynamic offsets explained: " + ", ".join(f"{name} {f}" for name, f in shares.items()))
    return index


MEANING = {
    "held_out_persons": "fitted clip of the splits val and test shows a person without a clip in train",
    "unseen_clips": "fitted clip of the splits val and test shows a person who has a clip in train",
}


def split(rows: list[Row], parts: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """The clips that the module is evaluated on: those of persons never trained on, and the others."""
    people = {row.clip: row.person for row in rows}
    known = {people[clip] for clip in parts["clips"]}
    return {
        "held_out_persons": [clip for clip in parts["evaluated"] if people[clip] not in known],
        "unseen_clips": [clip for clip in parts["evaluated"] if people[clip] in known],
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
