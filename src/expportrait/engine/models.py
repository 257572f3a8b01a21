"""Stages that make one model of all clips: what of, and the folder in which it lies."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

from expportrait.engine.keys import Keys
from expportrait.engine.log import LOG_FILE
from expportrait.engine.record import read_record, state, write_json
from expportrait.engine.stage import Stage
from expportrait.files import new_folder
from expportrait.machine import writing
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config


def usable(
    stage: Stage, rows: Iterable[Row], config: Config, key_of: Callable[[str, str], str | None]
) -> dict[str, str | dict[str, str]]:
    """The clips that a model can be made of, by name: clip -> keys of its parents, or the key where there is only one.
    ``key_of(parent, clip)`` is None where there is no such result."""
    found = {}
    for row in sorted(rows, key=attrgetter("clip")):
        keys = {name: key_of(*parent) for name, parent in stage.parents_of(row, config).items()}
        if all(keys.values()):
            found[row.clip] = keys if len(keys) > 1 else next(iter(keys.values()))
    return found


def divided(stage: Stage, rows: Iterable[Row], among: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The clips ``among`` which one can choose, by what they are to the model: ``clips``, those of the split train, of
    which it is made; where the stage is tested also those that it is ``evaluated`` on."""
    train = {row.clip for row in rows if row.split == "train"}
    parts = {"clips": {clip: keys for clip, keys in among.items() if clip in train}}
    if stage.tested:
        parts["evaluated"] = {clip: keys for clip, keys in among.items() if clip not in train}
    return parts


def found(stage: Stage, rows: Iterable[Row], config: Config) -> dict[str, str | dict[str, str]]:
    """``usable``, of the results that are there."""

    def key_of(parent: str, clip: str) -> str | None:
        outcome = state(config.results / parent, clip)
        return outcome.key if outcome.status == "ok" else None

    return usable(stage, rows, config, key_of)


def there(stage: Stage, rows: Iterable[Row], config: Config) -> dict[str, dict[str, Any]]:
    """``divided``, of the results that are there."""
    return divided(stage, rows, found(stage, rows, config))


class Model:
    """A model knows its key and its folder, with the checkpoints from which its training goes on.

    It is made at these settings of the clips ``parts`` (``there``), on pretrained ``weights``, the sha256 of their
    files.
    """

    def __init__(self, stage: Stage, config: Config, parts: Mapping[str, Any], weights: list[str] | None = None):
        self.parts, self.home = parts, stage.home(config.results)
        self.key = Keys(stage, config).of_model(parts["clips"], weights or [])
        self.folder, self.work = self.home / "model", self.home / f"work-{self.key}"
        self.index = self.home / "index.json"

    def finished(self, about: str) -> bool:
        """Whether it is there; its file ``about`` says what it was made from and evaluated on."""
        found = read_record(self.folder / about)
        wanted = (self.key, self.parts.get("evaluated"))
        return isinstance(found, dict) and (found.get("key"), found.get("evaluated")) == wanted

    @contextmanager
    def replaced(self) -> Iterator[Path]:
        """A folder to be filled with it, the log of its training and what was seen at looks, that takes its place when
        the block ends well."""
        with writing(self.folder), new_folder(self.folder) as made:
            yield made
            for file in (self.work / LOG_FILE, *self.work.glob("look*.*")):
                shutil.copy(file, made)

    def write_index(self) -> Path:
        """The stage's declared output, which a run of the workflow deletes first; returns it."""
        write_json(self.index, {"status": "ok", "key": self.key, "why": "", **self.parts})
        return self.index
