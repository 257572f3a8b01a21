"""What each stage reads and stands on: said here, without the stages' code, which would load torch. The stages add
their code to it."""

from pathlib import Path
from typing import Any

from expportrait.engine.record import content_key
from expportrait.engine.stage import Stage
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config, Drive
from expportrait.stages import version

TARGETS = "drive/targets"  # made by the jobs of drive: the heads of the targets, each from one frame
NOT_IN_KEY = {  # how it is computed; base counts by its content
    "transfer": {"save_every"},
    "generator": {"base", "micro", "save_every", "keep", "checkpointing", "attention"},
}


def contracts(config: Config) -> dict[str, Stage]:
    """Name -> the stage without its code, in the order of the pipeline; these settings also say who stands on whom.

    ``drive/targets`` is of clips, ``evaluate`` of pairs; ``transfer`` and ``generator`` make one thing of all clips.
    """

    def driving(pair: Row) -> dict[str, tuple[str, str]]:
        fitted = TARGETS if config.drive.target_proxy == "image" else "proxy"
        return {"target": (fitted, pair.extra["target"]), "driver": ("proxy", pair.extra["driver"])}

    def reenacting(pair: Row) -> dict[str, tuple[str, str]]:
        return {"drive": ("drive", pair.clip)} | {name: ("crop", pair.extra[name]) for name in ("target", "driver")}

    def measuring(pair: Row) -> dict[str, tuple[str, str]]:
        crops = {f"crop {pair.extra[name]}": ("crop", pair.extra[name]) for name in ("target", "driver")}
        return {f"reenact {pair.clip}": ("reenact", pair.clip)} | crops

    def stage(name: str, sections: tuple[str, ...], *parents: str, **more: Any) -> Stage:
        return Stage(name, version(name), sections, parents, None, **more)

    whole = ("transfer",) if config.drive.offsets == "transfer" else ()
    stages = (
        stage("crop", ("crop",)),
        stage("landmarks", ("landmarks",), "crop"),
        stage("geometry", ("geometry", "head"), "crop", "landmarks"),
        stage("proxy", ("proxy", "head"), "crop", "landmarks", "geometry"),
        stage("control", ("control", "head"), "proxy"),
        stage("latents", ("latents",), "crop"),
        stage("transfer", ("transfer", "head"), "proxy"),
        Stage(TARGETS, 100 * version("drive") + version("proxy"), ("drive", "proxy", "head"),
              ("landmarks", "geometry"), None),
        stage("drive", ("drive", "control", "head"), "proxy", "transfer", whole=whole, others=driving),
        stage("generator", ("generator",), "latents", "control"),
        stage("reenact", ("latents", "reenact"), "drive", "crop", whole=("generator",), others=reenacting),
        stage("evaluate", ("evaluate",), "reenact", "crop", others=measuring),
    )  # fmt: skip
    if config.drive.target_proxy != "image":
        stages = tuple(one for one in stages if one.name != TARGETS)
    return {one.name: one for one in stages}


def contract(name: str) -> Stage:
    """One of them, at the default settings, for the stage to add its code to."""
    return contracts(Config())[name]


def settings_of(name: str, config: Config) -> Config:
    """The settings as that stage takes them: a target's head depends on its frame and on nothing else of drive."""
    return config.model_copy(update={"drive": Drive(reference=config.drive.reference)}) if name == TARGETS else config


def transfer_key(config: Config, chosen: dict[str, str]) -> str:
    """Key of the transfer module. ``chosen``: clip -> key of its proxy, of the fitted clips of the split train."""
    return content_key("transfer", version("transfer"), {"transfer": _trained(config, "transfer")}, chosen)


def generator_key(config: Config, chosen: dict[str, dict[str, str]], base: list[str]) -> str:
    """Key of the generator. ``chosen``: clip -> keys of its latents and its control maps; ``base``: sha256 of
    the pretrained weights' files."""
    settings = {"generator": _trained(config, "generator"), "base": base}
    return content_key("generator", version("generator"), settings, chosen)


def _trained(config: Config, name: str) -> dict[str, Any]:
    """The settings on which it depends what the training gives."""
    settings = getattr(config, name).distinct("json")
    return {setting: value for setting, value in settings.items() if setting not in NOT_IN_KEY[name]}


def tracks_of(config: Config, *clips: str) -> dict[str, str]:
    """sha256 of the coefficient files that evaluate reads of these clips; a pair's own file counts among the settings.

    Raises ClipError where one is missing.
    """
    if config.evaluate.tracks is None or config.evaluate.tracker == "own":
        return {}
    from expportrait.files import sha256
    from expportrait.metrics.coefficients import file_of

    return {f"tracks {clip}": sha256(file_of(config.evaluate.tracks, clip)) for clip in clips}


def home_of(results: Path, name: str) -> Path:
    """Where a stage keeps its things; those of ``evaluate`` are JSON files in a folder of their own."""
    return results / name / "pairs" if name == "evaluate" else results / name
