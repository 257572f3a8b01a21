"""From clips found to the rows of a manifest, and the list of what was left out."""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from expportrait.errors import ClipError, UserError
from expportrait.files import replace_file
from expportrait.importers.common import NO_BOX, Found, LeftOut, Media, Place, clip_id, split_of
from expportrait.importers.known import distinct, ids_of, relative, renamed
from expportrait.machine import machine_fault
from expportrait.manifest.clips import COLUMNS, SPLITS, read_manifest
from expportrait.progress import progress

LEFT_OUT = ("dataset", "what", "reason", "detail")
S, T = TypeVar("S"), TypeVar("T")


@dataclass(frozen=True)
class Options:
    """Where the rows go and what is done to them, the same for all data sets."""

    dataset: str
    out: Path
    force: bool = False
    append: bool = False
    val: float = 0.05
    test: float = 0.05
    split: str | None = None  # for all rows, instead of by person
    probe: bool = True
    split_shots: bool = False
    max_seconds: float | None = None
    min_seconds: float = 1.0
    workers: int = 0

    def check(self) -> None:
        """Raises UserError for what cannot be meant, before any work."""
        if self.val < 0 or self.test < 0 or self.val + self.test > 1:
            raise UserError(f"--val {self.val:g} --test {self.test:g}: shares of the persons, at most 1 together")
        if self.split and self.split not in SPLITS:
            raise UserError(f"--split {self.split}: none of {', '.join(SPLITS)}")
        if clip_id(self.dataset) != self.dataset:
            raise UserError(f"--dataset {self.dataset!r}: letters, digits and . _ + - are expected")
        if self.force and self.append:
            raise UserError("--force replaces the table and --append adds to it: give one of them")
        if self.out.exists() and not (self.force or self.append):
            raise UserError(f"{self.out} exists; --append adds to it, --force replaces it")
        if not self.out.parent.is_dir():
            raise UserError(f"{self.out.parent} is not a folder; make it first")
        if not self.probe and (self.split_shots or self.max_seconds):
            raise UserError("--no-probe: shots and lengths cannot be known without opening the videos")
        if self.max_seconds is not None and self.max_seconds < self.min_seconds:
            raise UserError(f"--max-seconds {self.max_seconds:g} is below --min-seconds {self.min_seconds:g}")


@dataclass(frozen=True)
class Report:
    """How it went: splits and reasons with their counts, and the sources by what they were taken for."""

    rows: int
    persons: int
    splits: Counter
    reasons: Counter
    list: Path
    taken_for: dict[str, list[Path]]  # what clips were taken for, where that had to be judged -> their sources


def write(found: Iterable[Found | LeftOut], options: Options) -> Report:
    """Write the manifest and, beside it, the list of what was left out."""
    options.check()
    old, known = _read(options.out) if options.append and options.out.exists() else ([], {})
    left: list[LeftOut] = []
    clips = []
    for item in progress(found, desc=f"{options.dataset}: annotations"):
        (left if isinstance(item, LeftOut) else clips).append(item)
    clips = distinct(clips, old, options.out, left)
    clips = _official(clips, left)
    rows, ids = [], {row["clip"] for row in old}
    taken_for: dict[str, list[Path]] = {}
    for clip, places in _places(clips, options, left):
        if not ids.isdisjoint(ids_of(clip, places)):
            clip = renamed(clip, options.out)
        split = options.split or known.get(clip.group) or known.get(clip.person) or clip.split
        split = split or split_of(clip.group or clip.person, options.val, options.test)
        if places[0].note:  # all parts have it
            left.append(LeftOut(clip.clip, places[0].note, str(clip.source)))
        names = ids_of(clip, places)
        ids.update(names)
        rows += [_row(clip, place, name, split, options) for name, place in zip(names, places, strict=True)]
        taken_for.setdefault(clip.taken_for, []).append(clip.source)
    if not rows and not old:
        write_csv(left_out(options.out), LEFT_OUT, _lines(left, options))
        raise UserError(
            f"{options.dataset}: no clip is left, {options.out} is not written; why: {left_out(options.out)}"
        )
    write_csv(options.out, dict.fromkeys((*COLUMNS, *(name for row in old + rows for name in row))), old + rows)
    write_csv(left_out(options.out), LEFT_OUT, _lines(left, options))
    splits = Counter(row["split"] for row in rows)
    return Report(len(rows), len({row["person"] for row in rows}), splits, Counter(item.reason for item in left),
                  left_out(options.out), taken_for)  # fmt: skip


def left_out(out: Path) -> Path:
    """Where the list of what was left out of a manifest is."""
    return out.with_name(f"{out.stem}.left_out.csv")


