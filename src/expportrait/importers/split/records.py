"""What was found in a video, as a file: a video that has one is not looked at again."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from expportrait.files import replace_file
from expportrait.importers.split.sources import Source
from expportrait.machine import writing
from expportrait.settings.config import Config

VERSION = 2  # bumped where equal settings give other clips
ELSEWHERE = {"sources", "shards"}  # settings that do not change what is found in a video
OF_CROP = {"cut", "min_frames", "min_coverage", "min_sharpness", "min_brightness", "max_brightness"}  # that do


def key_of(source: Source, config: Config) -> str:
    """Changes with all that a video's clips depend on: its size and time of change, its ``rev``, the settings. Raises
    OSError where the video is not there."""
    about = os.stat(source.path)
    settings = [config.split.model_dump(exclude=ELSEWHERE), config.crop.model_dump(include=OF_CROP),
                config.landmarks.max_outside]  # fmt: skip
    told = [VERSION, about.st_size, about.st_mtime_ns, source.given.get("rev", ""), settings]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def read(folder: Path, source: Source, key: str) -> dict[str, Any] | None:
    """The record of a video; None where there is none of this key."""
    try:
        record = json.loads((folder / f"{source.name}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and record.keys() >= {"key", "fault", "length", "clips", "left"}
    return record if whole and record["key"] == key else None


def check(folder: Path) -> None:
    """Raises MachineFault where no record can be written, before a film of hours is looked at for nothing."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def write(folder: Path, source: Source, record: dict[str, Any]) -> None:
    """Whole or not at all. Raises MachineFault where it cannot be written."""
    file = folder / f"{source.name}.json"
    with writing(file):
        replace_file(file, json.dumps(record, sort_keys=True).encode())
