"""Stage ``generator``: train the video generator on all clips of the split train (docs/generator.md)."""

from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState

from expportrait.engine.heartbeat import Heartbeat, training
from expportrait.engine.models import Model, there
from expportrait.errors import UserError
from expportrait.generator.data import CARRIED, Windows, control_channels
from expportrait.generator.files import build, save_generator, weight_files
from expportrait.generator.flop import peak
from expportrait.generator.model import ModelConfig
from expportrait.generator.shard import gather, sharded
from expportrait.generator.train import control_sensitivity, train
from expportrait.manifest.clips import Row
from expportrait.progress import say, silence
from expportrait.settings.config import Config
from expportrait.stages import PIPELINE


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
    with training(config.results, "generator", config.generator.steps) as beat:
        return _run(rows, config, device, beat)


def _run(rows: list[Row], config: Config, device: str, beat: Heartbeat) -> Path:
    stage, s = PIPELINE["generator"], config.generator
    parts = there(stage, rows, config)
    if not parts["clips"]:
        raise UserError(f"no clip of the split train has both latents and control maps in {config.results}: "
                        "see why in the indexes of these stages, or in the report")  # fmt: skip
    made = Model(stage, config, parts, weight_files(s.base))
    main = PartialState().is_main_process
    if made.finished("generator.json"):
        say(f"generator: {made.folder} is up to date")
        return made.write_index() if main else made.index
    paths = {name: {clip: config.results / name / f"{clip}.zarr" for clip in parts["clips"]} for name in stage.parents}
    windows = Windows(paths["latents"], paths["control"], s.maps, paths["carry"])
    codec = windows.made_by["codec"]
    grid = codec["channels"], control_channels(s.maps), codec["time"], codec["space"]
    frozen = torch.bfloat16 if s.precision == "bf16" else torch.float32
    made_of = ModelConfig(s.preset, *grid, s.reference, s.prediction, **{name: name in s.maps for name in CARRIED})
    made_by = partial(build, made_of, s.base, s.seed, s.lora_rank, frozen)
    several = PartialState().num_processes
    cut = several > 1 and sharded(s, made_by(empty=True), several)
    model = made_by(empty=cut and not main)  # the first one's weights are handed out
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    clips = len(parts["clips"])
    floor = peak(str(PartialState().device), s.precision)[1]
    say(f"generator: {len(windows)} windows of {clips} clips, {count / 1e6:.2f} M trainable parameters, {device}; the "
        f"floor of a step is by {floor}")  # fmt: skip
    model = train(model, windows, s, made.work, device, beat, cut)
    sensitivity = control_sensitivity(model, windows, s) if main or cut else {}
    if cut:
        model = gather(model, made_by(empty=True), main)
    if not main:
        return made.index
    about = {"key": made.key, "maps": s.maps, "precision": s.precision, "steps": s.steps, "shift": s.shift,
             **windows.made_by, "floor": floor, "control_sensitivity": sensitivity}  # fmt: skip
    with made.replaced() as folder:
        save_generator(folder, model.cpu(), about)
    return made.write_index()