def _read(file: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The rows that are there, and person or video -> split. Raises UserError where the file is no manifest."""
    there = read_manifest(file)
    known = {row.extra.get("video", ""): row.split for row in there} | {row.person: row.split for row in there}
    known.pop("", None)
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = [{(name or "").strip(): (value or "").strip() for name, value in row.items()}
                for row in csv.DictReader(text)]  # fmt: skip
    return [row for row in rows if row.get("clip")], known


def _official(clips: list[Found], left: list[LeftOut]) -> list[Found]:
    """Without those who stand in the data set's own test or validation split and in another one too."""
    reserved = {clip.group or clip.person: clip.split for clip in clips if clip.split}
    kept = []
    for clip in clips:
        split = reserved.get(clip.group or clip.person, clip.split)
        if split == clip.split:
            kept.append(clip)
        else:
            left.append(LeftOut(clip.clip, f"its person or video is in the data set's own split {split}"))
    return kept


def _places(clips: list[Found], options: Options, left: list[LeftOut]) -> list[tuple[Found, list[Place]]]:
    """Clip -> the parts of its source that become rows; without those that have none."""
    sources = list(dict.fromkeys(clip.source for clip in clips))
    media: dict[Path, Media | str] = {}
    if options.probe:
        media = dict(zip(sources, _threads(_probe, sources, options, "opening the videos"), strict=True))
    kept: list[tuple[Found, list[Place]]] = []
    for clip in clips:
        known = media.get(clip.source)
        if isinstance(known, str):
            left.append(LeftOut(clip.clip, "the source cannot be used", known))
            continue
        try:
            kept.append((clip, [clip.place(known)]))
        except ValueError as error:
            left.append(LeftOut(clip.clip, str(error), str(clip.source)))
    if not (options.split_shots or options.max_seconds):
        return kept
    parts = _threads(partial(_parts, options), kept, options, "looking for cuts" if options.split_shots else "cutting")
    result = []
    for (clip, _), (places, short, error) in zip(kept, parts, strict=True):
        if error:
            left.append(LeftOut(clip.clip, "the source cannot be used", error))
        left += [LeftOut(clip.clip, "a shot is shorter than --min-seconds", f"{a:.3f} to {b:.3f} s") for a, b in short]
        result += [(clip, places)] if places else []
    return result


def _threads(work: Callable[[S], T], items: list[S], options: Options, desc: str) -> list[T]:
    pool = ThreadPoolExecutor(options.workers or min(8, len(os.sched_getaffinity(0))))
    try:
        return list(progress(pool.map(work, items), len(items), f"{options.dataset}: {desc}"))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for what is queued


def _reason(error: Exception) -> str:
    """Why a source cannot be used; the machine's faults are raised."""
    if isinstance(error, ClipError):
        return error.reason
    if machine_fault(error):
        raise error
    return f"unforeseen {type(error).__name__}: {error}"


def _probe(source: Path) -> Media | str:
    """What the source is like, or why it cannot be used."""
    from expportrait.video.reader import open_source

    try:
        reader = open_source(source)
    except Exception as error:
        return _reason(error)
    return Media(reader.width, reader.height, reader.fps, reader.length)


def _parts(options: Options, item: tuple[Found, list[Place]]) -> tuple[list[Place], list[tuple[float, float]], str]:
    """The place cut at its shots and at ``max_seconds``; the intervals that are too short; what went wrong."""
    from expportrait.video.reader import FolderReader, open_source

    clip, (place,) = item
    try:
        source = open_source(clip.source, place.start, place.end, clip.fps or 25.0)
        if isinstance(source, FolderReader) and source.length * source.fps < 2:
            return [place], [], ""  # a portrait
        if options.split_shots or not source.length:
            shots = _shots(source, options.split_shots)
        else:
            shots = [(place.start or 0.0, min(place.end or math.inf, source.length))]
    except Exception as error:
        return [], [], _reason(error)
    if not shots:
        return [], [], "no frames between start and end"
    longest, rate = options.max_seconds or math.inf, source.fps if isinstance(source, FolderReader) else None
    if len(shots) == 1 and shots[0][1] - shots[0][0] <= longest:
        return [place], [], ""
    places, short = [], []
    for start, end in shots:
        if end - start < options.min_seconds:
            short.append((start, end))
            continue
        count = max(1, math.ceil((end - start) / longest - 1e-6))
        ends = [start + (end - start) * n / count for n in range(count + 1)]
        places += [replace(place, start=a, end=b, fps=rate) for a, b in pairwise(ends)]
    return places, short, ""


def _shots(source: "VideoReader | FolderReader", cuts: bool) -> list[tuple[float, float]]:  # noqa: F821
    """Start and end of the shots, or of the whole, in s."""
    from expportrait.settings.config import Crop
    from expportrait.video.shots import ShotFinder, gaps

    finder, times = ShotFinder(Crop().cut if cuts else 255), []
    for time, frame in source.frames(320):
        times.append(time)
        if cuts:
            finder.add(frame)
    if not times:
        return []
    times.append(times[-1] + 1 / source.fps)
    ends = {frame: times[frame - 1] + 1 / source.fps for frame in gaps(times)}
    shots = finder.shots(times[:-1]) if cuts else pairwise([0, *ends, len(times) - 1])
    return [(times[first], ends.get(end, times[end])) for first, end in shots]


def _row(clip: Found, place: Place, name: str, split: str, options: Options) -> dict[str, str]:
    times = {side: f"{value:.4f}".rstrip("0").rstrip(".") for side in ("start", "end")
             if (value := getattr(place, side)) is not None}  # fmt: skip
    box = " ".join(f"{value:.1f}".removesuffix(".0") for value in place.box or ())
    rate = clip.fps or place.fps
    fps = f"{rate:g}" if rate else ""
    return clip.extra | times | {
        "clip": name, "dataset": options.dataset, "source": relative(clip.source, options.out), "box": box,
        "person": clip.person, "split": split, "fps": fps,
    }  # fmt: skip


def _lines(left: list[LeftOut], options: Options) -> list[dict[str, str]]:
    """The list's lines, after those of other data sets in the same table."""
    old: list[dict[str, str]] = []
    if options.append and left_out(options.out).exists():
        with left_out(options.out).open(encoding="utf-8", newline="") as text:
            old = [row for row in csv.DictReader(text) if row.get("dataset") != options.dataset]
    return old + [dict(zip(LEFT_OUT, (options.dataset, item.what, item.reason, item.detail), strict=True))
                  for item in left]  # fmt: skip


def write_csv(file: Path, columns: Iterable[str], rows: list[dict[str, str]]) -> None:
    """A table, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(file, text.getvalue().encode(errors="backslashreplace"))


def kept(reason: str) -> bool:
    """Whether a reason is one why a row lacks something, and not one why there is no row."""
    return reason.startswith(NO_BOX)
