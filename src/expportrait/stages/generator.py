"""Stage ``generator``: train the video generator on all clips of the split train (docs/generator.md)."""

from collections.abc import Collection
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState

from expportrait.engine.heartbeat import Heartbeat, training
from expportrait.engine.looks import HELD_OUT, TRAINED_ON
from expportrait.engine.models import Model, divided, found
from expportrait.errors import UserError
from expportrait.generator.codec import load_codec
from expportrait.generator.data import CARRIED, Windows, control_channels
from expportrait.generator.files import build, save_generator, weight_files
from expportrait.generator.flop import peak
from expportrait.generator.loggers import make_logger
from expportrait.generator.look import Looks, Seen
from expportrait.generator.lookfilm import checked
from expportrait.generator.model import ModelConfig
from expportrait.generator.shard import gather, sharded
from expportrait.generator.train import control_sensitivity, train
from expportrait.manifest.clips import Row
from expportrait.progress import say, silence
from expportrait.settings.config import Config
from expportrait.stages import PIPELINE
from expportrait.store import Store, StoreError

LOOKED_AT = 4  # clips


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
    clips = found(stage, rows, config)
    parts = divided(stage, rows, clips)
    if not parts["clips"]:
        raise UserError(f"no clip of the split train has both latents and control maps in {config.results}: "
                        "see why in the indexes of these stages, or in the report")  # fmt: skip
    made = Model(stage, config, parts, weight_files(s.base))
    main = PartialState().is_main_process
    if made.finished("generator.json"):
        say(f"generator: {made.folder} is up to date")
        return made.write_index() if main else made.index
    windows = _windows(config, [*parts["clips"]])
    of = windows.made_by["codec"]
    grid = of["channels"], control_channels(s.maps), of["time"], of["space"]
    frozen = torch.bfloat16 if s.precision == "bf16" else torch.float32
    made_of = ModelConfig(s.preset, *grid, s.reference, s.prediction, **{name: name in s.maps for name in CARRIED})
    made_by = partial(build, made_of, s.base, s.seed, s.lora_rank, frozen)
    several = PartialState().num_processes
    cut = several > 1 and sharded(s, made_by(empty=True), several)
    model = made_by(empty=cut and not main)  # the first one's weights are handed out
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    floor = peak(str(PartialState().device), s.precision)[1]
    say(f"generator: {len(windows)} windows of {len(parts['clips'])} clips, {count / 1e6:.2f} M trainable parameters, "
        f"{device}; the floor of a step's time is by {floor}")  # fmt: skip
    logger = make_logger(s.log if main else "none", made.work, made.key, s.model_dump(mode="json"))
    look = None
    if 0 < s.look_every <= s.steps:
        seen = _looked_at(rows, config, clips, [*parts["clips"]])
        codec = lambda: checked(load_codec(config.latents), windows)  # noqa: E731
        look = Looks(s, seen, made.work, codec, logger.look, main, several, cut).after
    with closing(logger):
        model = train(model, windows, s, made.work, device, beat, cut, logger.step, look)
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


def _windows(config: Config, clips: list[str]) -> Windows:
    paths = ({clip: config.results / name / f"{clip}.zarr" for clip in clips} for name in PIPELINE["generator"].parents)
    latents, control, carry = paths
    return Windows(latents, control, config.generator.maps, carry)


def _looked_at(rows: list[Row], config: Config, clips: Collection[str], trained: list[str]) -> Seen:
    """What looks look at: some of the ``clips`` that it is not trained on, first those of the split val and of people
    that it has not seen, one a person as far as there are enough; else some of those that it is ``trained`` on."""
    known = {row.person for row in rows if row.clip in trained}
    held = [row for row in rows if row.clip in clips and row.split != "train"]
    held.sort(key=lambda row: (row.split != "val", row.person in known, row.clip))
    firsts = {row.person: row for row in reversed(held)}
    chosen = sorted(held, key=lambda row: firsts[row.person] is not row)
    names, of = [row.clip for row in chosen], HELD_OUT
    if not names:
        names, of = trained, TRAINED_ON
        say("generator: no clip of another split than train has latents and control maps: looks show windows that it "
            "is trained on")  # fmt: skip
    names = names[:LOOKED_AT]
    starts = Store(config.results / "latents" / f"{names[0]}.zarr").attrs["starts"]
    return Seen(_windows(config, names), of, starts, _fps(config.results / "crop" / f"{names[0]}.zarr"))


def _fps(crop: Path) -> float:
    """The clip's own, where its frames are still there."""
    with suppress(StoreError):
        return float(Store(crop).attrs["fps"])
    return 25.0
