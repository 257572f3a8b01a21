"""Checkpoints of a training, from which one that was killed goes on exactly."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expportrait.engine.average import Average
from expportrait.engine.parts import INDEX, agreed, as_part, local, of_first, read_parts, shared_folder, write_parts
from expportrait.files import new_folder
from expportrait.progress import say


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that are trained, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def finite(model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Whether all weights that are trained, and what the optimizer keeps of each, are finite numbers, as far as this
    process holds them."""
    return _finite(trainable(model), optimizer.state)


def _finite(weights: Mapping[str, Tensor], state: Mapping[Any, dict[str, Any]]) -> bool:
    kept = (value for moments in state.values() for value in moments.values() if isinstance(value, Tensor))
    return all(bool(torch.isfinite(local(value)).all()) for value in (*weights.values(), *kept))


class Checkpoints:
    """``step-<n>/`` in a folder of its own: written beside, then renamed; the newest ``keep`` are kept. ``name``: the
    stage's.

    Of several processes, the ``main`` one writes; where they hold ``parts``, all do, each its own. Either kind is read,
    whatever the number of processes that wrote it.
    """

    def __init__(self, folder: Path, keep: int, name: str, main: bool = True, parts: bool = False):
        self.folder, self.keep, self.name, self.main, self.parts = folder, keep, name, main, parts
        folder.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        return sorted(int(path.name[5:]) for path in self.folder.glob("step-*") if path.name[5:].isdigit())

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None
    ) -> None:
        """Those of later steps, which ``load`` has passed over, go: they must not outlive the whole ones."""
        if self.main:
            for leftover in self.folder.glob(".*.tmp*"):  # only one process makes folders here
                shutil.rmtree(leftover, ignore_errors=True)
        if self.parts:
            with shared_folder(self.folder / f"step-{step}", self.main) as made:
                state = optimizer.state_dict()["state"]
                kept = {name: state.get(i, {}) for i, (name, _) in enumerate(_in_order(model, optimizer))}
                write_parts(made, trainable(model), kept, average.values if average else {})
        elif self.main:
            with new_folder(self.folder / f"step-{step}") as made:
                weights = {name: value.detach().contiguous() for name, value in trainable(model).items()}
                save_file(weights, made / "weights.safetensors")
                if average is not None:
                    save_file(average.values, made / "average.safetensors")
                torch.save(optimizer.state_dict(), made / "optimizer.pt")
                for file in made.iterdir():
                    with file.open("rb") as written:
                        os.fsync(written.fileno())  # a rename may reach the disk before what it names
        if self.main:
            steps = self.steps()
            for other in {*steps} - {*[n for n in steps if n <= step][-self.keep :]}:
                shutil.rmtree(self.folder / f"step-{other}", ignore_errors=True)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None) -> int:
        """Restore the newest checkpoint that is whole and finite; returns the number of steps done, 0 where there is
        none."""
        for step in reversed(of_first(self.steps())):
            folder, read = self.folder / f"step-{step}", None
            try:
                read = self._read(folder, model, optimizer, average)
                why = "" if _finite(*read[:2]) and _finite(read[2], {}) else "holds numbers that are not finite"
            except (OSError, EOFError, ValueError, KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
                why = f"is damaged ({type(error).__name__})"
            if not agreed(not why):
                say(f"{self.name}: {folder} {why or 'is no good to another process'}, and is passed over")
                continue
            weights, state, averaged = read
            with torch.no_grad():
                for name, value in trainable(model).items():
                    value.copy_(weights[name])
                for name, value in averaged.items():
                    average.values[name].copy_(value)
            places = [name for name, _ in _in_order(model, optimizer)]
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": {i: state[name] for i, name in enumerate(places) if name in state},
                                       "param_groups": groups})  # fmt: skip
            return step
        return 0

    def _read(
        self, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]], dict[str, Tensor]]:
        """Weights, what the optimizer keeps of each, and their average, by name, as this process is to hold them."""
        if (folder / INDEX).exists():
            return read_parts(folder, trainable(model), average is not None, alone=not self.parts)
        weights = load_file(folder / "weights.safetensors")
        averaged = load_file(folder / "average.safetensors") if average is not None else {}
        kept = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)["state"]
        like = dict(_in_order(model, optimizer))
        whole = {name: kept[i] for i, name in enumerate(like) if i in kept}
        return (
            {name: as_part(weights[name], value) for name, value in like.items()},
            {name: {kind: as_part(value, like[name]) if _shaped(value, like[name]) else value
                    for kind, value in values.items()} for name, values in whole.items()},
            {name: as_part(value, like[name]) for name, value in averaged.items()},
        )  # fmt: skip


def _in_order(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, nn.Parameter]]:
    """The weights that are trained, by name, in the optimizer's order."""
    names = {value: name for name, value in trainable(model).items()}
    return ((names[value], value) for group in optimizer.param_groups for value in group["params"])


def _shaped(value: Any, like: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == like.shape
