from pathlib import Path

import pytest

from expportrait.export.command import LAYOUTS, export
from expportrait.export.plan import Options
from expportrait.settings.config import Config
from tests.export.make import make_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A finished run's folder, not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    make_run(folder)
    return folder


def layout(name: str):
    from importlib import import_module

    module, class_, _ = LAYOUTS[name]
    return getattr(import_module(f"expportrait.export.{module}"), class_)()


def hand_over(folder: Path, name: str, out: Path, dry_run: bool = False, shards=None, **options) -> list[str]:
    config = Config(manifest=folder / "my.csv", results=folder / "results", shards=shards or {})
    return export(config, layout(name), out, Options(**options), dry_run)


def content(out: Path) -> dict[str, bytes]:
    """All files of an export but its memory."""
    files = [file for file in out.rglob("*") if file.is_file() and ".export" not in file.parts]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in sorted(files)}
