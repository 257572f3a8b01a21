"""Stage ``evaluate``: each pair's video in numbers, beside the paper's published rows (docs/evaluate.md)."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from expportrait.engine.costs import billed
from expportrait.engine.damage import found_damaged, mark
from expportrait.engine.heartbeat import Heartbeat, at_work
from expportrait.engine.record import content_key, needless, state, unreadable, write_json
from expportrait.errors import ClipError, NotNeeded
from expportrait.generator.data import resize
from expportrait.machine import machine_fault, writing
from expportrait.manifest.pairs import DATASET, pair_name
from expportrait.metrics.pair import METHODS, METRICS, Tools, measure, read_tracks
from expportrait.metrics.table import markdown
from expportrait.progress import progress, say
from expportrait.settings.config import Config
from expportrait.stages.contracts import contract, tracks_of
from expportrait.store import Store, StoreError
from expportrait.store.frames import Chosen, Frames

KEPT = 64 << 20  # bytes of frames of a clip: measuring reads it twice, from its start to its end

STAGE = replace(contract("evaluate"), version=3)


def run(pairs: list[tuple[str, str]], config: Config, device: str) -> Path:
    """Measure the pairs (target, driver) and write results/evaluate/table.md and, last, table.json, which it returns.

    A pair whose video is missing or unusable has rows without numbers and with the reason. Pairs that are done are kept
    in pairs/<pair>.json and not measured again; pairs/<pair>.failed.json says why one could not be measured, or need
    not be, and is tried again by every run. Raises UserError where the settings ask for what is not there, and
    MachineFault, without a table, where stores are damaged: they are marked, and the other pairs are measured first.
    """
    with at_work(config.results, STAGE.name, len(pairs), "pairs") as beat:
        return _run(pairs, config, device, beat)


def _run(pairs: list[tuple[str, str]], config: Config, device: str, beat: Heartbeat) -> Path:
    home = config.results / STAGE.name
    rows: list[dict] = []
    damaged: list[str] = []
    tools: Tools | None = None
    for target, driver in progress(beat.each(pairs, lambda pair: pair_name(*pair)), len(pairs), STAGE.name):
        name = pair_name(target, driver)
        about = {"pair": name, "target": target, "driver": driver, "mode": "self" if target == driver else "cross"}
        record, key = home / "pairs" / f"{name}.failed.json", None
        try:
            key = _key(config, name, target, driver)
            done = _done(home / "pairs" / f"{name}.json", key)
            if done is None:
                tools, started = tools or Tools.load(config.evaluate, device), time.monotonic()
                with billed(home / "pairs", "", STAGE.name, name, DATASET, device):
                    done = {"key": key, **_measured(tools, config, about)}
                beat.took(time.monotonic() - started)
                write_json(home / "pairs" / f"{name}.json", done)
            with writing(record):
                record.unlink(missing_ok=True)
            rows += done["rows"]
        except NotNeeded as error:
            outcome = needless(key, error.reason)
            write_json(record, asdict(outcome))
            say(f"{STAGE.name} {name}: {outcome.status}: {outcome.why}")
            rows += _without(about, outcome.why)
        except (ClipError, StoreError) as error:
            if machine_fault(error):
                raise
            say(f"{STAGE.name} {name}: {error}")
            if isinstance(error, StoreError) and error.path is not None:
                mark(error.path, str(error))
                damaged.append(str(error))
                continue
            if key is not None:
                write_json(record, {"status": "failed", "key": key, "why": str(error)})
            rows += _without(about, str(error))
    if damaged:
        raise found_damaged(STAGE.name, damaged)
    with writing(home / "table.md"):
        home.mkdir(parents=True, exist_ok=True)
        (home / "table.md").write_text(markdown(rows), "utf-8")
    write_json(home / "table.json", rows)
    return home / "table.json"


def _key(config: Config, name: str, target: str, driver: str) -> str:
    """Raises ClipError where one of the stores is not there, StoreError where it is damaged."""
    parents = {}
    for stage, clip in (("reenact", name), ("crop", target), ("crop", driver)):
        found = state(config.results / stage, clip)
        if found.status == "failed" and found.key is None:
            store = config.results / stage / f"{clip}.zarr"
            if why := unreadable(store):
                raise StoreError(why, store)
        if found.status != "ok":
            raise ClipError(f"{stage} {clip}: {found.why}", retry=True)
        parents[f"{stage} {clip}"] = found.key
    parents |= tracks_of(config, target, driver)
    return content_key(STAGE.name, STAGE.version, config.identity(STAGE.sections, name), parents)


def _done(file: Path, key: str) -> dict | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(file.read_text("utf-8"))
        return known if known["key"] == key else None
    return None


def _measured(tools: Tools, config: Config, about: dict) -> dict:
    """A pair's rows, and its values frame by frame."""
    results, own = config.results, about["mode"] == "self"
    video = Store(results / "reenact" / f"{about['pair']}.zarr")
    target, driver = (Store(results / "crop" / f"{about[name]}.zarr") for name in ("target", "driver"))
    made, driving = Frames(video, "frames", KEPT), Frames(driver, "frames", KEPT)
    reference, size = video.attrs["reference"], made.shape[1]
    if made.shape[0] > driving.shape[0]:
        raise ClipError(f"the video has {made.shape[0]} frames, its driver {driving.shape[0]}: run reenact again")
    # copying the portrait is perfect there, and the network was given the very picture
    frames = [t for t in range(0, made.shape[0], config.evaluate.stride) if not (own and t == reference)]
    if not frames:
        raise NotNeeded("the video is the portrait that the network was given and nothing else")
    pictures, truth = (Chosen(clip, frames, partial(resize, size=size)) for clip in (made, driving))
    portrait = resize(Frames(target, "frames")[[reference]], size)[0]
    tracks = read_tracks(config.evaluate, about, frames, reference, made.shape[0])
    scores = measure(tools, pictures, truth, portrait, own, tracks)
    about = about | {"reference": reference, "size": size, "frames": len(frames)}
    about["trained_on"] = _trained_on(results, about)
    return {
        "rows": [{"method": method} | about | one.fields() for method, one in scores.items()],
        "frames": frames,
        "values": {method: {name: _numbers(v) for name, v in one.values.items()} for method, one in scores.items()},
    }


def _trained_on(results: Path, about: dict) -> list[str] | None:
    """Which of target and driver the generator was trained on, None where that is not known."""
    with suppress(OSError, ValueError, KeyError):
        clips = json.loads((results / "generator" / "index.json").read_text("utf-8"))["clips"]
        return [name for name in ("target", "driver") if about[name] in clips]
    return None


def _numbers(values: np.ndarray) -> list[float | None]:
    """JSON has neither NaN nor infinity."""
    return [float(v) if np.isfinite(v) else None for v in values]


def _without(about: dict, why: str) -> list[dict]:
    empty = dict.fromkeys((*METRICS, "reference", "size", "frames", "identical", "no_face", "trained_on"))
    rest = {"backends": {}, "reasons": dict.fromkeys(METRICS, why)}
    return [{"method": method} | about | empty | rest for method in METHODS]
