"""What the doctor finds: a line each, and why a line could not be found out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """``name``: what was looked at. ``says``: how it is, in one sentence or a few words. ``missing``: the settings ask
    for it, and it is not there or does not work."""

    part: str
    name: str
    says: str
    missing: bool = False


Said = str | tuple[str, bool]  # what it is; and whether that is missing
Looks = Iterable[tuple[str, Callable[[], Said]]]


def findings(part: str, looks: Looks) -> Iterator[Finding]:
    """One finding for each name and what finds it out. Whatever goes wrong in finding out is what the line says."""
    for name, look in looks:
        try:
            said = look()
        except Exception as error:
            said = f"cannot be found out: {reason(error)}"
        says, missing = said if isinstance(said, tuple) else (said, False)
        yield Finding(part, name, says, missing)


def reason(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def size(number: float) -> str:
    """Bytes in a unit that fits."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f} bytes"
