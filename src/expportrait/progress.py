"""Progress bars on a terminal; in a log, a line every ten seconds."""

import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS = 10
_silent = False


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


def silence() -> None:
    """From now on this process, one of several at one piece of work, shows and says nothing."""
    global _silent
    _silent = True


def bar(
    total: int | None = None,
    desc: str = "",
    items: Iterable | None = None,
    heard: Callable[[str], None] | None = None,
) -> tqdm:
    """A tqdm bar on stderr. ``heard`` is told how far it is whenever the bar is drawn."""
    if _silent:
        return tqdm(items, desc, total, disable=True)
    if sys.stderr.isatty():
        made = _Bar(items, desc, total, leave=False, dynamic_ncols=True)
    else:
        form = "{desc}: {n_fmt} of {total_fmt}, {elapsed} gone, {remaining} to go{postfix}"
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
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()
