"""The command ``animate``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from expportrait.errors import UserError
from expportrait.options import Backend, Device, Sets, choose_device, layered
from expportrait.settings.config import Config
from expportrait.settings.files import read_yaml

RESULTS = Path("results/animate")
LONGEST = 1e6  # s, beyond which decoders do not find their way
NECK = 0.02  # m that the neck may be stretched by, where the body stays


class Held(StrEnum):
    """What may stay as the portrait has it."""

    POSE = "pose"
    EXPRESSION = "expression"


class Mode(StrEnum):
    """What the driver's motion is taken as."""

    RELATIVE = "relative"
    ABSOLUTE = "absolute"


def _gain(help: str) -> Any:
    return typer.Option(min=0, help=f"{help} (default: 1)", rich_help_panel="The driver's hand on the wheel")


def _wheel(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel="The driver's hand on the wheel")


def animate(
    portrait: Annotated[
        list[Path],
        typer.Option(help="An image, a video (see --frame), or a table (.csv) with a column portrait; repeatable."),
    ],
    driver: Annotated[Path, typer.Option(help="The video whose face moves the portrait.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Film to write (.mp4); of several portraits, a folder. (default: PORTRAIT_DRIVER.mp4)"),
    ] = None,
    frame: Annotated[
        int, typer.Option(min=0, max=999_999_999, help="Which frame of a portrait that is a video.")
    ] = 0,
    face: Annotated[
        int | None, typer.Option(min=1, help="Which face of the portrait, counted from the left.")
    ] = None,
    start: Annotated[float | None, typer.Option(min=0, max=LONGEST, help="Where the driver begins, s.")] = None,
    end: Annotated[float | None, typer.Option(min=0, max=LONGEST, help="Where the driver ends, s.")] = None,
    generator: Annotated[
        Path | None, typer.Option(help="A trained generator's folder, as results/generator. Without it, a preview.")
    ] = None,
    transfer: Annotated[
        Path | None,
        typer.Option(help="Folder of a trained transfer module, for the fine geometry of the expression."),
    ] = None,
    expression: Annotated[float | None, _gain("Gain of the expression, without jaw and eyes.")] = None,
    mouth: Annotated[float | None, _gain("The same around the mouth, times --expression.")] = None,
    eyes: Annotated[float | None, _gain("The same around the eyes, times --expression.")] = None,
    brows: Annotated[float | None, _gain("The same of the brows, times --expression.")] = None,
    lids: Annotated[float | None, _gain("The same of the eyelids, times --eyes.")] = None,
    jaw: Annotated[float | None, _gain("Gain of the jaw.")] = None,
    gaze: Annotated[
        str | None, _wheel("--gaze", help="Gain of the eyes' turns, or `camera`: they look at the viewer. (default: 1)")
    ] = None,
    pose: Annotated[float | None, _gain("Gain of the head's turns and moves, from the portrait's pose on.")] = None,
    hold: Annotated[
        list[Held] | None, _wheel("--hold", help="What stays as the portrait has it: pose, expression; repeatable.")
    ] = None,
    pose_from: Annotated[
        Path | None, _wheel("--pose-from", help="Another video, whose head pose counts instead of the driver's.")
    ] = None,
    expression_from: Annotated[
        Path | None, _wheel("--expression-from", help="Another video, whose expression counts instead.")
    ] = None,
    smooth: Annotated[
        float | None, _wheel("--smooth", help="Smooth the driver's motion over so many s. (default: 0)")
    ] = None,
    pose_mode: Annotated[
        Mode | None, _wheel("--pose-mode", help="relative: the head turns from the portrait's pose on as the driver's "
                            "does from its first frame on; absolute: it faces where the driver's does. "
                            "(default: relative)")
    ] = None,
    expression_mode: Annotated[
        Mode | None, _wheel("--expression-mode", help="absolute: the driver's expression; relative: the portrait's own "
                            "and the driver's change from its first frame on. (default: absolute)")
    ] = None,
    paste_back: Annotated[
        bool, typer.Option(help="Put the result back into the whole portrait, at its resolution.")
    ] = True,
    results: Annotated[Path, typer.Option(help="Folder that keeps what was worked out, for the next time.")] = RESULTS,
    settings: Annotated[
        Path | None, typer.Option(help="YAML file of further settings (docs/settings.md).")
    ] = None,
    sets: Sets = None,
    device: Device = "auto",
    backend: Backend = "auto",
) -> None:  # fmt: skip
    """A portrait and a driving video in, a film out: with the driver's rate and sound, marked as synthetic."""
    given: dict[str, Any] = {f"gain_{name}": value for name, value in (
        ("expression", expression), ("mouth", mouth), ("eyes", eyes), ("brows", brows), ("lids", lids), ("jaw", jaw),
        ("pose", pose)) if value is not None}  # fmt: skip
    given |= (
        _gaze(gaze)
        | ({"hold": sorted({*map(str, hold)})} if hold else {})
        | ({} if smooth is None else {"smooth": smooth})
    )
    given |= {name: str(mode) for name, mode in (("pose", pose_mode), ("expression", expression_mode)) if mode}
    from expportrait.animate import models
    from expportrait.animate.films import Asked, films
    from expportrait.animate.sources import read_portraits

    trained = {kind: models.find(kind, folder)
               for kind, folder in (("transfer", transfer), ("generator", generator)) if folder}  # fmt: skip
    layers = [("config.yaml", read_yaml(Path("config.yaml")))] if Path("config.yaml").exists() else []
    layers += [("--generator", models.sampled(trained["generator"][1]))] if generator else []
    # over config.yaml, which may list all settings for the stages; what is said for this call wins
    layers += [("animate", usual(bool(transfer), paste_back))]
    layers += [(str(settings), read_yaml(settings))] if settings else []
    given["target_proxy"] = "image"
    config = without_files(layered(layers, sets, {"results": str(results), "drive": given}))
    if (config.drive.offsets == "transfer") != bool(transfer):
        raise UserError(f"drive.offsets is {config.drive.offsets}: --transfer and `transfer` go together")
    asked = Asked(
        read_portraits(portrait, frame, face), driver, out, start, end,
        {name: file for name, file in (("pose_from", pose_from), ("expression_from", expression_from)) if file},
        trained, paste_back, config, choose_device(device), backend,
    )  # fmt: skip
    films(asked)


def usual(transfer: bool, paste_back: bool) -> dict[str, Any]:
    """Settings whose default is another one here than for the stages; ``transfer``: whether there is a module."""
    drive: dict[str, Any] = {
        "pose": "relative", "expression": "absolute", "reference": 0, "offsets": "transfer" if transfer else "static"
    }  # fmt: skip
    if not paste_back:
        return {"drive": drive}
    # what goes on beyond the crop stays, so the body does, and the head stays on its neck
    return {"drive": drive | {"max_move": NECK}, "appearance": {"body_follows": False}}


def _gaze(said: str | None) -> dict[str, Any]:
    """Raises UserError where it is neither a gain nor ``camera``."""
    if said in (None, "camera"):
        return {"gaze": said} if said else {}
    try:
        return {"gain_gaze": float(said)}
    except ValueError:
        raise UserError(f"--gaze {said}: a gain such as 0.5 is expected, or camera") from None


def without_files(config: Config) -> Config:
    """Where the settings name no files of the networks that see normals and depth, the estimator that needs none."""
    s = config.geometry
    if s.estimator == "embedded" or any((s.model, s.normals, s.depth, s.mask)):
        return config
    return config.model_copy(update={"geometry": s.model_copy(update={"estimator": "embedded"})})
