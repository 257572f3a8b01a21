"""The one loop that all per-clip stages share: reuse, compute or explain, clip by clip."""

import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from tqdm import tqdm

from expportrait.engine.costs import billed
from expportrait.engine.damage import found_damaged, mark, marker
from expportrait.engine.heartbeat import Heartbeat, wait_for_another
from expportrait.engine.prefetch import AHEAD, CLIPS, Stopped, Turns, ahead, in_order, worthwhile
from expportrait.engine.record import (
    Outcome,
    content_key,
    needless,
    read_record,
    source_key,
    state,
    unreadable,
    whole_state,
    write_json,
)
from expportrait.errors import ClipError, StageBroken, UserError
from expportrait.machine import machine_fault, machine_faults
from expportrait.manifest.clips import Row
from expportrait.progress import bar, progress, say
from expportrait.settings.config import Config
from expportrait.store import Store, StoreError, StoreWriter

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """``process(clip, out)`` makes one store, or raises ClipError. ``load(settings, device)`` gets the models, once.

    Bump ``version`` when equal settings give another result, also when a default changes. ``overlaps``: two clips may
    be in work at once, since ``process`` uses the models only to make what it gives to ``clip.computed``.
    """

    name: str
    version: int
    sections: tuple[str, ...]
    parents: tuple[str, ...]
    process: Callable[["Clip", StoreWriter], None]
    load: Callable[[Any, str], Any] | None = None
    whole: tuple[str, ...] = ()  # further parents that make one thing for the whole run, such as a trained model
    # parents that are other clips': name -> stage and clip; ``parents`` then counts for nothing
    others: Callable[[Row], dict[str, tuple[str, str]]] | None = None
    overlaps: bool = False
    # why nothing that follows needs the clip in this stage, empty where it does; asked before any model is loaded
    needless: Callable[[Row, dict[str, Store], Any], str] | None = None


@dataclass
class Clip:
    """What ``process`` gets. ``settings`` has the stage's own sections only; ``tools`` is what ``load`` returned.

    ``device`` (cpu, cuda) and ``backend`` (of the rasteriser) do not change what comes out.
    """

    row: Row
    parents: dict[str, Store]
    settings: Any
    tools: Any
    device: str
    backend: str = "auto"
    title: str = ""
    heard: Callable[[str], None] | None = None  # told how far the bars are
    turns: Turns = field(default_factory=Turns)
    number: int = 0  # of the clip in its shard
    overlap: bool = False

    def computed(self, items: Iterable[T], waiting: int = AHEAD) -> Iterator[T]:
        """``items``, made with the models, such as batches of maps; ``waiting`` of them ahead of the caller where it
        pays. Once a clip: with the last one made, it is the next clip's turn."""

        def made() -> Iterator[T]:
            yield from items
            self.turns.leave(self.number)

        self.turns.wait(self.number)
        for item in ahead(made(), self.overlap, waiting):
            self.turns.check()
            yield item

    def progress(self, items: Iterable[T], total: int | None = None, desc: str = "") -> Iterable[T]:
        """``items``, with their progress on stderr."""
        return progress(items, total, f"{self.title}: {desc}" if desc else self.title, self.heard)

    def bar(self, desc: str, total: int | None = None) -> tqdm:
        """A bar to be moved by hand."""
        return bar(total, f"{self.title}: {desc}", heard=self.heard)


