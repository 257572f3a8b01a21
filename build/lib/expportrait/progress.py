"""Progress bars on a terminal; in a log, a line every ten seconds."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS = 10
OVERALL = "{desc}: {percentage:.0f} %, {elapsed} gone, {remaining} to go"
_silent = False
_whole: "Whole | None" = None


class _Lines:
    """Turns a redrawn bar into lines of a log."""

    last = ""

    def write(self, text: str) -> None:
        line = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).strip()
        if line and line != self.last:
            sys.stderr.write(line + "\n")
            self.last = line

    def flush(self) -> None:
        sys.stderr.flush()


class _Bar(tqdm):
    heard: Callable[[str], None] | None = None

    def refresh(self, *arguments: Any, **options: Any) -> None:
        super().refresh(*arguments, **options)
        if self.heard is not None:
            self.heard(f"{self.desc.removesuffix(': ')}: {self.n} of {self.total or '?'}")


class Whole:
    """One bar in place of many: ``with Whole("film", {"crop": 2, "fit": 50}, log) as whole``, and in it ``with
    whole.part("fit")`` around the work.

    The numbers say how long each part takes, in any unit. Inside, all other bars only move this one, and what is said
    goes to ``log``.
    """

    def __init__(self, title: str, parts: dict[str, float], log: TextIO):
        self._title, self._parts, self._log = title, parts, log
        self._weight = self._before = self._best = 0.0
        self._rows = (0, 1)

    def __enter__(self) -> Self:
        global _whole
        self._bar, _whole = bar(sum(self._parts.values()), self._title, form=OVERALL), self
        return self

    def __exit__(self, *_: object) -> None:
        global _whole
        _whole = None
        self._bar.close()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The block does that part of the work."""
        self._weight, self._best, self._rows = self._parts[name], 0.0, (0, 1)
        self._bar.set_description_str(f"{self._title}: {name}", refresh=False)
        self.moved(0, 1, False)
        yield
        self.moved(1, 1, True)
        self._before += self._weight

    def moved(self, done: int, total: int | None, of_rows: bool) -> None:
        """Another bar is at ``done`` of ``total``. ``of_rows``: it counts rows, and others what is done of one row."""
        if of_rows:
            self._rows, done, total = (done, total or 1), 0, 1
        share = (self._rows[0] + (done / total if total else 0)) / self._rows[1]
        self._best = max(self._best, min(1.0, share))  # several passes over a row begin anew
        self._bar.update(self._before + self._weight * self._best - self._bar.n)

    def said(self, text: str) -> None:
        """A line for the log."""
        self._log.write(f"{text}\n")
        self._log.flush()


class _Nowhere:
    """A stream that keeps nothing."""

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


class _Inner(tqdm):
    """A bar that is not drawn, but moves the one of the whole."""

    whole: Whole
    of_rows = False

    def refresh(self, *arguments: Any, **options: Any) -> None:
        self.whole.moved(self.n, self.total, self.of_rows)


def _inner(whole: Whole, total: int | None, desc: str, items: Iterable | None, of_rows: bool) -> tqdm:
    kind = type("_", (_Inner,), {"whole": whole, "of_rows": of_rows})
    return kind(items, desc, total, leave=False, file=_Nowhere(), mininterval=0.2, miniters=1)


def silence() -> None:
    """From now on this process, one of several at one piece of work, shows and says nothing."""
    global _silent
    _silent = True


def bar(
    total: int | None = None,
    desc: str = "",
    items: Iterable | None = None,
    heard: Callable[[str], None] | None = None,
    form: str = "",
) -> tqdm:
    """A tqdm bar on stderr. ``heard`` is told how far it is whenever the bar is drawn; ``form``: tqdm's ``bar_format``
    where it is another one than usual."""
    if _silent:
        return tqdm(items, desc, total, disable=True)
    if _whole is not None:
        return _inner(_whole, total, desc, items, heard is None)
    if sys.stderr.isatty():
        shown = form.replace("%,", "%|{bar}|")
        made = _Bar(items, desc, total, leave=False, dynamic_ncols=True, bar_format=shown or None)
    else:
        form = form or "{desc}: {n_fmt} of {total_fmt}, {elapsed} gone, {remaining} to go{postfix}"
        made = _Bar(items, desc, total, leave=False, file=_Lines(), bar_format=form, mininterval=SECONDS,
                    delay=SECONDS, miniters=1, position=0)  # fmt: skip
    made.heard = heard
    return made


def progress(
    items: Iterable[T], total: int | None = None, desc: str = "", heard: Callable[[str], None] | None = None
) -> Iterable[T]:
    """``items``, with their progress on stderr."""
    return bar(total, desc, items, heard)


def say(text: str) -> None:
    """A line on stderr, above the bars."""
    if _silent:
        return
    if _whole is not None:
        _whole.said(text)
        return
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()
