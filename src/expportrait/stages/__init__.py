"""The pipeline, said once: its stages in order, what each reads, and what its keys and results depend on.

Rules, commands, the loop, ``status``, ``retry``, ``prune``, ``watch`` and the report take it from here. The code of a
stage is the module of the same name, which may load torch: ``with_code`` imports it.
"""

from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module

from expportrait.engine.stage import ALL, Stage
from expportrait.estimators.geometry.versions import VERSIONS
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import clip_of, portrait
from expportrait.settings.config import SECTIONS, Config

CODE = ("process", "load", "needless", "finish", "run")  # of a stage's module, as far as it has them
PROXY, DRIVE = 16, 2  # the versions of proxy and drive; that of drive/targets is made of both


def _estimator(config: Config) -> dict[str, int]:
    return {"estimator": VERSIONS[config.geometry.estimator]}


def _from_image(config: Config) -> bool:
    return config.drive.target_proxy == "image"


def _driving(pair: Row, config: Config) -> dict[str, tuple[str, str]]:
    target = ("drive/targets", portrait(pair)) if _from_image(config) else ("proxy", pair.extra["target"])
    taken = {name: pair.extra[name] for name in ("driver", "pose_from", "expression_from") if name in pair.extra}
    trained = {"transfer": ("transfer", ALL)} if config.drive.offsets == "transfer" else {}
    # when frames are is asked where several clips are brought together, and where they are smoothed
    timed = taken if len(taken) > 1 or config.drive.smooth else {}
    times = {f"times of {name}": ("crop", clip) for name, clip in timed.items()}
    return {"target": target} | {name: ("proxy", clip) for name, clip in taken.items()} | times | trained


def _looking_at(portrait: Row, config: Config) -> dict[str, tuple[str, str]]:
    return {name: (name, clip_of(portrait.clip)) for name in ("landmarks", "geometry")}


def _by_portrait(config: Config) -> bool:
    return config.generator.by_portrait


def _training(row: Row, config: Config) -> dict[str, tuple[str, str]]:
    names = ("latents", "control", "carry") if _by_portrait(config) else ("latents", "control")
    return {name: (name, row.clip) for name in names}


def _reenacting(pair: Row, config: Config) -> dict[str, tuple[str, str]]:
    crops = {name: ("crop", pair.extra[name]) for name in ("target", "driver")}
    moved = {"appearance": ("appearance", pair.clip)} if _by_portrait(config) else {}
    return {"drive": ("drive", pair.clip)} | crops | moved | {"generator": ("generator", ALL)}


def _carrying(pair: Row, config: Config) -> dict[str, tuple[str, str]]:
    target, driver = (pair.extra[name] for name in ("target", "driver"))
    taken = {"portrait": ("crop", target), "matte": ("geometry", target), "film": ("crop", driver)}
    return _driving(pair, config) | {"drive": ("drive", pair.clip)} | taken


def _measuring(pair: Row, config: Config) -> dict[str, tuple[str, str]]:
    crops = {f"crop {clip}": ("crop", clip) for clip in _shown(pair)}
    return {f"{stage} {pair.clip}": (stage, pair.clip) for stage in ("reenact", "appearance")} | crops


def _shown(pair: Row) -> tuple[str, str]:
    return pair.extra["target"], pair.extra["driver"]


def _tracks(pair: Row, config: Config) -> dict[str, str]:
    """The coefficient files of target and driver; a pair's own file counts among the settings."""
    if config.evaluate.tracks is None or not config.evaluate.by_files:
        return {}
    from expportrait.files import sha256
    from expportrait.metrics.coefficients import file_of

    return {f"tracks {clip}": sha256(file_of(config.evaluate.tracks, clip)) for clip in _shown(pair)}


