"""Stage ``generator``: train the video generator on all clips of the split train (docs/generator.md)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState

from expportrait.engine.heartbeat import Heartbeat, training
from expportrait.engine.record import state, write_json
from expportrait.engine.training import LOG_FILE
from expportrait.errors import UserError
from expportrait.generator.data import Windows, control_channels
from expportrait.generator.files import build, save_generator, weight_files
from expportrait.generator.model import ModelConfig
from expportrait.generator.train import control_sensitivity, train
from expportrait.manifest.clips import Row
from expportrait.progress import say, silence
from expportrait.settings.config import Config
from expportrait.stages.contracts import contract, generator_key

STAGE = replace(contract("generator"), version=1)


def run(rows: list[Row], config: Config, device: str) -> Path:
    """Bring results/generator up to date; returns its index.json, written last.

    Nothing is trained again when model/ is there with the same key. A run that was killed goes on from its last
    checkpoint, kept in work-<key>/. Of several processes, as torchrun starts them, the first one talks and writes.
    Raises UserError where no clip can be used, or where the batch does not divide.
    """
    processes = PartialState(cpu=not device.startswith("cuda"))
    if not processes.is_main_process:
        silence()
    config.generator.rounds(processes.num_processes)
    with training(config.results, STAGE.name, config.generator.steps) as beat:
        return _run(rows, config, device, beat)


def _run(rows: list[Row], config: Config, device: str, beat: Heartbeat) -> Path:
    home, s = config.results / STAGE.name, config.generator
    chosen: dict[str, dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: row.clip):
        parents = {name: state(config.results / name, row.clip) for name in STAGE.parents}
        if row.split == "train" and all(parent.status == "ok" for parent in parents.values()):
            chosen[row.clip] = {name: parent.key for name, parent in parents.items()}
    if not chosen:
        raise UserError(f"no clip of the split train has both latents and control maps in {config.results}: "
                        "see why in the indexes of these stages, or in the report")  # fmt: skip
    key = generator_key(config, chosen, weight_files(s.base))
    index, done = home / "index.json", {"status": "ok", "key": key, "why": "", "clips": chosen}
    main = PartialState().is_main_process
    if finished(home) == key:
        say(f"generator: {home / 'model'} is up to date")
        if main:
            write_json(index, done)  # a run of the workflow deletes it first
        return index
    paths = [{clip: config.results / name / f"{clip}.zarr" for clip in chosen} for name in STAGE.parents]
    windows = Windows(*paths, s.maps)
    codec = windows.made_by["codec"]
    grid = codec["channels"], control_channels(s.maps), codec["time"], codec["space"]
    frozen = torch.bfloat16 if s.precision == "bf16" else torch.float32
    model = build(ModelConfig(s.preset, *grid, s.reference, s.prediction), s.base, s.seed, s.lora_rank, frozen)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    say(f"generator: {len(windows)} windows of {len(chosen)} clips, {count / 1e6:.2f} M trainable parameters, {device}")
    work = home / f"work-{key}"
    model = train(model, windows, s, work, device, beat)
    if not main:
        return index
    about = {"key": key, "maps": s.maps, "precision": s.precision, "steps": s.steps, **windows.made_by,
             "control_sensitivity": control_sensitivity(model, windows, s)}  # fmt: skip
    temporary = home / ".model.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    save_generator(temporary, model.cpu(), about)
    shutil.copy(work / LOG_FILE, temporary)
    shutil.rmtree(home / "model", ignore_errors=True)
    temporary.rename(home / "model")
    write_json(index, done)
    return index


def finished(home: Path) -> str | None:
    """The key of the generator in the folder ``home``, None where there is no whole one."""
    try:
        return json.loads((home / "model" / "generator.json").read_text("utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
