"""Trained models that are given by their folders: put where the stages look for them, and what follows for settings."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expportrait.engine.record import write_json
from expportrait.errors import UserError
from expportrait.files import beside

ABOUT = {"generator": "generator.json", "transfer": "training.json"}  # which file of a model's folder says what it is
FEW, OVERLAP = 4, 9  # sampling steps of a model that predicts the portrait's change; frames of cross-fading


def find(kind: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder that holds a model of the stage ``kind``, ``folder`` itself or its model/, and what it says of
    itself. Raises UserError where there is none."""
    for place in (folder / "model", folder):
        try:
            about = json.loads((place / ABOUT[kind]).read_text("utf-8"))
            return place.absolute(), about | {"key": str(about["key"])}
        except (OSError, ValueError, TypeError, KeyError):
            continue
    raise UserError(f"--{kind}: {folder} holds no trained {kind}: there is no {ABOUT[kind]} in it or in its model/")


def sampled(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings that a generator's own file asks for: its codec, size, window and maps; and how it is sampled, by the
    noise it was trained on, in few steps and with the portrait's own pixels where it changes a carried portrait."""
    codec, maps = about["codec"], about["maps"]
    latents = {"codec": codec["codec"], "size": about["size"], "window": about["window"]}
    if codec["codec"] == "linear":
        latents |= {"channels": codec["channels"], "space": codec["space"]}
    carried = not {"appearance", "seen"}.isdisjoint(maps)
    reenact = {"overlap": min(OVERLAP, (about["window"] + 1) // 2), "detail": float(carried)}
    if about["model"]["prediction"] == "x0":
        reenact["steps"] = FEW
    if "shift" in about:
        reenact["shift"] = about["shift"]
    drawn = [name for name in maps if name in ("depth", "region", "eyes")]
    return {"latents": latents, "generator": {"maps": maps}, "reenact": reenact, "control": {"maps": drawn}}


@contextmanager
def placed(results: Path, models: dict[str, tuple[Path, dict[str, Any]]]) -> Iterator[None]:
    """Inside, the stages find the ``models`` (stage -> ``find``) in ``results``, and nobody puts others there.

    Raises UserError where another process works there with others.
    """
    results.mkdir(parents=True, exist_ok=True)
    with (results / ".models.lock").open("a") as lock:
        if not all(_is_there(results / kind, *model) for kind, model in models.items()):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"another animate works in {results} with another generator or transfer module: wait "
                                "for it, or name another folder by --results") from None  # fmt: skip
            for kind, (folder, about) in models.items():
                _put(results / kind, folder, about)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _is_there(home: Path, folder: Path, about: dict[str, Any]) -> bool:
    try:
        index = json.loads((home / "index.json").read_text("utf-8"))
        return index["key"] == about["key"] and Path(os.readlink(home / "model")) == folder
    except (OSError, ValueError, KeyError):
        return False


def _put(home: Path, folder: Path, about: dict[str, Any]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "index.json").unlink(missing_ok=True)
    link = beside(home / "model")
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    link.replace(home / "model")
    write_json(home / "index.json", {"status": "ok", "key": about["key"], "why": ""})