def run(
    stage: Stage, rows: list[Row], config: Config, device: str = "cpu", backend: str = "auto", shard: str = ""
) -> dict[str, Outcome]:
    """Bring the clips up to date; returns their index. What is done stays done, however this ends.

    ``shard``: its name, under which ``expportrait watch`` sees the work. Raises MachineFault, also for stores that are
    damaged, UserError, or StageBroken when more than max(2, half of the clips) fail unforeseen.
    """
    file = config.results / "logs" / stage.name / f"{shard}.progress.json" if shard else None
    if file:
        wait_for_another(file)
    beat = Heartbeat(file, stage.name, shard, len(rows))
    runner = _Runner(stage, config, device, backend, beat)
    at_once = CLIPS if stage.overlaps and runner.overlap else 1
    index: dict[str, Outcome] = {}
    counts: Counter[str] = Counter()
    ended = False
    try:
        with machine_faults():
            numbered = progress(enumerate(rows), len(rows), stage.name)
            with closing(in_order(runner.outcome, numbered, at_once, runner.turns)) as outcomes:
                for (_, row), outcome in outcomes:
                    index[row.clip] = outcome
                    counts[outcome.status] += 1
                    beat.tell(done=len(index), counts=dict(counts), computed=runner.computed, seconds=runner.seconds)
                    if outcome.status != "ok":
                        say(f"{stage.name} {row.clip}: {outcome.status}: {outcome.why}")
                    if runner.unforeseen > max(2, len(rows) / 2):
                        raise StageBroken(
                            f"{stage.name}: {runner.unforeseen} of {len(index)} clips failed in unforeseen ways, so "
                            f"the stage must be wrong; the last one: {outcome.why}"
                        )
        ended = True
    finally:
        beat.end(ended)
    done = ", ".join(f"{counts[name]} {name}" for name in ("ok", "failed", "skipped", *["waits"] * ("waits" in counts)))
    say(f"{stage.name}: {done}, {runner.computed} computed")
    if runner.damaged:
        raise found_damaged(stage.name, runner.damaged)
    return index


