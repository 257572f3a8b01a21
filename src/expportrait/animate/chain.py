"""The stages, one after the other, for a few rows that no manifest holds."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from expportrait.engine.loop import run
from expportrait.engine.record import Outcome, read_record, state
from expportrait.engine.stage import RECORDS
from expportrait.errors import UserError
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import pair_name, pair_row
from expportrait.progress import Whole
from expportrait.settings.config import Config
from expportrait.settings.weights import check_given
from expportrait.stages import PIPELINE, with_code
from expportrait.store import Store

FITTED = ("crop", "landmarks", "geometry")
# s that a stage takes for one clip, and for each of its frames, on two cores: only how the bar moves depends on it
SECONDS = {
    "crop": (3, 0.06), "landmarks": (3, 0.12), "geometry": (3, 0.2), "proxy": (5, 1.0), "drive/targets": (8, 0),
    "drive": (3, 0.12), "appearance": (3, 0.15), "reenact": (3, 0.6), "film": (1, 0.08),
}  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """What it takes to run stages: ``config`` says where results lie; ``films``: stages of pairs, in order."""

    config: Config
    device: str
    backend: str
    films: tuple[str, ...]
    frames: int  # of the driver, about
    models: Mapping[str, str] = field(default_factory=dict)  # trained ones: stage -> key
    keys: dict[tuple[str, str], str | None] = field(default_factory=dict)  # of what was brought, by stage and clip

    def parts(self, portraits: int, drivers: int) -> dict[str, float]:
        """Name -> weight of the parts of the work (``progress.Whole``)."""

        def weight(stage: str, clips: int, frames: int) -> float:
            once, each = SECONDS[stage]
            return clips * (once + each * frames)

        fitted = {f"{stage} of the driver": weight(stage, drivers, self.frames) for stage in (*FITTED, "proxy")}
        shown = {f"{stage} of the portrait": weight(stage, portraits, 1) for stage in (*FITTED, "drive/targets")}
        made = {stage: weight(stage, portraits, self.frames) for stage in (*self.films, "film")}
        return shown | fitted | made

    def bring(self, stage: str, rows: list[Row]) -> dict[str, Outcome]:
        """Clip or pair -> what has become of it."""
        check_given(self.config, PIPELINE[stage].sections)
        if stage == "crop":
            self._forget(rows)
        index = run(with_code(stage), rows, self.config, self.device, self.backend)
        self.keys.update({(stage, clip): outcome.key for clip, outcome in index.items()})
        return index

    def done(self, stage: str, row: Row) -> bool:
        """Whether there is a result of the row, at these or other settings."""
        return state(PIPELINE[stage].home(self.config.results), row.clip).status == "ok"

    def _forget(self, rows: list[Row]) -> None:
        """Reasons that call a file by where it lay at an earlier call are found anew, since they name another one."""
        for row in rows:
            record = PIPELINE["crop"].result(self.config.results, row.clip).with_name(f"{row.clip}{RECORDS[0]}")
            if str(row.path) not in ((read_record(record) or {}).get("why") or str(row.path)):
                record.unlink(missing_ok=True)

    def portraits(self, rows: list[Row], whole: Whole) -> dict[str, str]:
        """Fit the heads of portraits, one frame each; returns clip -> why there is none, of those that failed."""
        failed: dict[str, str] = {}
        for stage in (*FITTED, "drive/targets"):
            with whole.part(f"{stage} of the portrait"):
                rows = [row for row in rows if row.clip not in failed]
                failed |= _failures(self.bring(stage, rows))
        return failed

    def drivers(self, rows: list[Row], whole: Whole) -> None:
        """Fit the heads of videos. Raises UserError where one of them cannot be used."""
        for stage in (*FITTED, "proxy"):
            with whole.part(f"{stage} of the driver"):
                for clip, why in _failures(self.bring(stage, rows)).items():
                    path = next(str(row.path) for row in rows if row.clip == clip)
                    raise UserError(why if path in why else f"{path}: {why}")

    def pairs(self, rows: list[Row], whole: Whole) -> dict[str, str]:
        """Make what the films are made of; returns pair -> why there is none, of those that failed."""
        failed: dict[str, str] = {}
        for stage in self.films:
            with whole.part(stage):
                rows = [row for row in rows if row.clip not in failed]
                failed |= _failures(self.bring(stage, rows))
        return failed

    def stores(self, pair: Row) -> dict[str, Store]:
        """The stores of a pair by stage, and those of ``crop`` of its ``target`` and its ``driver``.

        Raises UserError where one is not what was just made: another process has written there since.
        """
        places = {stage: (stage, pair.clip) for stage in self.films}
        places |= {name: ("crop", pair.extra[name]) for name in ("target", "driver")}
        found = {name: Store(PIPELINE[stage].result(self.config.results, clip))
                 for name, (stage, clip) in places.items()}  # fmt: skip
        for name, store in found.items():
            if store.attrs["key"] != self.keys[places[name]]:
                raise UserError(f"{store.path} was made anew with other settings by another process: wait for that one "
                                "and try again, or name another folder by --results")  # fmt: skip
        return found

    def pair(self, target: Row, driver: Row, others: Mapping[str, Row]) -> Row:
        """The pair's row. Its name has a hash of all that moves the head, so that what other gains gave stays too."""
        taken = {name: row.clip for name, row in others.items()}
        sections = self.config.canonical("control", "drive", "appearance")
        made = repr((sections, self.models.get("transfer"), sorted(taken.items())))
        name = f"{pair_name(target.clip, driver.clip)}__{hashlib.sha256(made.encode()).hexdigest()[:8]}"
        return pair_row(target, driver, name, taken)


def _failures(index: Mapping[str, Outcome]) -> dict[str, str]:
    return {clip: outcome.why for clip, outcome in index.items() if outcome.status != "ok"}
