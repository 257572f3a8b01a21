"""The evaluation's table: means beside the published rows, why numbers are missing, and each pair's figures."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

from expportrait.engine.record import NOT_NEEDED, Outcome, counted
from expportrait.metrics import published
from expportrait.metrics.listing import BY_PAIR, pair_lines
from expportrait.metrics.pair import COPY, FLOOR, RUN
from expportrait.metrics.table import (
    COLUMNS,
    MODES,
    OWN,
    SHOWN,
    backends,
    between,
    number,
    of_some,
    reasons,
    summary,
    title,
)
from expportrait.report.run import Run

STAGE = "evaluate"
NOTES = (OWN.removesuffix(" –: no number, see the reasons below."), published.PROTOCOL, published.WARNING)


@dataclass
class Evaluation:
    """What the template shows. A line: method, and one cell a column: number, its interval, and of how many pairs
    where of some."""

    columns: list[tuple[str, list[str]]] = field(default_factory=list)  # mode, titles of its metrics
    measured: list[tuple[str, list[tuple[str, str, str]]]] = field(default_factory=list)
    published: list[tuple[str, list[tuple[str, str, str]]]] = field(default_factory=list)
    pairs: dict[str, int] = field(default_factory=dict)  # mode -> how many
    reasons: list[tuple[str, int, str]] = field(default_factory=list)
    backends: list[tuple[str, str]] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)  # of table.json
    of: dict[str, dict[str, dict]] = field(default_factory=dict)  # pair -> method -> row
    trouble: str = ""  # why the table cannot be read

    def outcomes(self, pairs: Run) -> Run:
        """``pairs`` with what became of each in this stage."""
        outcomes = {
            pair: before | {STAGE: self._outcome(self.of.get(pair, {}).get(RUN), before)}
            for pair, before in pairs.outcomes.items()
        }
        return replace(pairs, stages=(*pairs.stages, STAGE), outcomes=outcomes)

    def _outcome(self, row: dict | None, before: dict[str, Outcome]) -> Outcome:
        if row is None:
            return Outcome("failed", None, self.trouble) if self.trouble else Outcome("missing", None, "not run yet")
        if row["frames"] is not None:
            return Outcome("ok")
        why = next(iter(row["reasons"].values()), "")
        parents = all(outcome.status == "ok" for outcome in before.values())
        if counted("skipped", why) == NOT_NEEDED:
            return Outcome("skipped", None, why)
        return Outcome("failed" if parents else "skipped", None, why)

    def figures(self, pair: str) -> tuple[list[tuple[str, str, str, str]], list[tuple[str, str]]]:
        """Of one pair: metric, number, that of the portrait held still, the noise floor; and facts about the
        measurement."""
        made, still, floor = (self.of.get(pair, {}).get(method) for method in (RUN, COPY, FLOOR))
        if made is None or made["frames"] is None:
            return [], []
        tiles = [
            (title(name), number(name, made[name]), *(number(name, of[name]) if of else "–" for of in (still, floor)))
            for name in SHOWN[made["mode"]]
            if made[name] is not None or (still and still[name] is not None)
        ]
        facts = [("mode", made["mode"]), ("measured", f"{made['frames']} frames at {made['size']} px")]
        if any(made["no_face"].values()):
            facts.append(("without a face", "{result} of them in the result, {driver} in the driver".format(
                **made["no_face"])))  # fmt: skip
        if made["trained_on"] is not None:
            facts.append(("in the training", " and ".join(dict.fromkeys(made["trained_on"])) or "neither clip"))
        return tiles, facts

    def starts(self) -> list[int]:
        """Columns that begin a mode."""
        return [0, *accumulate(len(names) for _, names in self.columns)]

    def csv(self) -> Iterable[Sequence]:
        """A head, and every row's numbers."""
        return [BY_PAIR, *pair_lines(self.rows)]


def read_evaluation(results: Path) -> Evaluation:
    """Without numbers where the stage has not run; with ``trouble`` where its table cannot be read."""
    file = results / STAGE / "table.json"
    try:
        return _evaluation(json.loads(file.read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return Evaluation()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{STAGE}/table.json cannot be read ({type(error).__name__}: {error}); run the stage again"
        return Evaluation(trouble=why)


def _evaluation(found: dict | list[dict]) -> Evaluation:
    """``found``: what table.json holds, a list of rows before version 4 of the stage."""
    if isinstance(found, list):
        found = {"rows": [{"gaze": None} | row for row in found]}
    rows = found["rows"]
    if not isinstance(rows, list):
        raise TypeError("it has no list of rows")
    table = Evaluation(rows=rows, reasons=reasons(rows), backends=backends(rows))
    table.columns = [(mode, [title(name) for name in SHOWN[mode]]) for mode in MODES]
    table.pairs = {mode: len({row["pair"] for row in rows if row["mode"] == mode}) for mode in MODES}
    for line in found.get("means") or summary(rows):
        exact = line["source"] == "published"
        if rows and not exact and not any(line["of"].values()):
            continue
        cells = []
        for mode, name in COLUMNS:
            value = number(name, line[mode].get(name), exact)
            cells.append((value, between(line, mode, name), of_some(line, mode, name)))
        (table.published if exact else table.measured).append((line["method"], cells))
    for row in rows:
        table.of.setdefault(row["pair"], {})[row["method"]] = row
    for pair in table.of:  # what cannot be read has to show here, not while the page is written
        table.figures(pair)
    list(table.csv())
    return table
