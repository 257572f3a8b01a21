"""Tables of comma-separated values, as users give them."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from expportrait.errors import UserError


@contextmanager
def opened(file: Path, what: str) -> Iterator[TextIO]:
    """The text of a table, for ``csv``. Raises UserError where it cannot be read, which calls it ``what`` it is, and
    where it is no such table."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield text
    except OSError as error:
        raise UserError(f"the {what} {file} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a table of comma-separated values in UTF-8: {error}") from None