# fmt: off
PIPELINE: dict[str, Stage] = {stage.name: stage for stage in (
    Stage("demo", 2, ("demo",), (), kind="source"),
    Stage("crop", 3, ("crop",), (), overlaps=True),
    Stage("landmarks", 4, ("landmarks",), ("crop",)),
    Stage("geometry", 7, ("geometry", "head"), ("crop", "landmarks"), chosen=_estimator, overlaps=True),
    Stage("proxy", PROXY, ("proxy", "head"), ("crop", "landmarks", "geometry")),
    Stage("control", 2, ("control", "head"), ("proxy",), overlaps=True),
    Stage("latents", 4, ("latents",), ("crop",), overlaps=True),
    Stage("carry", 2, ("carry", "latents", "appearance", "head"), ("crop", "geometry", "proxy"), when=_by_portrait),
    Stage("transfer", 1, ("transfer", "head"), ("proxy",), kind="model", tested=True,
          unkeyed=("head", "transfer.save_every")),
    # the heads of the targets, each from one frame, which is all that matters of the section drive
    Stage("drive/targets", 100 * DRIVE + PROXY, ("drive", "proxy", "head"), ("landmarks", "geometry"), by="drive",
          parents_by_row=_looking_at, when=_from_image, only=("drive.reference",)),
    Stage("drive", DRIVE, ("drive", "control", "head"), ("drive/targets", "proxy", "crop", "transfer"),
          kind="pair", parents_by_row=_driving),
    Stage("appearance", 3, ("appearance", "drive", "head"),
          ("drive/targets", "drive", "proxy", "transfer", "crop", "geometry"), kind="pair", parents_by_row=_carrying,
          media=(".mp4", ".side.mp4")),
    Stage("generator", 2, ("latents", "generator"), ("latents", "control", "carry"), kind="model",
          weights="generator.base", parents_by_row=_training,
          unkeyed=("latents", "generator.base", "generator.micro", "generator.save_every", "generator.keep",
                   "generator.checkpointing", "generator.attention", "generator.compile", "generator.sharding",
                   "generator.shard_over", "generator.workers", "generator.look_every", "generator.look_steps",
                   "generator.log")),
    Stage("reenact", 2, ("latents", "reenact", "generator"), ("drive", "crop", "appearance", "generator"), kind="pair",
          parents_by_row=_reenacting, only=("generator.maps",), unkeyed=("generator",),
          media=(".mp4", ".side.mp4")),
    # it asks the section drive alone whether a pair's motion is its driver's
    Stage("evaluate", 4, ("evaluate", "drive"), ("reenact", "appearance", "crop"), kind="pair",
          parents_by_row=_measuring, unkeyed=("drive",), files=_tracks, form="json", folder="evaluate/pairs",
          table="evaluate/table.json"),
    Stage("report", 2, SECTIONS, (), kind="page"),  # it shows all settings
)}
# fmt: on
STAGES = tuple(name for name, stage in PIPELINE.items() if not stage.by)  # each has a rule and a command of its name
PER_CLIP, PER_PAIR = (
    tuple(name for name, stage in PIPELINE.items() if stage.kind == kind and stage.sharded) for kind in ("clip", "pair")
)


def made(names: Iterable[str], config: Config) -> list[str]:
    """Those of the stages ``names`` that there are at these settings."""
    return [name for name in names if PIPELINE[name].when(config)]


def with_code(name: str) -> Stage:
    """The stage with the code of its module, where it has not been given any yet."""
    stage = PIPELINE[name]
    if stage.process or stage.run:
        return stage
    module = import_module(f"expportrait.stages.{name.replace('/', '_')}")
    return replace(stage, **{part: getattr(module, part) for part in CODE if hasattr(module, part)})


def job(name: str, config: Config) -> list[Stage]:
    """What a job of that stage makes, one after the other: of the clips and pairs that are its ``members``."""
    own = [stage.name for stage in recorded(config).values() if stage.by == name]
    return [with_code(one) for one in (*own, name)]


def recorded(config: Config) -> dict[str, Stage]:
    """Name -> stage, of those that leave something of clips, of pairs or of all clips behind at these settings."""
    kinds = ("clip", "pair", "model")
    return {name: stage for name, stage in PIPELINE.items() if stage.kind in kinds and stage.when(config)}
