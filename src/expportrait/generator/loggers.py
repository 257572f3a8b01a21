"""Log and looks of a training told to TensorBoard or Weights & Biases as well, where the settings ask for it."""

from pathlib import Path
from typing import Any, Protocol

import cv2

from expportrait.engine.log import Row, shares
from expportrait.engine.looks import TEXTS, Look
from expportrait.errors import UserError

FOLDER = "tensorboard"  # beside the log


class Logger(Protocol):
    """Hears of each step's row of the log and of each look, whose film is in ``folder``."""

    def step(self, row: Row) -> None: ...

    def look(self, look: Look, folder: Path) -> None: ...

    def close(self) -> None: ...


class NoLogger:
    """Tells nobody."""

    def step(self, row: Row) -> None: ...

    def look(self, look: Look, folder: Path) -> None: ...

    def close(self) -> None: ...


def make_logger(kind: str, work: Path, key: str, settings: dict[str, Any]) -> Logger:
    """``kind``: none, tensorboard or wandb. A training that goes on, of the same ``key``, goes on with its curves.

    Raises UserError where the package is not there or does not start.
    """
    if kind == "none":
        return NoLogger()
    try:
        return TensorBoard(work) if kind == "tensorboard" else Wandb(work, key, settings)
    except ImportError:
        raise UserError(f"generator.log: {kind} needs the package {kind}: run pip install {kind}, or set it to none"
                        ) from None  # fmt: skip


def _scalars(row: Row, group: str) -> dict[str, float]:
    values = {name: value for name, value in row.items() if name not in ("step", *TEXTS)}
    return {f"{group}/{name}": value for name, value in (values | shares(row)).items()}


class TensorBoard:
    """Scalars of steps and looks, and the middle frame of each look's film."""

    def __init__(self, work: Path):
        from torch.utils.tensorboard import SummaryWriter

        self._make, self._writer = lambda step: SummaryWriter(str(work / FOLDER), purge_step=step), None

    def step(self, row: Row) -> None:
        self._write(int(row["step"]), _scalars(row, "train"))

    def look(self, look: Look, folder: Path) -> None:
        self._write(look["step"], _scalars(look, "look"))
        if "film" in look:
            picture = cv2.imread(str((folder / look["film"]).with_suffix(".jpg")))
            self._writer.add_image("look/film", picture[..., ::-1].copy(), look["step"], dataformats="HWC")
        self._writer.flush()

    def _write(self, step: int, values: dict[str, float]) -> None:
        if self._writer is None:  # only now is it known from which step on the training goes: what lies after goes
            self._writer = self._make(step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Wandb:
    """Scalars of steps and looks, and the look's film. A step that was told once is not told again."""

    def __init__(self, work: Path, key: str, settings: dict[str, Any]):
        import wandb

        work.mkdir(parents=True, exist_ok=True)
        try:
            self._run = wandb.init(project="expportrait", name=f"generator {key[:8]}", id=f"generator-{key}",
                                   resume="allow", dir=str(work), config=settings)  # fmt: skip
        except Exception as error:
            raise UserError(f"generator.log: wandb does not start ({' '.join(str(error).split())}); "
                            "run wandb login, set WANDB_MODE=offline, or set it to none") from None  # fmt: skip
        self._film = wandb.Video

    def step(self, row: Row) -> None:
        self._run.log(_scalars(row, "train"), step=int(row["step"]))

    def look(self, look: Look, folder: Path) -> None:
        values: dict[str, Any] = _scalars(look, "look")
        if "film" in look:
            values["look/film"] = self._film(str(folder / look["film"]), format="mp4")
        self._run.log(values, step=look["step"])

    def close(self) -> None:
        self._run.finish()
