"""Trained models that are given by their folders: put where the stages look for them, and what follows for settings."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from expportrait.engine.record import write_json
from expportrait.errors import UserError
from expportrait.files import beside, sha256

ABOUT = {"generator": "generator.json", "transfer": "training.json"}  # which file of a model's folder says what it is
WORDS = {"generator": "generator", "transfer": "transfer module"}
FEW, OVERLAP = 4, 9  # sampling steps of a model that predicts the portrait's change; frames of cross-fading


def find(kind: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder that holds a model of the stage ``kind``, ``folder`` itself or its model/, and what it says of
    itself; its ``key`` is another one where the weights are others. Raises UserError where there is none."""
    for place in (folder / "model", folder):
        try:
            about = json.loads((place / ABOUT[kind]).read_text("utf-8"))
            return place.absolute(), about | {"key": _key(str(about["key"]), place)}
        except (OSError, ValueError, TypeError, KeyError):
            continue
    raise UserError(f"--{kind}: {folder} holds no trained {kind}: there is no {ABOUT[kind]} in it or in its model/")


def _key(key: str, folder: Path) -> str:
    """Trained twice by the same settings, on two machines, models have one key and are not equal."""
    weights = [sha256(file) for file in sorted(folder.rglob("*.safetensors"))]
    return f"{key}-{hashlib.sha256(repr(weights).encode()).hexdigest()[:8]}" if weights else key


def sampled(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings that a generator's own file asks for: its codec, size, window and maps; and how it is sampled, by the
    noise it was trained on, in few steps and with the portrait's own pixels where it changes a carried portrait."""
    try:
        return _sampled(about)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--generator: its generator.json is none that this version writes ({error!r}): "
                        "run the stage generator again") from None  # fmt: skip


def _sampled(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
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
    with ExitStack() as locks:
        for kind, (folder, about) in sorted(models.items()):
            results.mkdir(parents=True, exist_ok=True)
            lock = locks.enter_context((results / f".{kind}.lock").open("a"))
            if not _is_there(results / kind, folder, about):
                with suppress(BlockingIOError):  # somebody uses one, or is just putting the same one there
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _put(results / kind, folder, about)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if not _is_there(results / kind, folder, about):
                raise UserError(f"another animate works in {results} with another {WORDS[kind]}: wait for it, or name "
                                "another folder by --results")  # fmt: skip
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
