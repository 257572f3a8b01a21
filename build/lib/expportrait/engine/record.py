"""What is recorded of clips: the state that a stage's folder holds, the keys, the shards' indexes.

Beside the stores lie ``<clip>.failed.json``, why there is none, and one index a shard (docs/artifacts.md).
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from expportrait.engine.damage import listed
from expportrait.errors import UserError
from expportrait.files import replace_file
from expportrait.machine import machine_fault, writing
from expportrait.store import Store, StoreError

NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Outcome:
    """One clip's line in an index. ``status``: ok; failed; skipped, where a parent is not ok (then without key), or
    where nothing that follows needs the clip in this stage (``why`` begins with "not needed: "). In the loop also
    waits, where a parent's store is damaged: that is never written down."""

    status: str
    key: str | None = None
    why: str = ""


def needless(key: str, why: str) -> Outcome:
    """The outcome of a clip that the stage has nothing to make of."""
    return Outcome("skipped", key, f"{NOT_NEEDED}: {why}")


def counted(status: str, why: str) -> str:
    """What an outcome is counted under: its status, or NOT_NEEDED."""
    return NOT_NEEDED if status == "skipped" and why.startswith(f"{NOT_NEEDED}: ") else status


def unreadable(store: Path) -> str:
    """Why a store cannot be read that is there, or that an index promises; empty where none is due."""
    try:
        return "" if "key" in Store(store).attrs else f"{store} is damaged: it has no key"
    except StoreError as error:
        if machine_fault(error):
            raise
        return str(error) if store.exists() or listed(store.parent, store.stem) else ""


def state(home: Path, clip: str) -> Outcome:
    """What a stage's folder ``home`` holds of a clip, whichever run left it."""
    record = read_record(home / f"{clip}.failed.json")
    if record is not None:
        return Outcome(record["status"], record["key"], record["why"])
    try:
        return Outcome("ok", Store(home / f"{clip}.zarr").attrs["key"])
    except (StoreError, KeyError) as error:
        if machine_fault(error):
            raise
        command = home.parent.name if home.name == "targets" else home.name  # drive makes drive/targets
        return Outcome("failed", None, f"not there yet, run `expportrait {command}` first")


def whole_state(home: Path) -> Outcome:
    """The same of a stage that makes one thing for the whole run, from its index.json."""
    found = read_record(home / "index.json")
    if found is None:
        return Outcome("failed", None, f"not there yet, run `expportrait {home.name}` first")
    return Outcome(found["status"], found["key"], found["why"])


def write_json(file: Path, data: Any) -> None:
    """Sorted, and never seen half-written."""
    with writing(file):
        replace_file(file, (json.dumps(data, indent=1, sort_keys=True) + "\n").encode())


def write_index(file: Path, index: dict[str, Outcome]) -> None:
    """The declared output of a stage's shard: clip -> status, key, why."""
    write_json(file, {clip: asdict(outcome) for clip, outcome in index.items()})


def read_index(file: Path) -> dict[str, Outcome]:
    """Raises UserError where it is missing or not an index."""
    try:
        return {clip: Outcome(**line) for clip, line in json.loads(file.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is not a readable index ({error}); run its stage again") from None


def read_record(file: Path) -> dict | None:
    """A JSON file's content; None where there is none that can be read."""
    with suppress(OSError, ValueError):
        return json.loads(file.read_text("utf-8"))
    return None
