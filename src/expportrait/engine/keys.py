"""Keys: equal keys, equal results. A key is the hash of stage, version, settings, and the keys of the parents.

The bytes of a source are not in it: its row's ``identity`` stands for them, with ``rev`` for sources that are replaced.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from expportrait.engine.stage import ALL, Stage
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import clip_of
from expportrait.settings.config import Config


class Keys:
    """This makes the keys of a stage's results at these settings, which are hashed once."""

    def __init__(self, stage: Stage, config: Config):
        self.stage, self.config = stage, config
        self.keyed, self.sections = _keyed(stage, config)
        named = [value for s in self.sections for _, value in getattr(self.keyed, s) if isinstance(value, Path)]
        self._by_clip = any(map(Path.is_dir, named))  # a folder holds a file a clip

    def of(self, row: Row, parents: Mapping[str, str | None]) -> str:
        """The key of a clip's or pair's result. ``parents``: the keys of what it is made from; for a stage without
        any, the row's ``identity`` and the text of ``<source>.key`` stand in their place.

        Raises UserError where a file that the settings name is not there, ClipError where one of the clip is not.
        """
        if row.settings:
            return Keys(self.stage, self.config.told(row.settings)).of(row._replace(settings={}), parents)
        root = {} if parents else {"row": row.identity(), "made": source_key(row.path)}
        files = self.stage.files(row, self.config) if self.stage.files else {}
        return self._hash(self.settings(clip_of(row.clip)), {**root, **parents, **files})

    def of_model(self, chosen: Mapping[str, Any], weights: list[str]) -> str:
        """The key of the model made of the clips ``chosen``, with their parents' keys (``models.usable``), on
        pretrained ``weights``, the sha256 of their files."""
        started = {self.stage.weights.partition(".")[2]: weights} if self.stage.weights else {}
        return self._hash(self.settings() | started, chosen)

    def of_source(self, clip: str) -> str:
        """The key of a source that the workflow itself makes."""
        return self._hash(self.settings(clip), {"clip": clip})

    def settings(self, clip: str = ALL) -> dict[str, dict]:
        """The sections as they enter the key of the clip, files by their sha256. Raises UserError for missing ones."""
        return self.keyed.identity(self.sections, clip) if self._by_clip else self._shared

    @cached_property
    def _shared(self) -> dict[str, dict]:
        return self.keyed.identity(self.sections, ALL)

    def _hash(self, settings: Mapping[str, Any], parents: Mapping[str, Any]) -> str:
        settings = {**settings, **self.stage.later(self.config)}
        return content_key(self.stage.name, self.stage.version, settings, parents)


def content_key(stage: str, version: int, settings: Mapping[str, Any], parents: Mapping[str, Any]) -> str:
    """Key of what a stage makes from ``settings`` and from things with the keys ``parents``."""
    text = json.dumps({"stage": stage, "version": version, "settings": settings, "parents": parents}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def source_key(source: Path) -> str | None:
    """What made a source that the workflow itself makes, such as the demo's: the text of ``<source>.key``."""
    with suppress(OSError):
        return Path(f"{source}.key").read_text("utf-8").strip()
    return None


def _keyed(stage: Stage, config: Config) -> tuple[Config, tuple[str, ...]]:
    """Returns the settings with the unkeyed ones set to their defaults, and the sections that enter keys."""
    config = stage.sees(config)
    for name in stage.unkeyed:
        section, _, setting = name.partition(".")
        if setting:
            given = getattr(config, section)
            default = type(given).model_fields[setting].get_default()
            config = config.model_copy(update={section: given.model_copy(update={setting: default})})
    return config, tuple(section for section in stage.sections if section not in stage.unkeyed)
