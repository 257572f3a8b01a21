"""The one loop that all stages of clips and of pairs share: reuse, compute or explain, one after the other."""

import threading
import time
import traceback
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from expportrait.engine.costs import billed
from expportrait.engine.damage import found_damaged, mark, marker
from expportrait.engine.heartbeat import Heartbeat, beating
from expportrait.engine.keys import Keys
from expportrait.engine.prefetch import CLIPS, Stopped, Turns, in_order, worthwhile
from expportrait.engine.record import Outcome, needless, read_record, state, unreadable, whole_state, write_json
from expportrait.engine.results import HOLDS, WRITERS
from expportrait.engine.stage import ALL, RECORDS, Clip, Stage, Work
from expportrait.errors import ClipError, StageBroken, UserError
from expportrait.machine import machine_fault, machine_faults
from expportrait.manifest.clips import Row
from expportrait.progress import progress, say
from expportrait.settings.config import Config
from expportrait.store import Store, StoreError


def run(
    stage: Stage, rows: list[Row], config: Config, device: str = "cpu", backend: str = "auto", shard: str = ""
) -> dict[str, Outcome]:
    """Bring the clips or pairs up to date; returns their index. What is done stays done, however this ends.

    ``stage``: with its code. ``shard``: its name, under which ``expportrait watch`` sees the work. Raises
    MachineFault, also for stores that are damaged, UserError, or StageBroken when more than max(2, half of the clips)
    fail unforeseen.
    """
    file = None
    if shard or stage.table:
        file = config.results / "logs" / f"{f'{stage.name}/{shard}' if shard else stage.name}.progress.json"
    with beating(file, stage.name, shard, len(rows), "pairs" if stage.table else "clips") as beat, machine_faults():
        runner = _Runner(stage, config, device, backend, beat)
        index = runner.all(rows)
        if stage.finish and not runner.damaged:
            stage.finish(rows, index, config)
    if runner.damaged:
        raise found_damaged(stage.name, runner.damaged)
    return index


class _Runner:
    def __init__(self, stage: Stage, config: Config, device: str, backend: str, beat: Heartbeat):
        self.stage, self.config, self.device, self.backend, self.beat = stage, config, device, backend, beat
        self.keys, self.settings = Keys(stage, config), stage.settings(config)
        self.tools: Any = None
        self.unforeseen = self.computed = 0
        self.seconds = 0.0  # spent on those computed
        self.damaged: list[str] = []
        self.turns, self.overlap = Turns(), worthwhile(device)
        self.counting = threading.Lock()
        self.last = time.monotonic()  # when the clip before was done

    def all(self, rows: list[Row]) -> dict[str, Outcome]:
        """The index of the clips. Raises StageBroken, and whatever is nobody's fault here."""
        name, index = self.stage.name, {}
        counts: Counter[str] = Counter()
        at_once = CLIPS if self.stage.overlaps and self.overlap else 1
        numbered = progress(enumerate(rows), len(rows), name)
        with closing(in_order(self.outcome, numbered, at_once, self.turns)) as outcomes:
            for (_, row), outcome in outcomes:
                index[row.clip] = outcome
                counts[outcome.status] += 1
                self.beat.tell(done=len(index), counts=dict(counts), computed=self.computed, seconds=self.seconds)
                if outcome.status != "ok":
                    say(f"{name} {row.clip}: {outcome.status}: {outcome.why}")
                if self.unforeseen > max(2, len(rows) / 2):
                    raise StageBroken(
                        f"{name}: {self.unforeseen} of {len(index)} clips failed in unforeseen ways, so "
                        f"the stage must be wrong; the last one: {outcome.why}"
                    )
        shown = ("ok", "failed", "skipped", *["waits"] * ("waits" in counts))
        say(f"{name}: {', '.join(f'{counts[status]} {status}' for status in shown)}, {self.computed} computed")
        return index

    def stores(self, row: Row) -> dict[str, Path]:
        """Where the parents of a clip are."""
        parents = self.stage.parents_of(row, self.config)
        return {name: self.config.results / of / f"{clip}.zarr" for name, (of, clip) in parents.items() if clip != ALL}

    def outcome(self, numbered: tuple[int, Row]) -> Outcome:
        """The clip's state after doing what is needed, recorded beside its result."""
        number, row = numbered
        self.beat.tell(now=row.clip, step="")
        try:
            return self._outcome(number, row)
        finally:
            self.turns.leave(number)

    def _outcome(self, number: int, row: Row) -> Outcome:
        path = self.stage.result(self.config.results, row.clip)
        record, doubt = path.with_name(f"{row.clip}{RECORDS[0]}"), marker(path)
        paths = self.stores(row)
        parents = {name: state(store.parent, store.stem) for name, store in paths.items()}
        for name, store in paths.items():
            if parents[name].status == "failed" and parents[name].key is None and (why := unreadable(store)):
                return self._broken(store, why)
        whole = {name: of for name, (of, clip) in self.stage.parents_of(row, self.config).items() if clip == ALL}
        parents |= {name: whole_state(self.config.results / of) for name, of in whole.items()}
        for name, parent in parents.items():
            if parent.status != "ok":
                why = parent.why if parent.status == "skipped" else f"{name}: {parent.why}"
                write_json(record, asdict(Outcome("skipped", None, why)))
                return Outcome("skipped", None, why)
        key = None
        try:
            key = self.keys.of(row, {name: parent.key for name, parent in parents.items()})
            if HOLDS[self.stage.form](path, key, doubt.exists()):
                record.unlink(missing_ok=True)
                doubt.unlink(missing_ok=True)
                return Outcome("ok", key)
            if why := self._needless(row):
                write_json(record, asdict(outcome := needless(key, why)))
                return outcome
            known = read_record(record)
            # records of evaluate of before, which tried everything again, say nothing of it
            if known is not None and known.get("key") == key and not known.get("retry", True):
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
        try:
            return self.stage.needless(row, parents, self._settings_of(row))
        except StoreError as error:
            if error.path is not None:
                raise
            raise ClipError(str(error), retry=True) from error  # an array that the store never had: nothing is damaged

    def _compute(self, number: int, row: Row, key: str) -> None:
        """Make the result. Raises ClipError for whatever is the clip's trouble, StoreError for a damaged parent."""
        stage, started = self.stage, time.monotonic()
        title = f"{stage.name} {row.clip}"
        if self.tools is None and stage.load is not None:
            self.turns.wait(number)  # one clip loads them for all
            self.tools = self.tools or stage.load(self.settings, self.device)
        try:
            parents = {name: Store(path) for name, path in self.stores(row).items()}
            own = self._settings_of(row)
            settings = {name: section.model_dump(mode="json") for name, section in vars(own).items()}
            attrs = {"stage": stage.name, "version": stage.version, "clip": row.clip, "settings": settings, "key": key}
            work = Work(title, self._heard, self.turns, number, self.overlap)
            with WRITERS[stage.form](stage.result(self.config.results, row.clip), attrs, self.overlap) as out:
                stage.process(Clip(row, parents, own, self.tools, self.device, self.backend, work), out)
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

    def _settings_of(self, row: Row) -> Any:
        """The stage's settings, with those that the row has of its own."""
        return self.stage.settings(self.config.told(row.settings)) if row.settings else self.settings

    def _heard(self, step: str) -> None:
        self.beat.tell(step=step)
