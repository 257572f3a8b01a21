"""Stage ``evaluate``: each pair's video in numbers, beside the paper's published rows (docs/evaluate.md)."""

import csv
import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from expportrait.engine.record import Outcome, write_json
from expportrait.engine.results import JsonWriter
from expportrait.engine.stage import Clip
from expportrait.errors import ClipError
from expportrait.files import new_file, replace_file
from expportrait.generator.data import resize
from expportrait.machine import writing
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import FROM
from expportrait.metrics.listing import BY_FRAME, BY_PAIR, frame_lines, pair_lines
from expportrait.metrics.pair import METHODS, METRICS, measure
from expportrait.metrics.table import markdown, summary
from expportrait.metrics.tools import Tools, read_tracks
from expportrait.settings.config import Config, Drive
from expportrait.stages import PIPELINE
from expportrait.store import Store
from expportrait.store.frames import Chosen, Frames

STEERED = "steered"  # of pairs, beside self and cross: no mean counts them
KEPT = 64 << 20  # bytes of frames of a clip: measuring reads it twice, from its start to its end


def load(settings: SimpleNamespace, device: str) -> Tools:
    return Tools.load(settings.evaluate, device)


def needless(row: Row, parents: dict[str, Store], settings: SimpleNamespace) -> str:
    """A portrait that drives itself is its own result; and of what controls make of a driver there is no truth."""
    if steering := steered_by(row, settings.drive):
        return f"the motion is not the driver's as it is ({', '.join(steering)}), and there is no other to compare with"
    video = parents[f"reenact {row.clip}"]
    if _measured_frames(row, video, settings.evaluate.stride):
        return ""
    return "the video is the portrait that the network was given and nothing else"


def process(clip: Clip, out: JsonWriter) -> None:
    """A pair's rows of the table, and its values and where faces were found, frame by frame."""
    s, about = clip.settings.evaluate, described(clip.row, clip.settings.drive)
    video = clip.parents[f"reenact {about['pair']}"]
    target, driver = (clip.parents[f"crop {about[name]}"] for name in ("target", "driver"))
    made, driving = Frames(video, "frames", KEPT), Frames(driver, "frames", KEPT)
    carried = Frames(clip.parents[f"appearance {about['pair']}"], "appearance", KEPT)
    reference, size = video.attrs["reference"], made.shape[1]
    if made.shape[0] > driving.shape[0]:
        raise ClipError(f"the video has {made.shape[0]} frames, its driver {driving.shape[0]}: run reenact again",
                        retry=True)  # fmt: skip
    frames = _measured_frames(clip.row, video, s.stride)
    pictures, moved, truth = (Chosen(of, frames, partial(resize, size=size)) for of in (made, carried, driving))
    portrait = resize(Frames(target, "frames")[[reference]], size)[0]
    tracks = read_tracks(s, about, frames, reference, made.shape[0])
    scores = measure(clip.tools, pictures, truth, portrait, about["mode"] == "self", tracks, moved)
    about |= {"reference": reference, "size": size, "frames": len(frames)}
    about["trained_on"] = _trained_on(video.path.parents[1], about)
    out.write(
        rows=[{"method": method} | about | one.fields() for method, one in scores.items()],
        frames=frames,
        values={method: {name: _numbers(v) for name, v in one.values.items()} for method, one in scores.items()},
        faces={method: {of: found.tolist() for of, found in one.faces.items()} for method, one in scores.items()},
    )


def finish(pairs: list[Row], index: dict[str, Outcome], config: Config) -> None:
    """Write frames.csv, table.csv, table.md and, last, table.json into results/evaluate. A pair that was not measured
    has rows without numbers and with the reason."""
    stage = PIPELINE["evaluate"]
    table, rows = config.results / stage.table, []
    with writing(table), new_file(table.with_name("frames.csv")) as file:
        frames = csv.writer(file, lineterminator="\n")
        frames.writerow(BY_FRAME)
        for pair in pairs:
            outcome = index[pair.clip]
            if outcome.status != "ok":
                rows += _without(described(pair, config.told(pair.settings).drive), outcome.why)
                continue
            known = json.loads(stage.result(config.results, pair.clip).read_text("utf-8"))
            rows += known["rows"]
            frames.writerows(frame_lines(known))
    means = summary(rows)
    with writing(table):
        with new_file(table.with_suffix(".csv")) as file:
            csv.writer(file, lineterminator="\n").writerows([BY_PAIR, *pair_lines(rows)])
        replace_file(table.with_suffix(".md"), markdown(rows, means).encode())
    write_json(table, {"rows": rows, "means": means})


def described(pair: Row, drive: Drive) -> dict[str, str]:
    """What all rows say of a pair."""
    target, driver = pair.extra["target"], pair.extra["driver"]
    mode = STEERED if steered_by(pair, drive) else "self" if target == driver else "cross"
    return {"pair": pair.clip, "target": target, "driver": driver, "mode": mode}


def steered_by(pair: Row, drive: Drive) -> list[str]:
    """Which columns and settings give a pair another motion than its driver's, or another amount of it."""
    changed = [name for name in drive.distinct() if name in ("hold", "gaze", "max_move") or name.startswith("gain_")]
    return [*(name for name in FROM if name in pair.extra), *changed]


def _measured_frames(pair: Row, video: Store, stride: int) -> list[int]:
    """Every so many frames of a pair's video. Where it drives itself, copying the portrait is perfect in the reference
    frame, and the network was given the very picture."""
    own, reference = pair.extra["target"] == pair.extra["driver"], video.attrs["reference"]
    return [t for t in range(0, video.lazy("frames").shape[0], stride) if not (own and t == reference)]


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
    empty = dict.fromkeys((*METRICS, "reference", "size", "frames", "identical", "no_face", "counted", "trained_on"))
    rest = {"backends": {}, "reasons": dict.fromkeys(METRICS, why)}
    return [{"method": method} | about | empty | rest for method in METHODS]