class _Runner:
    def __init__(self, stage: Stage, config: Config, device: str, backend: str, beat: Heartbeat):
        self.stage, self.config, self.device, self.backend, self.beat = stage, config, device, backend, beat
        self.settings = SimpleNamespace(**{name: getattr(config, name) for name in stage.sections})
        self.home = config.results / stage.name
        self.tools: Any = None
        self.unforeseen = self.computed = 0
        self.seconds = 0.0  # spent on those computed
        self.damaged: list[str] = []
        self.turns, self.overlap = Turns(), worthwhile(device)
        self.counting = threading.Lock()
        self.last = time.monotonic()  # when the clip before was done

    def stores(self, row: Row) -> dict[str, Path]:
        """Where the parents of a clip are."""
        others = (
            self.stage.others(row) if self.stage.others else {name: (name, row.clip) for name in self.stage.parents}
        )
        return {name: self.config.results / stage / f"{clip}.zarr" for name, (stage, clip) in others.items()}

    def outcome(self, numbered: tuple[int, Row]) -> Outcome:
        """The clip's state after doing what is needed, recorded beside its store."""
        number, row = numbered
        self.beat.tell(now=row.clip, step="")
        try:
            return self._outcome(number, row)
        finally:
            self.turns.leave(number)

    def _outcome(self, number: int, row: Row) -> Outcome:
        record, path = self.home / f"{row.clip}.failed.json", self.home / f"{row.clip}.zarr"
        paths = self.stores(row)
        parents = {name: state(store.parent, store.stem) for name, store in paths.items()}
        for name, store in paths.items():
            if parents[name].status == "failed" and parents[name].key is None and (why := unreadable(store)):
                return self._broken(store, why)
        parents |= {name: whole_state(self.config.results / name) for name in self.stage.whole}
        for name, parent in parents.items():
            if parent.status != "ok":
                why = parent.why if parent.status == "skipped" else f"{name}: {parent.why}"
                write_json(record, asdict(Outcome("skipped", None, why)))
                return Outcome("skipped", None, why)
        key = clip_key(self.stage, row, self.config, {name: parent.key for name, parent in parents.items()})
        doubt = marker(path)
        if _holds(path, key, doubt.exists()):
            record.unlink(missing_ok=True)
            doubt.unlink(missing_ok=True)
            return Outcome("ok", key)
        try:
            if why := self._needless(row):
                write_json(record, asdict(outcome := needless(key, why)))
                return outcome
            known = read_record(record)
            if known is not None and known.get("key") == key and not known.get("retry"):
                return Outcome("failed", key, known["why"])
            with billed(path.parent, self.beat.data["shard"], self.stage.name, row.clip, row.dataset, self.device):
                self._compute(number, row, key)
        except ClipError as error:
            about = {"retry": error.retry} | ({"quality": error.quality} if error.quality else {})
            write_json(record, asdict(outcome := Outcome("failed", key, error.reason)) | about)
            return outcome
        except StoreError as error:
            if machine_fault(error):  # a machine that cannot open files has not seen what is in them
                raise
            return self._broken(error.path, str(error))
        record.unlink(missing_ok=True)
        doubt.unlink(missing_ok=True)
        return Outcome("ok", key)

    def _broken(self, parent: Path, why: str) -> Outcome:
        """A parent's store is damaged, which is nobody's fault: it is marked, nothing is recorded of this clip."""
        mark(parent, why)
        self.damaged.append(why)
        return Outcome("waits", None, why)

    def _needless(self, row: Row) -> str:
        """Why the stage has nothing to make of the clip, empty where it has. Raises StoreError for a damaged parent."""
        if self.stage.needless is None:
            return ""
        parents = {name: Store(path) for name, path in self.stores(row).items()}
        return self.stage.needless(row, parents, self.settings)

    def _compute(self, number: int, row: Row, key: str) -> None:
        """Make the store. Raises ClipError for whatever is the clip's trouble, StoreError for a damaged parent."""
        stage, started = self.stage, time.monotonic()
        title = f"{stage.name} {row.clip}"
        if self.tools is None and stage.load is not None:
            self.turns.wait(number)  # one clip loads them for all
            self.tools = self.tools or stage.load(self.settings, self.device)
        try:
            parents = {name: Store(path) for name, path in self.stores(row).items()}
            settings = {name: getattr(self.config, name).model_dump(mode="json") for name in stage.sections}
            attrs = {"stage": stage.name, "version": stage.version, "clip": row.clip, "settings": settings}
            with StoreWriter(self.home / f"{row.clip}.zarr", attrs | {"key": key}, self.overlap) as out:
                clip = Clip(row, parents, self.settings, self.tools, self.device, self.backend, title, self._heard,
                            self.turns, number, self.overlap)  # fmt: skip
                stage.process(clip, out)
        except (ClipError, UserError, Stopped):
            raise
        except Exception as error:
            damaged = isinstance(error, StoreError) and error.path in self.stores(row).values()
            if machine_fault(error) or damaged:
                raise
            with self.counting:
                self.unforeseen += 1
            say(f"{title}:\n{traceback.format_exc()}")
            raise ClipError(f"unforeseen {type(error).__name__}: {error}", retry=True) from error
        with self.counting:
            done = time.monotonic()
            self.computed += 1
            self.seconds += done - max(started, self.last)  # of two clips at once, what the second one adds
            self.last = done
        say(f"{title}: done in {done - started:.1f} s")

    def _heard(self, step: str) -> None:
        self.beat.tell(step=step)


def _holds(store: Path, key: str, doubtful: bool) -> bool:
    """Whether the store was made from that and is whole; ``doubtful``: all of its bytes are looked at."""
    try:
        return Store(store).check(read=doubtful).attrs.get("key") == key
    except StoreError as error:
        if machine_fault(error):
            raise
        return False


def clip_key(stage: Stage, row: Row, config: Config, parents: dict[str, str | None]) -> str:
    """Hash of everything that the clip's store depends on; the first stage stands on the row and its source."""
    root = {} if parents else {"row": row.identity(), "made": source_key(row.path)}
    return content_key(stage.name, stage.version, config.identity(stage.sections, row.clip), root | parents)
